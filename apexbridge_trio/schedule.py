"""When something falls due: cron lines, times of day and IANA zones; time is an argument.

An instant is seconds since the epoch. A cron line has five fields, as in Debian's cron: numbers,
ranges, steps, lists, names of days and months, ``L`` and ``#``; where both days are given, either will do.

When the clocks are changed, a line goes by one of two rules:

- One that names its hours goes by the clock on the wall. What falls into the gap is due at the first
  instant after it, once for all of it; in the fold the first of the two counts, and the second does not.
- One of every hour goes by elapsed time: what the gap leaves out is not due, the fold has all of it twice.

cronsim yields the times on a wall that never changes; its own way over a change is wrong where the
shift is half an hour (2.8, Australia/Lord_Howe), and it may name an instant that has passed.
"""

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError
from msgspec import Struct

from apexbridge_trio.errors import BadRequest

# Longer than any that means something; what parses it recurses.
MOST_CHARS: Final = 200
_FIELDS: Final = 5
_DAY_HOURS: Final = 24
# More than any clock is ever put back: what the first pass of a fold has shown may come again.
_MOST_FOLD: Final = timedelta(hours=4)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")


class Cron(Struct, frozen=True):
    """One line, read.

    Attributes:
        is_hourly: It falls due in every hour, so it goes by elapsed time.
    """

    line: str
    is_hourly: bool

    @classmethod
    def read(cls, line: str) -> Self:
        """Read a line.

        Raises:
            BadRequest: It is none, or never falls due.
        """
        if len(line) > MOST_CHARS or len(line.split()) != _FIELDS:
            raise BadRequest(f"expected five fields, as in 0 */6 * * *, got {line[:MOST_CHARS]!r}")
        cron = cls(line, is_hourly=len(_parsed(line).hours) == _DAY_HOURS)
        if next(cron._walls(datetime.now()), None) is None:  # noqa: DTZ005  # any moment will do
            raise BadRequest(f"{line!r} never falls due")
        return cron

    def next_after(self, instant: float, zone: ZoneInfo) -> float | None:
        """Return the first instant after another one at which it is due; None: not within 50 years."""
        again: float | None = None
        # Only what goes by elapsed time can be due again at a time that was shown before.
        margin = _MOST_FOLD if self.is_hourly else timedelta()
        for wall in self._walls(_wall(instant, zone) - margin):
            first, second = _instants(wall, zone)
            if first is None and not self.is_hourly:
                first = _end_of_gap(wall, zone)
            if first is not None and first > instant:
                return first if again is None else min(first, again)
            if self.is_hourly and again is None and second is not None and second > instant:
                again = second
        return again

    def delay(self, now: datetime) -> float:
        """Return the seconds from `now` until it falls due next, in the zone of `now`."""
        zone = now.tzinfo if isinstance(now.tzinfo, ZoneInfo) else ZoneInfo("UTC")
        instant = now.timestamp()
        due = self.next_after(instant, zone)
        assert due is not None  # `read` has found one
        return due - instant

    def _walls(self, start: datetime) -> Iterator[datetime]:
        return CronSim(self.line, start.replace(tzinfo=None))


def instant_of(wall: datetime, zone: ZoneInfo, now: float = 0.0) -> float:
    """Return when a clock on the wall of a zone shows a time.

    In the fold it is the first of the two, unless that was before `now`; in the gap the first instant
    after it.
    """
    first, second = _instants(wall, zone)
    if first is None:
        return _end_of_gap(wall, zone)
    return second if second is not None and first < now <= second else first


@lru_cache(maxsize=256)  # zones of the reminders; reading one is a file
def read_zone(name: str) -> ZoneInfo:
    """Return a zone by its name in the time zone database.

    Raises:
        BadRequest: There is none; the message names near ones.
    """
    try:
        if len(name) <= MOST_CHARS and _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass  # unknown; or a folder, or another file beside the zones
    near = difflib.get_close_matches(name[:MOST_CHARS], available_timezones(), n=3)
    hint = f"; near are {', '.join(near)}" if near else ", such as Europe/Berlin or Asia/Shanghai"
    raise BadRequest(f"There is no time zone {name[:MOST_CHARS]!r}{hint}.", param="timezone")


def _parsed(line: str) -> CronSim:
    try:
        return CronSim(line, datetime(2000, 1, 1))  # noqa: DTZ001  # only read
    # A TypeError or an AssertionError: forms that it did not expect, such as a step of 5#2.
    except (CronSimError, TypeError, AssertionError) as fault:
        if _is_cron([*line.split()[:3], "*", line.split()[4]]):
            raise BadRequest(f"{line!r} never falls due: its months have no such day") from None
        raise BadRequest(f"{line!r} is no cron line: {fault or 'unknown form'}") from None


def _is_cron(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))  # noqa: DTZ001  # only read
    except (CronSimError, TypeError, AssertionError):
        return False
    return True


def _wall(instant: float, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None)


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[float | None, float | None]:
    """Return when a wall shows a time: once, not at all, or twice."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if _wall(first, zone) != wall.replace(fold=0):
        return None, None
    return first, second if second > first else None


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> float:
    """Return the first instant after the gap that a time falls into."""
    # The offset after the gap puts it before the change, the offset before the gap behind it.
    low, high = (int(wall.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (1, 0))
    before = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return float(high)


def _offset(instant: float, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(instant, UTC).astimezone(zone).utcoffset()
