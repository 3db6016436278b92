"""What nodes say of themselves (`log` frames), as lines of the hub's own log."""

from collections.abc import Iterable
from typing import Any, Final

import trio

from apexbridge_trio.limits import Rate
from apexbridge_trio.log import Level, get_logger, plain
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.origin import doing
from apexbridge_trio.protocol.frames import NodeLog
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.redaction import redact

# Lines of one node that are taken a minute; a node that says more is not heard, and that is said.
LOG_LINES: Final = 600
MOST_CHARS: Final = 2000
# A line of so many characters is as much work again as any message is, and weighs so.
CHARS_A_MESSAGE: Final = 400
# Of the fields of a line; a node's own agent sends some five, of some 50 characters.
MOST_FIELDS: Final = 20
MOST_FIELD_CHARS: Final = 300

_LEVELS: Final[dict[str, Level]] = {
    "debug": "debug",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "fatal": "error",
    "critical": "error",
}

log = get_logger("nodes")


class NodeLines:
    """Takes the lines of all nodes, so many of each."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._unheard: dict[str, int] = {}

    def take(self, link: NodeLink, line: NodeLog) -> None:
        """Write a line, with the node's id; if there are too many, the node is read more slowly."""
        assert link.node is not None
        node_id = link.node.id
        if self._rate(node_id).take(trio.current_time()):
            self._unheard[node_id] = self._unheard.get(node_id, 0) + 1
            link.unwanted()
            return
        said, fields = _cut(line.message, MOST_CHARS), _bounded(line.fields)
        link.socket.slow(1 + (len(said) + _chars(fields)) // CHARS_A_MESSAGE)
        tell = getattr(log, _LEVELS.get(line.level.lower(), "info"))
        tell("node says", node=node_id, said=said, **({"fields": fields} if fields else {}))

    def _rate(self, node_id: str) -> Rate:
        if node_id not in self._rates:
            self._rates[node_id] = Rate(LOG_LINES)
        return self._rates[node_id]

    def sweep(self, nodes: Iterable[Node]) -> None:
        """Say of which nodes lines were left out since the last time, and forget those not known any more."""
        known = {node.id: node for node in nodes}
        self._rates = {node_id: rate for node_id, rate in self._rates.items() if node_id in known}
        unheard, self._unheard = self._unheard, {}
        for node_id, lines in unheard.items():
            if node_id in known:
                with doing(known[node_id].owner):
                    log.warning(
                        "lines of a node's log were left out: there are too many", node=node_id, lines=lines
                    )


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    """Return some of a line's fields, short; a name that stands for a secret is masked by the sink."""
    names = list(fields)[:MOST_FIELDS]
    return {_cut(name, MOST_FIELD_CHARS): _short(fields[name]) for name in names}


def _chars(fields: dict[str, Any]) -> int:
    return sum(len(name) + (len(value) if isinstance(value, str) else 0) for name, value in fields.items())


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return _cut(value, MOST_FIELD_CHARS)
    # Each text in it is masked by itself: of one frame's 128 KiB that would be a tenth of a second.
    if (size := len(encode(value))) > 2 * MOST_FIELD_CHARS:
        return f"{size} bytes, left out"
    # Masked as long as it has names: of a text the sink knows none.
    return _cut(encode(plain(value)).decode(), MOST_FIELD_CHARS)


def _cut(text: str, most: int) -> str:
    # What is cut is redacted before, as half a secret is not recognised; and not all of a text without end.
    return text if len(text) <= most else redact(text[: 2 * most])[:most]
