"""What a plugin answers, as JSON, and as much of it as a model is given."""

from typing import Any

import msgspec
from msgspec import Struct


class Output(Struct, frozen=True):
    """One result.

    Args:
        json: The document, or its beginning if it is longer than somebody was willing to keep.
        size: Bytes of the whole document.
    """

    json: bytes
    size: int

    def within(self, limit: int) -> Any:
        """Return the value, or a note and the beginning of a document over `limit` bytes."""
        if self.size <= limit:
            return msgspec.json.decode(self.json)
        return {
            "cut": f"The result has {self.size} bytes, the limit is {limit}: this is its beginning.",
            "beginning": self.json[:limit].decode("utf-8", "ignore"),
        }
