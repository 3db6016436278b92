"""Ten years of reminders in four zones, on the virtual clock, against a list that is made in another way."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
from dateutil import rrule, tz

from apexbridge_trio.reminders import reminders as room
from tests.reminders.place import Clock, Place

START = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = 10
# A cron line, and what it is for dateutil: times of a wall, without any zone.
LINES: list[tuple[str, dict[str, Any]]] = [
    ("30 2 * * *", {"freq": rrule.DAILY, "byhour": 2, "byminute": 30, "bysecond": 0}),
    ("15 1 * * *", {"freq": rrule.DAILY, "byhour": 1, "byminute": 15, "bysecond": 0}),
    ("45 1 * * 0", {"freq": rrule.WEEKLY, "byweekday": rrule.SU, "byhour": 1, "byminute": 45, "bysecond": 0}),
    ("10 2 * * 0", {"freq": rrule.WEEKLY, "byweekday": rrule.SU, "byhour": 2, "byminute": 10, "bysecond": 0}),
    ("30 8 * * 1-5", {"freq": rrule.WEEKLY, "byweekday": range(5), "byhour": 8, "byminute": 30, "bysecond": 0}),
    ("0 0 29 2 *", {"freq": rrule.YEARLY, "bymonth": 2, "bymonthday": 29, "byhour": 0, "byminute": 0, "bysecond": 0}),
    ("0 9 31 * *", {"freq": rrule.MONTHLY, "bymonthday": 31, "byhour": 9, "byminute": 0, "bysecond": 0}),
]  # fmt: skip
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai"]


def expected(rule: dict[str, Any], zone_name: str, end: datetime) -> list[int]:
    """What dateutil says: its own reading of zones, and its own word for times that do not exist."""
    zone = tz.gettz(zone_name)
    begin = START.astimezone(zone).replace(tzinfo=None)
    found = set()
    for wall in rrule.rrule(
        dtstart=begin - timedelta(days=2), until=begin + timedelta(days=366 * YEARS), **rule
    ):
        there = wall.replace(tzinfo=zone)
        while not tz.datetime_exists(there):
            there += timedelta(minutes=1)
        due = there.astimezone(UTC)
        if START < due <= end:
            found.add(round(due.timestamp()))
    return sorted(found)


@pytest.mark.parametrize(
    ("restart_days", "lines"),
    [
        (None, LINES[2:]),
        (97, LINES[3:4]),
        pytest.param(97, LINES, marks=pytest.mark.prove),
    ],
)
async def test_ten_years_none_twice_none_lost(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch, restart_days: int | None, lines: Any
) -> None:
    # Nobody sets this clock; a look at each minute of ten years would be a test of Trio.
    monkeypatch.setattr(room, "LOOK_S", 86_400.0)
    place = Place(tmp_path, Clock(START.timestamp()), takes=True, is_lasting=False)
    place.clock()
    end = START + timedelta(days=366 * YEARS - 4)
    want: dict[str, list[int]] = {}
    async with place.hub() as reminders:
        for zone in ZONES:
            for line, rule in lines:
                said = await place.add(reminders, f"{line} in {zone}", cron=line, timezone=zone)
                want[said["id"]] = expected(rule, zone, end)
        if restart_days is None:
            await trio.sleep((end - START).total_seconds() + 1)
    while restart_days and place.clock() < end.timestamp():
        async with place.hub():
            left = end.timestamp() + 1 - place.clock()
            await trio.sleep(min(restart_days * 86_400 + 0.5, left))
    got: dict[str, list[int]] = {one: [] for one in want}
    for event in place.events:
        got[event["id"]].append(event["dueAt"] // 1000)
    assert got == want
    assert min(map(len, want.values())) >= 2
    assert len(place.told) == len(set(place.told)) == len(place.events)
    assert ZoneInfo("Asia/Shanghai")  # the machine knows zones at all
