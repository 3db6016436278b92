"""How much of something may be taken in a time: rates, allowances. Time is an argument, in seconds."""

from typing import Final

DAY_S: Final = 86_400.0


class Rate:
    """So many a minute, a minute's worth of them at once (the generic cell rate algorithm).

    Args:
        per_minute: How many.
    """

    def __init__(self, per_minute: int) -> None:
        self._step_s = 60.0 / per_minute
        self._burst_s = 60.0 - self._step_s
        self._free_at = 0.0

    def take(self, now: float) -> float:
        """Take one; returns 0, or, with nothing taken, the seconds until one may be taken."""
        start = max(self._free_at, now)
        wait = start - now - self._burst_s
        if wait > 1e-9:  # of a sum of steps, what rounding leaves
            return wait
        self._free_at = start + self._step_s
        return 0.0


class Allowance:
    """So much a day, counted when it was used; a day is 24 hours from the first use.

    Args:
        per_day: How much. What was begun below it may go over it.
    """

    def __init__(self, per_day: int) -> None:
        self._per_day = per_day
        self._used = 0
        self._until = 0.0

    def is_left(self, now: float) -> bool:
        """Tell whether there is any left."""
        return now >= self._until or self._used < self._per_day

    def use(self, amount: int, now: float) -> None:
        """Count what was used."""
        if now >= self._until:
            self._used, self._until = 0, now + DAY_S
        self._used += amount
