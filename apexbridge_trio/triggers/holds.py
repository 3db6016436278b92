"""What has to last for a while before a trigger fires. Time is an argument, in seconds."""

from collections.abc import Callable
from typing import Final

from apexbridge_trio.triggers.happening import Happening

# Of all triggers together; what is over it does not fire. Nodes are tens, and tasks that are in one
# state for minutes are hundreds.
MOST_HELD: Final = 2000

Key = tuple[str, str]


class Holds:
    """What lasts, by the trigger's name and what it is about."""

    def __init__(self) -> None:
        self._held: dict[Key, tuple[float, Happening]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, trigger: str, happening: Happening, until: float) -> bool:
        """Begin to count, if that has not begun before; False if there is no room."""
        key = (trigger, happening.subject)
        if key not in self._held and len(self._held) >= MOST_HELD:
            return False
        self._held.setdefault(key, (until, happening))
        return True

    def end(self, trigger: str, happening: Happening) -> None:
        """It is not so any more."""
        self._held.pop((trigger, happening.subject), None)

    def keep(self, is_kept: Callable[[str], bool]) -> None:
        """Forget what is held for triggers, by their names, that are not kept."""
        self._held = {key: held for key, held in self._held.items() if is_kept(key[0])}

    def count(self, trigger: str) -> int:
        """Return how much is held for one trigger."""
        return sum(name == trigger for name, _ in self._held)

    def lasted(self, now: float) -> list[tuple[str, Happening]]:
        """Take what has lasted long enough, the first that began first."""
        due = sorted((until, key) for key, (until, _) in self._held.items() if until <= now)
        return [(key[0], self._held.pop(key)[1]) for _, key in due]

    def next(self) -> float | None:
        """Return when the next one has lasted long enough."""
        return min((until for until, _ in self._held.values()), default=None)
