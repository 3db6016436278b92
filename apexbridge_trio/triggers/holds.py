"""What has to last for a while before a trigger fires, and what has lasted. Time is an argument, in seconds.

What has lasted is kept as a mark until it is not so any more: being told of it again does not fire again,
nor does a hub that starts and finds it so.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from apexbridge_trio.triggers.happening import Happening

# Of one trigger; what is over it does not fire. Nodes are tens, and tasks that are in one state for minutes
# are hundreds. Marks are small, and no more than there are nodes and living tasks.
MOST_HELD: Final = 1000

Word = Literal["begun", "held", "full"]


class Held(Struct, frozen=True):
    """Something that lasts.

    Attributes:
        until: When it has lasted long enough.
        happening: What began it; None: it has lasted, and the trigger has fired.
    """

    until: float
    happening: Happening | None


class Holds:
    """What lasts, by the trigger's name and what it is about."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Held]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def begin(self, trigger: str, happening: Happening, until: float) -> Word:
        """Begin to count, if that has not begun before, and there is room."""
        mine = self._held.setdefault(trigger, {})
        if happening.subject in mine:
            return "held"
        if len(mine) >= MOST_HELD and self.count(trigger) >= MOST_HELD:
            return "full"
        mine[happening.subject] = Held(until, happening)
        return "begun"

    def restore(self, trigger: str, subject: str, held: Held) -> None:
        """Go on with what an earlier hub has begun."""
        self._held.setdefault(trigger, {})[subject] = held

    def end(self, trigger: str, subject: str) -> bool:
        """It is not so any more; tells whether it was held, or has lasted."""
        return self._held.get(trigger, {}).pop(subject, None) is not None

    def mark(self, trigger: str, subject: str) -> None:
        """Keep in mind that it has lasted, and goes on."""
        self._held.setdefault(trigger, {})[subject] = Held(0.0, None)

    def put_off(self, trigger: str, seconds: float) -> None:
        """Have all that is waited for by a trigger last longer, or less long."""
        for subject, held in self._held.get(trigger, {}).items():
            if held.happening is not None:
                self._held[trigger][subject] = Held(held.until + seconds, held.happening)

    def rename(self, old: str, new: str) -> None:
        """Have all of a trigger under another name, and nothing else."""
        self._held[new] = self._held.pop(old, {})

    def knows(self, trigger: str, subject: str) -> bool:
        """Tell whether something is held, or has lasted."""
        return subject in self._held.get(trigger, {})

    def drop(self, triggers: Iterable[str]) -> list[str]:
        """Forget all of some triggers; returns those that had any."""
        return [name for name in triggers if self._held.pop(name, None)]

    def count(self, trigger: str) -> int:
        """Return how much is waited for by one trigger."""
        return sum(held.happening is not None for held in self._held.get(trigger, {}).values())

    def lasted(self, now: float) -> list[tuple[str, Happening]]:
        """Take what has lasted long enough, the first that began first."""
        due = sorted(
            (held.until, name, subject)
            for name, mine in self._held.items()
            for subject, held in mine.items()
            if held.happening is not None and held.until <= now
        )
        taken = [(name, self._held[name].pop(subject).happening) for _, name, subject in due]
        return [(name, happening) for name, happening in taken if happening is not None]

    def next(self) -> float | None:
        """Return when the next one has lasted long enough."""
        waits = (held for mine in self._held.values() for held in mine.values())
        return min((held.until for held in waits if held.happening is not None), default=None)
