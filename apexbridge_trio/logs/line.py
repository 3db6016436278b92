"""One line of the log as it is kept for who may see it."""

from collections.abc import Mapping
from json import JSONEncoder
from typing import Any, Final

from msgspec import Struct

from apexbridge_trio.origin import Origin

# Of one line, in characters; a longer one is cut, and its readers have what fits.
MOST_CHARS: Final = 8192
# What a line takes beside its texts.
LINE_BYTES: Final = 600

RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 3}

_SCALARS: Final = frozenset({int, float, bool, type(None)})
_to_json = JSONEncoder(ensure_ascii=False).encode


class Line(Struct):
    """A line.

    Attributes:
        entry: As the sink had it: plain values, redacted; nobody changes it.
        origin: Whose work had it written; None: the hub's own, which is administrators' business.
        size: Of its texts, in characters.
        seq: Its number among all lines of the hub, from 1.
        number: Its number among those of its tenant, from 1.
    """

    entry: Mapping[str, Any]
    origin: Origin | None
    size: int
    seq: int = 0
    number: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any], origin: Origin | None) -> "Line":
        """Take an entry, cut to what is kept of one; it costs about a microsecond."""
        size = 0
        for value in entry.values():
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind not in _SCALARS:
                size += len(_to_json(value))
        return cls(entry, origin, size) if size <= MOST_CHARS else cls._cut(entry, origin)

    @classmethod
    def _cut(cls, entry: Mapping[str, Any], origin: Origin | None) -> "Line":
        left, kept = MOST_CHARS, {}
        for name, value in entry.items():
            if type(value) in _SCALARS:
                kept[name] = value
                continue
            text = value if isinstance(value, str) else _to_json(value)
            if len(text) > left:  # a trace says at its end what has happened
                text = text[len(text) - left :] if name == "exception" else f"{text[:left]}…"
            kept[name] = text
            left -= min(len(text), left)
        return cls(kept, origin, MOST_CHARS - left)

    @property
    def tenant_id(self) -> str | None:
        """Whose it is; None: the hub's own."""
        return self.origin.owner.tenant_id if self.origin is not None else None

    @property
    def level(self) -> str:
        """The level's name."""
        return str(self.entry.get("level", "info"))

    @property
    def request_id(self) -> str | None:
        """What it is part of: the flight's own name for it comes before the connection's."""
        inside = self.origin.request_id if self.origin is not None else None
        return inside or self.entry.get("request_id")

    @property
    def node_id(self) -> str | None:
        """The node it is of."""
        return self.entry.get("node")
