"""How often a trigger may fire. Time is an argument, in seconds."""

from typing import Final, Literal

HOUR_S: Final = 3600.0

Word = Literal["fire", "just muted", "muted"]


class Guard:
    """So many within an hour from the first one; then it is muted until that hour is over.

    Not a rate: one that is muted for a moment again and again would tell of it again and again.

    Args:
        per_hour: How many.

    Attributes:
        until: When the hour that has begun is over.
    """

    def __init__(self, per_hour: int) -> None:
        self.per_hour = per_hour
        self.until = float("-inf")
        self._fired = 0

    def take(self, now: float) -> Word:
        """Fire once, or say why not; once an hour that it was muted just now."""
        if now >= self.until:
            self.until, self._fired = now + HOUR_S, 0
        self._fired += 1
        if self._fired <= self.per_hour:
            return "fire"
        return "just muted" if self._fired == self.per_hour + 1 else "muted"

    def is_muted(self, now: float) -> bool:
        """Tell whether something was left out in the hour that goes on."""
        return now < self.until and self._fired > self.per_hour
