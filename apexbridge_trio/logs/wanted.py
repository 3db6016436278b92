"""What of the log somebody wants to read."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.ids import is_sane
from apexbridge_trio.logs.line import RANKS, Line

_OTHER_NAMES: Final = {"warn": "warning"}


class Wanted(Struct, frozen=True):
    """``?level=&request=&node=``.

    Attributes:
        rank: The lowest level.
        request_id: Only what is part of it.
        node_id: Only what is of it.
    """

    rank: int = 0
    request_id: str | None = None
    node_id: str | None = None

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> "Wanted":
        """Read it.

        Raises:
            BadRequest: There is no such level, or an id is none.
        """
        level = asked.get("level", "debug").lower()
        rank = RANKS.get(_OTHER_NAMES.get(level, level))
        if rank is None:
            named = "debug, info, warning or error"
            raise BadRequest(f"level is {named}, not {level[:50]!r}.", param="level")
        return cls(rank, _id_of(asked, "request"), _id_of(asked, "node"))

    def takes(self, line: Line) -> bool:
        """Tell whether a line is among it."""
        return (
            RANKS.get(line.level, 1) >= self.rank
            and (self.request_id is None or line.request_id == self.request_id)
            and (self.node_id is None or line.node_id == self.node_id)
        )


def _id_of(asked: Mapping[str, str], name: str) -> str | None:
    value = asked.get(name) or None
    if value is not None and not is_sane(value):
        raise BadRequest(f"{name} is an id of at most 200 characters.", param=name)
    return value
