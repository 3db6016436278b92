"""What one tenant was told lately."""

from collections import OrderedDict
from heapq import merge
from itertools import takewhile
from typing import Final

from msgspec import Struct

from apexbridge_trio.events.event import Event

# What an event takes beside its text.
EVENT_BYTES: Final = 300


class Bounds(Struct, frozen=True):
    """How much is kept of a tenant; when it is full, the oldest goes.

    Who is hurt: a client that was away for longer than that. It is told "not recovered", and loads anew.

    Both sizes together are what a WebSocket of a client may leave unread (two messages of 1 MiB), so that
    one resume never overflows it.

    Args:
        events: Without the pieces of chats.
        bytes: Of those.
        chat_bytes: Of the pieces of chats that are being answered.
    """

    events: int = 1000
    bytes: int = 1024 * 1024
    chat_bytes: int = 960 * 1024


class History:
    """The events of one tenant, by number; no reader and no clock.

    Attributes:
        bounds: How much is kept; other ones count from the next event on.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._kept: OrderedDict[int, Event] = OrderedDict()
        self._kept_bytes = 0
        self._pieces: OrderedDict[int, Event] = OrderedDict()
        self._pieces_bytes = 0
        self._chats: dict[str, list[int]] = {}
        self._torn: set[str] = set()
        self.seq = 0
        # The number of the last event that was pushed out: who has not got it has lost it.
        self._lost = 0

    @property
    def chats(self) -> int:
        """Chats of which pieces are kept."""
        return len(self._chats)

    def add(self, event: Event) -> None:
        """Keep an event; a piece of a chat until that chat's end."""
        self.seq = event.seq
        if event.chat is not None:
            self._chats.setdefault(event.chat, []).append(event.seq)
            self._pieces[event.seq] = event
            self._pieces_bytes += _size(event)
            while self._pieces_bytes > self.bounds.chat_bytes:
                self._push_out_piece()
            return
        self._kept[event.seq] = event
        self._kept_bytes += _size(event)
        while self._kept_bytes > self.bounds.bytes or len(self._kept) > self.bounds.events:
            seq, old = self._kept.popitem(last=False)
            self._kept_bytes -= _size(old)
            self._lost = max(self._lost, seq)

    def end_chat(self, chat: str) -> None:
        """Forget the pieces of a chat; its end, which has the whole text, is what follows."""
        for seq in self._chats.pop(chat, ()):
            if (piece := self._pieces.pop(seq, None)) is not None:
                self._pieces_bytes -= _size(piece)
        self._torn.discard(chat)

    def after(self, seq: int) -> list[Event] | None:
        """Return what came after a number, oldest first; None if something of it is gone, or to come."""
        if not self._lost <= seq <= self.seq:
            return None
        parts = (takewhile(lambda event: event.seq > seq, reversed(part.values())) for part in self._parts)
        return list(merge(*(reversed(list(part)) for part in parts), key=lambda event: event.seq))

    def kept(self) -> list[Event]:
        """Return all that is kept, oldest first."""
        return list(merge(*(part.values() for part in self._parts), key=lambda event: event.seq))

    def running(self) -> list[Event]:
        """Return the pieces so far of the chats that are being answered, but not of torn ones."""
        return [event for event in self._pieces.values() if event.chat not in self._torn]

    @property
    def _parts(self) -> tuple[OrderedDict[int, Event], OrderedDict[int, Event]]:
        return self._kept, self._pieces

    def _push_out_piece(self) -> None:
        seq, piece = self._pieces.popitem(last=False)
        self._pieces_bytes -= _size(piece)
        self._lost = max(self._lost, seq)
        assert piece.chat is not None
        self._torn.add(piece.chat)


def _size(event: Event) -> int:
    return len(event.frame) + EVENT_BYTES
