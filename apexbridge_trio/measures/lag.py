"""How late the loop is: the time between when a task wanted to run and when it did."""

from collections import deque
from typing import Final

import trio

from apexbridge_trio.histogram import SHORT_S, Histogram

# Often enough to meet a loop that is held for a second, seldom enough to cost nothing.
EVERY_S: Final = 0.5
# A scrape comes each 15 to 60 s: the worst of a minute is seen by at least one of them.
KEPT: Final = int(60 / EVERY_S)


class Lag:
    """The loop's lateness.

    Attributes:
        histogram: Of all of it, seconds.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(SHORT_S)
        self._recent: deque[float] = deque(maxlen=KEPT)

    @property
    def worst_s(self) -> float:
        """The most of the last minute, seconds."""
        return max(self._recent, default=0.0)

    def note(self, late_s: float) -> None:
        """Count one look."""
        self.histogram.add(late_s)
        self._recent.append(late_s)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = trio.current_time() + EVERY_S
            await trio.sleep_until(due)
            self.note(max(0.0, trio.current_time() - due))
