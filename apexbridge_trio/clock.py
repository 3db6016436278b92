"""The clock on the wall, and how far it is to be believed: a home's machine may have none that is right.

A small machine begins at 1970, or where it stood when the power went, until the network tells it the
time; people set clocks. What is done by the wall clock and can not be taken back asks here first.

==========  ===========================================================  ============  ==========
state       how it comes                                                 things fall   what is old
                                                                         due           is deleted
==========  ===========================================================  ============  ==========
good                                                                     yes           yes
impossible  the time is before this program was made                     no            no
behind      at the start: before the newest thing on record; it is       no            no
            believed after an hour, or when it has caught up
ahead       it was put forward by hours, or months have passed without   yes           no
            a hub; for a day
==========  ===========================================================  ============  ==========

"Steady" is a clock that nobody sets and that goes on while the machine sleeps.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from apexbridge_trio.log import get_logger

State = Literal["good", "impossible", "behind", "ahead"]

# 2026-01-01: no hub ran before.
MADE: Final = 1_767_225_600.0
# A clock that is a few minutes behind what it said before the restart is what it is.
TOLERANCE_S: Final = 300.0
# So long is a clock that is behind not believed; what was newer may have been written by a wrong one.
DOUBT_S: Final = 3600.0
# More than summer time and people's zones move; a jump is spoken of from here on.
JUMP_S: Final = 6 * 3600.0
# A hub that was off so long is rarer than a clock that is wrong.
LONG_OFF_S: Final = 90 * 86_400.0
# Whoever has set the clock wrong has this long to see it before what seems old is deleted.
KEEP_S: Final = 86_400.0

log = get_logger("clock")


def since_boot() -> float:
    """Return seconds of a clock that nobody sets; it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now_ms() -> int:
    """Return what the clock on the wall says, in milliseconds since the epoch, as peers are told it."""
    return int(time.time() * 1000)


class WallClock:
    """The clock on the wall.

    Args:
        now: What it says, seconds since the epoch.
        steady: Seconds of a clock that nobody sets.
        newest: The newest time on record, seconds since the epoch; 0: there is nothing.

    Attributes:
        state: As it was when it was looked at last.
        changed: Called with words for people when that becomes another one.
        believed: Called when it is taken for right although something on record is of later.
    """

    def __init__(self, now: Callable[[], float], steady: Callable[[], float], newest: float) -> None:
        self.now = now
        self.state: State = "good"
        self.changed: Callable[[str], None] = lambda _words: None
        self.believed: Callable[[], None] = lambda: None
        self._steady = steady
        self._newest = newest
        self._began = steady()
        self._offset = self._first_offset = now() - self._began
        was_long_off = newest and now() - newest > LONG_OFF_S
        self._kept_until = self._began + KEEP_S if was_long_off else self._began

    @property
    def set_by_s(self) -> float:
        """By how much it was set since the start, seconds; below zero: it was put back."""
        return self.now() - self._steady() - self._first_offset

    @property
    def words(self) -> str:
        """Look, and return what it is for people; empty: it is good."""
        state = self.look()
        return "" if state == "good" else self._worded(self.now())

    @property
    def fires(self) -> bool:
        """Look, and tell whether what is due by this clock is to be done."""
        return self.look() not in {"impossible", "behind"}

    @property
    def forgets(self) -> bool:
        """Look, and tell whether what is old by this clock is to be deleted."""
        return self.look() == "good"

    def look(self) -> State:
        """Compare the clock with what is known of the time, and say it if that has changed."""
        wall, steady = self.now(), self._steady()
        moved, self._offset = wall - steady - self._offset, wall - steady
        if moved > JUMP_S and self.state == "good":
            self._kept_until = steady + KEEP_S
        elif moved < -TOLERANCE_S:
            log.warning("the clock was put back", seconds=round(-moved))
        state = self._judge(wall, steady)
        if state != self.state:
            was, self.state = self.state, state
            self._say(was, wall)
        return state

    def _judge(self, wall: float, steady: float) -> State:
        if wall < MADE:
            return "impossible"
        is_earlier = wall < self._newest - TOLERANCE_S
        if is_earlier and steady < self._began + DOUBT_S:
            return "behind"
        # Caught up, or believed: from now on it may be put back as people do.
        self._newest = 0.0
        if is_earlier:
            self.believed()
        return "ahead" if steady < self._kept_until else "good"

    def _say(self, was: State, wall: float) -> None:
        words = self._worded(wall)
        say = log.info if self.state == "good" else log.warning
        say("the clock on the wall", was=was, says=words)
        self.changed(words)

    def _worded(self, wall: float) -> str:
        return _WORDS[self.state].format(now=_shown(wall), newest=_shown(self._newest))


_WORDS: Final[dict[State, str]] = {
    "good": "The clock is believed again ({now}); reminders and deletions go on.",
    "impossible": "The clock says {now}, which can not be; its battery may be empty. Reminders and the ends"
    " of tasks wait until it is set.",
    "behind": "The clock says {now}, and the newest thing on record is of {newest}. Reminders and the ends of"
    " tasks wait until it is right, for an hour at most.",
    "ahead": "The clock says {now}, much later than what was seen last. Reminders of the time between go"
    " by their rule for what was missed; what seems old now is kept a day.",
}


def _shown(wall: float) -> str:
    try:
        return datetime.fromtimestamp(wall, UTC).isoformat(sep=" ", timespec="minutes")
    except (OverflowError, ValueError, OSError):
        return f"{wall:.0f} s"
