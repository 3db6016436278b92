"""The last lines of one tenant, or of the hub itself."""

from collections import deque
from typing import Final

from apexbridge_trio.logs.line import LINE_BYTES, Line

# When either is reached, the oldest lines go. Who is hurt: who comes later has fewer of them; the
# journal has all. Each tenant has its own, so that none pushes another's lines out.
MOST_LINES: Final = 1000
MOST_BYTES: Final = 1024 * 1024


class Ring:
    """Lines by number; no reader and no clock.

    Attributes:
        number: Of the last line.
        bytes: What they take, about.
    """

    def __init__(self, most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES) -> None:
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self.lines: deque[Line] = deque()
        self.number = 0
        self.bytes = 0

    def add(self, line: Line) -> None:
        """Keep a line, and number it."""
        self.number += 1
        line.number = self.number
        self.lines.append(line)
        self.bytes += line.size + LINE_BYTES
        while self.bytes > self._most_bytes or len(self.lines) > self._most_lines:
            self.bytes -= self.lines.popleft().size + LINE_BYTES
