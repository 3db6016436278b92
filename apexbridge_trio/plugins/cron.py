"""When a cron line falls due; time is an argument.

Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday), each ``*``, a
number, a range ``a-b``, a step ``*/n`` or ``a-b/n``, or several of them with commas. As in cron
itself, where both days are given either will do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from apexbridge_trio.errors import ConfigInvalid

_PART: Final = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?")
_BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
# From one 29 February to the next it can be eight years.
_MOST_DAYS: Final = 8 * 366


@dataclass(frozen=True, slots=True)
class Cron:
    """One line, read."""

    minutes: list[int]
    hours: list[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    is_either_day: bool

    @classmethod
    def read(cls, line: str) -> Self:
        """Read a line.

        Raises:
            ConfigInvalid: It is none, or never falls due.
        """
        fields = line.split()
        if len(fields) != len(_BOUNDS):
            raise ConfigInvalid(f"expected five fields, as in 0 */6 * * *, got {line!r}")
        minutes, hours, days, months, weekdays = (
            set(_values(field, *bounds)) for field, bounds in zip(fields, _BOUNDS, strict=True)
        )
        return cls(
            sorted(minutes),
            sorted(hours),
            frozenset(days),
            frozenset(months),
            frozenset(day % 7 for day in weekdays),
            is_either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )

    def delay(self, now: datetime) -> float:
        """Return the seconds from `now` until it falls due next, after this minute.

        Raises:
            ConfigInvalid: It never does, as 30 February.
        """
        for day in (now + timedelta(days=number) for number in range(_MOST_DAYS)):
            if self._is_day(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        due = day.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
                        # In seconds since the epoch: a day with a change of the clock has no 24 hours.
                        if (left := due.timestamp() - now.timestamp()) > 0:
                            return left
        raise ConfigInvalid("it never falls due")

    def _is_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.is_either_day else in_month and in_week


def _values(field: str, low: int, high: int) -> Iterator[int]:
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ConfigInvalid(f"{part!r} is no part of a cron line")
        first, last, step = (int(text) if text else None for text in found.groups())
        start = low if first is None else first
        end = last if last is not None else high if first is None or step else start
        if not low <= start <= end <= high or step == 0:
            raise ConfigInvalid(f"{part!r} is not between {low} and {high}")
        yield from range(start, end + 1, step or 1)
