"""One thing that can be asked of the hub over HTTP, as the document tells it."""

import re
from typing import Any, Final

from msgspec import Struct, field

_PLACE: Final = re.compile(r"{(\w+)}")

# Ids of peers, and of ours; `ids.is_sane` says the same.
ID_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,200}$"}


class Query(Struct, frozen=True):
    """A value in the query, or a header; all of them may be left out."""

    name: str
    about: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


def how_many(most: int) -> Query:
    """Return the bound of a page."""
    return Query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": most})


class Operation(Struct, frozen=True):
    """A method of a path.

    Attributes:
        path: With its ids in braces.
        replies: By status, what its JSON is; None: it is text only.
        body: What the request's body is decoded as; None: it has none.
        text: The media type of a 200 that is text, if it may be.
        only_admin: It changes what belongs to everybody.
    """

    method: str
    path: str
    about: str
    replies: dict[int, Any]
    body: Any = None
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    text: str = ""
    only_admin: bool = False

    @property
    def places(self) -> list[str]:
        """The names of the ids in its path."""
        return _PLACE.findall(self.path)

    @property
    def id(self) -> str:
        """Its own name in the document, such as ``get_v1_nodes_node_id``."""
        words = re.sub(r"\W+", "_", self.path).strip("_")
        return f"{self.method.lower()}_{words}"

    @property
    def shapes(self) -> list[Any]:
        """The types of the JSON that it reads and writes."""
        return [shape for shape in (self.body, *self.replies.values()) if shape is not None]
