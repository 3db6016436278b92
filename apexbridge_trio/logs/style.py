"""How a line is told: the frames of the log channel, in each of their forms."""

from typing import Any, Final, Literal

from msgspec import Struct

from apexbridge_trio.log import trace_of, worded
from apexbridge_trio.logs.line import Line
from apexbridge_trio.protocol.openai import encode

# What a frame has a field of its own for, or says by what it is.
_NAMED: Final = frozenset({"timestamp", "level", "event", "room", "request_id", "node", "exception"})
_NAMED_OF_TOOL: Final = _NAMED | {"tool", "status"}


class Style(Struct, frozen=True):
    """One form; readers of the same form share what is written.

    Attributes:
        kind: The frames' type: ``vcp_log`` on the deprecated path.
        is_whole: For an administrator: a trace is told whole, and positions count all lines of the hub.
            Others are told a trace's last line: the rest names the paths of the machine.
        epoch: Of the positions, over server-sent events; empty: as frames of a WebSocket.
    """

    kind: Literal["abp_log", "vcp_log"] = "abp_log"
    is_whole: bool = False
    epoch: str = ""

    def position(self, line: Line) -> int:
        """Return a line's number, as this reader counts."""
        return line.seq if self.is_whole else line.number

    def write(self, line: Line) -> bytes:
        """Write a line."""
        frame = encode({"type": self.kind, "data": self._described(line)})
        if not self.epoch:
            return frame
        return b"id: %s:%d\n%s" % (self.epoch.encode(), self.position(line), self._as_event(self.kind, frame))

    def gap(self, dropped: int) -> bytes:
        """Say that lines are missing here."""
        frame = encode({"type": "log_gap", "data": {"dropped": dropped}})
        return self._as_event("log_gap", frame) if self.epoch else frame

    def _as_event(self, kind: str, frame: bytes) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), frame)

    def _described(self, line: Line) -> dict[str, Any]:
        entry = line.entry
        is_tool = "tool" in entry and "status" in entry
        said = worded(entry, without=_NAMED_OF_TOOL if is_tool else _NAMED)
        if trace := trace_of(entry):
            said = "\n".join([said, *(trace if self.is_whole else [_last_words(trace)])])
        data: dict[str, Any] = {"log_type": "tool_log" if is_tool else "log", "level": _text(line.level)}
        if is_tool:
            data |= {"tool_name": _text(entry["tool"]), "status": _text(entry["status"])}
        data |= {"content": said, "source": _text(entry.get("room", ""))}
        if line.request_id is not None:
            data["requestId"] = _text(line.request_id)
        if line.node_id is not None:
            data["nodeId"] = _text(line.node_id)
        return data | {"timestamp": _text(entry.get("timestamp", ""))}


def _text(value: object) -> str:
    """Return a text that can be sent, whatever stands there: half a surrogate pair is spelt out."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _last_words(trace: list[str]) -> str:
    """Return what a trace ends with; that of a group is framed by lines without a word."""
    return next((row for row in reversed(trace) if any(map(str.isalnum, row))), "")
