"""What waits to be sent on one link, and in which order.

A sign of life goes before all else, and only the newest one counts. Frames and results keep the order
in which they were posted; of a result only its id waits here, the rest is on disk. Lines of the log
come last.

Bounds: over `MOST` entries or `MOST_BYTES` the hub does not read, and its link is to be cut: nothing
durable is lost by that. Over `MOST_LINES` lines of the log, the rest is dropped, and counted.
"""

from collections import deque
from typing import Final

import trio
from msgspec import Struct

MOST: Final = 10_000
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_LINES: Final = 200


class KeptResult(Struct, frozen=True):
    """Stands for a result that is kept."""

    task_id: str


class Outbox:
    """The frames of one link.

    Attributes:
        dropped_lines: Lines of the log that nobody will see at the hub.
    """

    def __init__(self) -> None:
        self.dropped_lines = 0
        self._beat: bytes | None = None
        self._queue: deque[bytes | KeptResult] = deque()
        self._bytes = 0
        self._lines: deque[bytes] = deque()
        self._news = trio.Event()

    @property
    def is_over(self) -> bool:
        """Whether the hub is too slow."""
        return len(self._queue) > MOST or self._bytes > MOST_BYTES

    def post_beat(self, frame: bytes) -> None:
        """Send a sign of life next, in place of one that still waits."""
        self._beat = frame
        self._news.set()

    def post(self, entry: bytes | KeptResult) -> None:
        """Send a frame, or a kept result, in its turn."""
        self._queue.append(entry)
        self._bytes += len(entry) if isinstance(entry, bytes) else 0
        self._news.set()

    def post_line(self, frame: bytes) -> None:
        """Send a line of the log when there is nothing else to send."""
        if len(self._lines) >= MOST_LINES:
            self.dropped_lines += 1
            return
        self._lines.append(frame)
        self._news.set()

    async def next(self) -> bytes | KeptResult:
        """Wait for what is to be sent next, and take it out."""
        while (entry := self._take()) is None:
            self._news = trio.Event()
            await self._news.wait()
        return entry

    def _take(self) -> bytes | KeptResult | None:
        if self._beat is not None:
            beat, self._beat = self._beat, None
            return beat
        if self._queue:
            entry = self._queue.popleft()
            self._bytes -= len(entry) if isinstance(entry, bytes) else 0
            return entry
        return self._lines.popleft() if self._lines else None
