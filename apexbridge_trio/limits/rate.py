"""Rates and allowances: so much a minute, so much a day."""

from typing import Final, NamedTuple

DAY_S: Final = 86_400.0
# Of a sum of steps what rounding leaves, with a clock that has run for years (three: 7 ns for each of
# 10,000 steps): seconds, and parts of a step, whichever is less.
_ROUNDING: Final = 1e-4
_ROUNDING_PARTS: Final = 1e-2


class Standing(NamedTuple):
    """How somebody stands with a rate, after they have asked for one.

    Attributes:
        limit: So many a minute.
        remaining: So many may be taken at once, now.
        full_at: When all of them may be taken again.
        wait_s: 0: one was taken; else until one may be taken.
    """

    limit: int
    remaining: int
    full_at: float
    wait_s: float


class Rate:
    """So many a minute, a minute's worth of them at once (the generic cell rate algorithm).

    Args:
        per_minute: How many.
    """

    __slots__ = ("_burst_s", "_free_at", "_rounding_s", "_step_s", "per_minute")

    def __init__(self, per_minute: int) -> None:
        self._free_at = 0.0
        self._set(per_minute)

    def _set(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._step_s = 60.0 / per_minute
        self._burst_s = 60.0 - self._step_s
        self._rounding_s = min(_ROUNDING, _ROUNDING_PARTS * self._step_s)

    def retune(self, per_minute: int, now: float) -> None:
        """Be another rate from now on; what was taken is taken, as far as the new one has so many."""
        if per_minute != self.per_minute:
            taken = max(0.0, self._free_at - now) / self._step_s
            self._set(per_minute)
            self._free_at = now + min(taken * self._step_s, 60.0)

    def take(self, now: float) -> float:
        """Take one; returns 0, or, with nothing taken, the seconds until one may be taken."""
        if wait := self.wait_s(now):
            return wait
        self._free_at = max(self._free_at, now) + self._step_s
        return 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until one may be taken."""
        wait = self._free_at - now - self._burst_s
        return wait if wait > self._rounding_s else 0.0

    def remaining(self, now: float) -> int:
        """Return how many may be taken at once, now."""
        return int((60.0 - max(0.0, self._free_at - now)) / self._step_s + _ROUNDING_PARTS)

    def ask(self, now: float) -> Standing:
        """Take one if one may be taken, and say how that leaves things."""
        owed = max(self._free_at - now, 0.0)  # of each request: written out, not asked of the others
        wait = owed - self._burst_s
        if wait <= self._rounding_s:
            wait = 0.0
            owed += self._step_s
            self._free_at = now + owed
        remaining = int((60.0 - owed) / self._step_s + _ROUNDING_PARTS)
        return Standing(self.per_minute, remaining, now + owed, wait)


class Allowance:
    """So much a day, counted when it was used; a day is 24 hours from the first use.

    Args:
        per_day: How much. What was begun below it may go over it.

    Attributes:
        per_day: It may be changed; what was used is used.
        used: Of the day that goes on, or went on last.
        until: When that is over.
    """

    __slots__ = ("per_day", "until", "used")

    def __init__(self, per_day: int = 0) -> None:
        self.per_day = per_day
        self.used = 0
        self.until = 0.0

    def is_left(self, now: float) -> bool:
        """Tell whether there is any left."""
        return self.wait_s(now) == 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until there is any left."""
        is_left = now >= self.until or self.used < self.per_day
        return 0.0 if is_left else self.until - now

    def use(self, amount: int, now: float) -> None:
        """Count what was used."""
        if now >= self.until:
            self.used, self.until = 0, now + DAY_S
        self.used += amount
