"""One reader of the log: what it may see, and what waits for it."""

from collections import deque
from typing import Final

import trio

from apexbridge_trio.identity import Principal
from apexbridge_trio.logs.line import Line
from apexbridge_trio.logs.style import Style
from apexbridge_trio.logs.wanted import Wanted

# What waits for a reader. When either is reached, the oldest goes, and the reader is told how many
# lines it has missed: only it is hurt. It is what a ring keeps, so that a whole resume fits.
MOST_UNREAD: Final = 1000
MOST_UNREAD_BYTES: Final = 2 * 1024 * 1024
# What is sent at a time.
MOST_AT_ONCE: Final = 64
MOST_BYTES_AT_ONCE: Final = 64 * 1024


class Reader:
    """Takes lines as they come, without waiting, and gives them out as fast as they are read.

    Args:
        who: Decides what is seen.
        wanted: What of it is wanted.
        style: How it is told.

    Attributes:
        is_over: Nothing more comes.
        missed: How many lines it was not told, in all.
    """

    def __init__(self, who: Principal, wanted: Wanted, style: Style) -> None:
        self._who = who
        self._wanted = wanted
        self.style = style
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._dropped = 0
        self._news = trio.Event()
        self.is_over = False
        self.missed = 0

    @property
    def unread_bytes(self) -> int:
        """What waits for it."""
        return self._unread_bytes

    def may_see(self, line: Line) -> bool:
        """Tell whether a line is this reader's business; of the hub's own, only an administrator's."""
        if line.origin is None:
            return self.style.is_whole
        return self._who.may_see(line.origin.owner)

    def sees(self, line: Line) -> bool:
        """Tell whether a line is to be told."""
        return self._wanted.takes(line) and self.may_see(line)

    def is_of(self, tenant_id: str | None) -> bool:
        """Tell whether lines of a tenant can be its business."""
        return self.style.is_whole or tenant_id == self._who.tenant_id

    def post(self, frame: bytes) -> None:
        """Take a line; if too much waits, the oldest is dropped."""
        self._unread.append(frame)
        self._unread_bytes += len(frame)
        while len(self._unread) > MOST_UNREAD or self._unread_bytes > MOST_UNREAD_BYTES:
            self._unread_bytes -= len(self._unread.popleft())
            self.drop(1)
        self._news.set()

    def drop(self, lines: int) -> None:
        """Note that lines it may have seen are not told."""
        self._dropped += lines
        self.missed += lines
        self._news.set()

    def end(self) -> None:
        """Take nothing more; what is there is still given out."""
        self.is_over = True
        self._news.set()

    async def take(self) -> list[bytes]:
        """Wait for frames, and return some of them, in order; none: it is over.

        What was dropped is older than all that is left, so the gap comes first.
        """
        await self._news.wait()
        taken = [self.style.gap(self._dropped)] if self._dropped else []
        self._dropped, size = 0, 0
        while self._unread and len(taken) < MOST_AT_ONCE and size < MOST_BYTES_AT_ONCE:
            taken.append(self._unread.popleft())
            size += len(taken[-1])
            self._unread_bytes -= len(taken[-1])
        if not self._unread and not self.is_over:
            self._news = trio.Event()
        return taken
