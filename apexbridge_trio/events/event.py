"""One event, as it is kept and sent."""

from typing import Final, Literal, get_args

from msgspec import Struct

Kind = Literal[
    "chat.started",
    "chat.chunk",
    "chat.completed",
    "chat.failed",
    "notification",
    "notification.acked",
    "alert",
    "node.status",
    "task.status",
    "plugin.failed",
    "reminder",
    "config.changed",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


# The position, epoch and number, of who was not shown yet all that it came for: nothing can be resumed there.
NOWHERE: Final = ("", 0)


class Event(Struct, frozen=True):
    """Something that has happened.

    Attributes:
        seq: Its number within the tenant.
        family_id: Whose it is within the tenant; None: the tenant's own.
        chat: The request it is a piece of, if it only counts while that lives.
        frame: As it goes over a WebSocket, written once for all who see it.
    """

    seq: int
    epoch: str
    kind: Kind
    family_id: str | None
    chat: str | None
    frame: bytes

    def as_sse(self) -> bytes:
        """Write it as a server-sent event: the frame, with the position as its id."""
        return sse(self.epoch, self.seq, self.kind, self.frame)


def write_frame(kind: str, seq: int, epoch: str, data: bytes, now_ms: int) -> bytes:
    """Write a frame of the client channel; `data` is JSON."""
    head = f'{{"type":"{kind}","seq":{seq},"epoch":"{epoch}","data":'.encode()
    return b'%s%s,"timestamp":%d}' % (head, data, now_ms)


def sse(epoch: str, seq: int, kind: str, frame: bytes) -> bytes:
    """Write a server-sent event with a position."""
    return b"id: %s:%d\nevent: %s\ndata: %s\n\n" % (epoch.encode(), seq, kind.encode(), frame)
