"""How often a trigger may fire. Time is an argument, in seconds."""

from typing import Final, Literal

HOUR_S: Final = 3600.0

Word = Literal["fire", "just muted", "muted"]


class Guard:
    """So many within an hour from the first one; then it is muted until that hour is over.

    Not a rate: one that is muted for a moment again and again would tell of it again and again.

    Args:
        per_hour: How many.
    """

    def __init__(self, per_hour: int) -> None:
        self.per_hour = per_hour
        self._began = float("-inf")
        self._fired = 0

    @property
    def until(self) -> float:
        """When the hour that has begun is over."""
        return self._began + HOUR_S

    def take(self, now: float) -> Word:
        """Fire once, or say why not; once an hour that it was muted just now."""
        if not self._is_on(now):
            self._began, self._fired = now, 0
        self._fired += 1
        if self._fired <= self.per_hour:
            return "fire"
        return "just muted" if self._fired == self.per_hour + 1 else "muted"

    def is_muted(self, now: float) -> bool:
        """Tell whether something was left out in the hour that goes on."""
        return self._is_on(now) and self._fired > self.per_hour

    def _is_on(self, now: float) -> bool:
        # One that has not begun yet: the clock was put back meanwhile.
        return self._began <= now < self.until
