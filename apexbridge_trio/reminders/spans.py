"""Reminders that are due in so long: "in ten minutes" stays ten minutes where the clock is set meanwhile."""

from collections.abc import Callable
from typing import Final

from apexbridge_trio.clock import WallClock
from apexbridge_trio.store import ReminderRecord

# By so much a clock is set, and not drawn.
SET_S: Final = 1.0
# Who is hurt when there are more: the oldest, which comes by the clock on the wall.
MOST_SPANS: Final = 10_000

Shift = Callable[[list[str], int, Callable[[Exception], None]], None]


class Spans:
    """Which reminders are due in so long, of those that this hub was told.

    Those of a hub before are none of them: what its clock showed is not known, and so they come by the
    clock on the wall.

    Args:
        clock: Knows by how much it was set; None: that is not asked.
        shift: Has reminders due later by milliseconds, on disk; called back with why not.
    """

    def __init__(self, clock: WallClock | None, shift: Shift) -> None:
        self._clock = clock
        self._shift = shift
        self._seen_s = clock.set_by_s if clock is not None else 0.0
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, record: ReminderRecord) -> None:
        """Note a reminder that is about to be written, if it is one, reckoned by the clock as it is."""
        self.follow()
        if record.at_ms is None and record.cron is None:
            self._ids[record.id] = None
            if len(self._ids) > MOST_SPANS:
                del self._ids[next(iter(self._ids))]

    def drop(self, reminder_id: str) -> None:
        """Forget one that has fired, was removed or was not set."""
        self._ids.pop(reminder_id, None)

    def follow(self) -> None:
        """Look whether the clock was set, and have all of them due later by as much."""
        if self._clock is None:
            return
        moved_s = self._clock.set_by_s - self._seen_s
        if abs(moved_s) <= SET_S:
            return

        def again(_fault: Exception) -> None:  # the disk refused: the next look does it
            self._seen_s -= moved_s

        self._seen_s += moved_s
        self._shift(list(self._ids), round(moved_s * 1000), again)
