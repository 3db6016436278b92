"""The agenda: words for days, and a calendar file that survives everything."""

import os
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest
import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import Tool
from tests.harness.kill import kill_at_every_step
from tests.plugins.folders import SHIPPED, SUNDAY, call_tool, load, shipped_module

BERLIN = ZoneInfo("Europe/Berlin")
TODAY = date(2026, 11, 22)  # a Sunday
AGENDA = shipped_module("agenda")

FOREIGN = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Someone//Else//EN
X-WR-CALNAME:Family
BEGIN:VTIMEZONE
TZID:Our House
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
x-lower;X-P="a;b:c":kept
UID:weekly
SUMMARY:Choir
DTSTART;TZID="Our House":20261018T193000
DTEND;TZID="Our House":20261018T210000
RRULE:FREQ=WEEKLY
BEGIN:VALARM
UID:single
ACTION:DISPLAY
TRIGGER:-PT15M
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:weekly
SUMMARY:Choir (moved)
RECURRENCE-ID;TZID="Our House":20261108T193000
DTSTART;TZID="Our House":20261108T200000
DTEND;TZID="Our House":20261108T210000
END:VEVENT
BEGIN:VEVENT
UID:trip
SUMMARY:Trip
DTSTART;VALUE=DATE:20261124
DTEND;VALUE=DATE:20261127
END:VEVENT
BEGIN:VEVENT
UID:utc
SUMMARY:Call
DTSTART:20261124T090000Z
DURATION:PT30M
RRULE:FREQ=DAILY;COUNT=3
END:VEVENT
BEGIN:VEVENT
UID:single
SUMMARY:Midnight snack
 , a folded
  one
DTSTART:20261125T000000
END:VEVENT
BEGIN:VEVENT
UID:nodate
SUMMARY:Has no day
END:VEVENT
BEGIN:VTODO
UID:todo
SUMMARY:Not an event
END:VTODO
BEGIN:X-PRIVATE
X-THING:1
END:X-PRIVATE
END:VCALENDAR
"""


class Agenda:
    """The three tools over one state directory."""

    def __init__(self, state: Path, now: datetime = SUNDAY) -> None:
        self.tools = load(SHIPPED, state=state, now=now).tools
        self.file = state / "plugins/agenda/agenda.ics"

    async def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        return await call_tool(self.tools[tool], arguments)

    async def events(self, **arguments: Any) -> Any:
        return (await self.call("agenda_list", arguments))["events"]

    async def titles(self, day: str) -> list[str]:
        return [event["summary"] for event in await self.events(date=day)]

    async def add(self, summary: str, day: str = "tomorrow", **rest: Any) -> Any:
        return (await self.call("agenda_add", {"summary": summary, "date": day, **rest}))["added"]

    async def remove(self, **arguments: Any) -> Any:
        return await self.call("agenda_remove", arguments)


@pytest.fixture
def agenda(tmp_path: Path) -> Agenda:
    return Agenda(tmp_path)


@pytest.fixture
def foreign(tmp_path: Path) -> Agenda:
    agenda = Agenda(tmp_path, SUNDAY.astimezone(BERLIN))
    agenda.file.write_text(FOREIGN, "utf-8")
    return agenda


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        ("今天", "11-22", "11-22"), ("大后天", "11-25", "11-25"), ("昨天", "11-21", "11-21"),
        ("today", "11-22", "11-22"), ("On Friday", "11-27", "11-27"), ("the day after tomorrow", "11-24", "11-24"),
        ("周三", "11-25", "11-25"), ("周日", "11-22", "11-22"), ("星期天", "11-22", "11-22"), ("下周三", "11-25", "11-25"),
        ("下下周一", "11-30", "11-30"), ("这周三", "11-18", "11-18"), ("上个星期五", "11-13", "11-13"),
        ("next Monday", "11-23", "11-23"), ("this tue", "11-17", "11-17"), ("sunday", "11-22", "11-22"),
        ("这周", "11-16", "11-22"), ("this week", "11-16", "11-22"), ("the week", "11-16", "11-22"), ("下个星期", "11-23", "11-29"),
        ("周末", "11-21", "11-22"), ("next weekend", "11-28", "11-29"),
        ("这个月", "11-01", "11-30"), ("next month", "12-01", "12-31"), ("上个月", "10-01", "10-31"),
        ("2026-11-25", "11-25", "11-25"), ("２０２６－１１－２５", "11-25", "11-25"), ("11月25号", "11-25", "11-25"), ("十一月二十五日", "11-25", "11-25"),
        ("2026年12月1日", "12-01", "12-01"), ("25号", "11-25", "11-25"), ("三号", "12-03", "12-03"), ("the 5th", "12-05", "12-05"),
        ("Nov 25th", "11-25", "11-25"), ("25 of november, 2026", "11-25", "11-25"), ("December 1", "12-01", "12-01"),
        ("下个月5号", "12-05", "12-05"), ("本月30日", "11-30", "11-30"), ("the 5th of next month", "12-05", "12-05"), ("next month on the 5th", "12-05", "12-05"),
        ("月底", "11-30", "11-30"), ("at the end of the month", "11-30", "11-30"), ("the last day of next month", "12-31", "12-31"),
        ("Tuesday next week", "11-24", "11-24"), ("next week on Tuesday", "11-24", "11-24"), ("5 December", "12-05", "12-05"),
        ("3天后", "11-25", "11-25"), ("两周以后", "12-06", "12-06"), ("in 2 weeks", "12-06", "12-06"), ("in 1 day", "11-23", "11-23"),
    ],
)  # fmt: skip
def test_words_for_days(words: str, first: str, last: str) -> None:
    assert AGENDA.read_days(words, TODAY) == (
        date.fromisoformat(f"2026-{first}"),
        date.fromisoformat(f"2026-{last}"),
    )


def test_a_day_that_has_passed_is_of_the_next_year() -> None:
    assert AGENDA.read_day("3月5号", TODAY) == date(2027, 3, 5)
    assert AGENDA.read_day("二〇二七年三月五号", TODAY) == date(2027, 3, 5)
    assert AGENDA.read_day("29 February", TODAY) == date(2028, 2, 29)


@pytest.mark.parametrize(
    "words", ["", "soon", "2月30号", "2026-13-01", "40号", "in 99999999999 days", "month", "this"]
)
def test_words_that_are_no_day(words: str) -> None:
    with pytest.raises(AGENDA.Unclear):
        AGENDA.read_days(words, TODAY)


def test_a_week_is_not_one_day() -> None:
    with pytest.raises(AGENDA.Unclear, match="more than one day"):
        AGENDA.read_day("this week", TODAY)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("上午9点半", "09:30"), ("下午三点", "15:00"), ("晚上8点一刻", "20:15"), ("十点零五分", "10:05"), ("下午3点15分", "15:15"),
        ("凌晨12点", "00:00"), ("中午", "12:00"), ("中午1点", "13:00"), ("中午12点", "12:00"), ("9：30", "09:30"), ("二十二点三刻", "22:45"),
        ("9:30", "09:30"), ("at 3 pm", "15:00"), ("3 p.m.", "15:00"), ("12am", "00:00"), ("12 pm", "12:00"), ("9.15 a.m", "09:15"),
        ("晚上12点半", "00:30"), ("半夜2点", "02:00"), ("7 in the evening", "19:00"), ("half past seven", "07:30"),
        ("ten to eight", "07:50"), ("20 minutes past 6 pm", "18:20"), ("a quarter to one am", "00:45"), ("下午差十分八点", "19:50"), ("八点差五分", "07:55"),
        ("10", "10:00"), ("noon", "12:00"), ("midnight", "00:00"), ("7 o'clock", "07:00"),
    ],
)  # fmt: skip
def test_words_for_times(words: str, said: str) -> None:
    assert AGENDA.read_time(words) == time.fromisoformat(said)


@pytest.mark.parametrize("words", ["", "25:00", "下午", "9:99", "later"])
def test_words_that_are_no_time(words: str) -> None:
    with pytest.raises(AGENDA.Unclear):
        AGENDA.read_time(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [("晚上12点", "2026-11-23 00:00"), ("今晚1点", "2026-11-23 01:00"), ("midnight", "2026-11-23 00:00"),
     ("晚上11点", "2026-11-22 23:00"), ("凌晨1点", "2026-11-22 01:00"), ("零点", "2026-11-22 00:00")],
)  # fmt: skip
def test_past_midnight_a_night_is_still_that_of_its_day(words: str, said: str) -> None:
    assert AGENDA.read_moment(date(2026, 11, 22), words) == datetime.fromisoformat(said)


async def test_an_event_at_midnight_is_at_the_end_of_its_day(agenda: Agenda) -> None:
    told = await agenda.add("火车", "明天", time="晚上12点")
    assert told["start"].startswith("2026-11-24T00:00")


async def test_what_is_added_is_listed_in_order(agenda: Agenda) -> None:
    await agenda.add("牙医", "明天", time="上午9点半", location="人民路 1 号")
    await agenda.add("Trip", "tomorrow", end_date="周三")
    await agenda.add("Film", "tomorrow", time="23:00", end_date="后天", end_time="1:00")
    first, second, third = await agenda.events(date="明天")
    assert (first["summary"], first["start"], first["end"], first["all_day"]) == (
        "Trip",
        "2026-11-23",
        "2026-11-25",
        True,
    )
    assert (second["start"], second["end"]) == ("2026-11-23T09:30:00+08:00", "2026-11-23T10:30:00+08:00")
    assert second["location"] == "人民路 1 号"
    assert third["end"] == "2026-11-24T01:00:00+08:00"
    assert await agenda.titles("后天") == ["Trip", "Film"]
    assert await agenda.titles("周四") == []
    assert len(await agenda.events(date="tomorrow", until="周四")) == 3


async def test_the_file_is_a_calendar_for_other_programs(agenda: Agenda) -> None:
    await agenda.add("a;b,c\nEND:VEVENT\nd", time="9:30", repeat="weekly")
    await agenda.add("second", time="10:00")
    calendar = icalendar.Calendar.from_ical(agenda.file.read_bytes())
    assert [str(zone["TZID"]) for zone in calendar.walk("VTIMEZONE")] == ["Asia/Shanghai"]
    first, _ = calendar.walk("VEVENT")
    assert str(first["SUMMARY"]) == "a;b,c\nEND:VEVENT\nd"
    assert first["UID"]
    assert first.decoded("DTSTAMP").tzinfo is not None
    assert first["RRULE"].to_ical() == b"FREQ=WEEKLY"
    assert await agenda.titles("下下周一") == ["a;b,c\nEND:VEVENT\nd"]


async def test_a_series_keeps_its_time_of_day_when_the_clocks_change(tmp_path: Path) -> None:
    agenda = Agenda(tmp_path, datetime(2026, 10, 24, 12, tzinfo=BERLIN))
    await agenda.add("Breakfast", "2026-10-24", time="9:00", repeat="daily")
    assert [event["start"] for event in await agenda.events(date="2026-10-24", until="2026-10-25")] == [
        "2026-10-24T09:00:00+02:00",
        "2026-10-25T09:00:00+01:00",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"summary": "x"}, {"summary": "", "date": "today"}, {"summary": "x", "date": 5}, {"summary": "x" * 501, "date": "today"},
        {"summary": "x", "date": "this week"}, {"summary": "x", "date": "today", "time": "25:00"}, {"summary": "x", "date": "today", "colour": "red"},
        {"summary": "x", "date": "today", "time": "9:00", "end_time": "8:00"}, {"summary": "x", "date": "today", "repeat": "hourly"},
    ],
)  # fmt: skip
async def test_what_can_not_be_added_changes_nothing(agenda: Agenda, arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolFailed):
        await call_tool(agenda.tools["agenda_add"], arguments)
    assert not agenda.file.exists()


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=8)), UTC, ZoneInfo("UTC")])
async def test_a_home_without_a_zone_name_keeps_the_moment(tmp_path: Path, zone: tzinfo) -> None:
    agenda = Agenda(tmp_path, SUNDAY.astimezone(zone))
    await agenda.add("x", time="9:30")
    [event] = await agenda.events(date="tomorrow")
    assert event["start"] == datetime(2026, 11, 23, 9, 30, tzinfo=zone).isoformat()
    assert b"TZID" not in agenda.file.read_bytes()


async def test_a_list_is_bounded(agenda: Agenda) -> None:
    await agenda.add("Medicine", "today", time="8:00", repeat="daily")
    told = await call_tool(agenda.tools["agenda_list"], {"date": "today", "until": "2027-11-20"})
    assert (told["count"], len(told["events"])) == (364, 100)
    for until in ("yesterday", "2028-01-01"):
        with pytest.raises(ToolFailed, match="range"):
            await agenda.events(until=until)


async def test_one_event_is_removed_by_a_part_of_its_title(agenda: Agenda) -> None:
    await agenda.add("牙医预约", "明天")
    await agenda.add("家长会", "明天")
    told = await agenda.remove(summary="牙医", date="明天")
    assert told["removed"]["summary"] == "牙医预约"
    assert await agenda.titles("明天") == ["家长会"]
    assert await agenda.remove(summary="牙医") == {"removed": None, "candidates": []}
    with pytest.raises(ToolFailed, match="say which event"):
        await agenda.remove(date="明天")


async def test_what_fits_twice_is_asked_back(agenda: Agenda) -> None:
    await agenda.add("Dentist Anna", time="9:00")
    await agenda.add("Dentist Bob", time="10:00")
    told = await agenda.remove(summary="dentist", date="tomorrow")
    assert told["removed"] is None
    assert [one["summary"] for one in told["candidates"]] == ["Dentist Anna", "Dentist Bob"]
    assert len(await agenda.titles("tomorrow")) == 2
    await agenda.remove(summary="dentist", date="tomorrow", time="10:00")
    assert await agenda.titles("tomorrow") == ["Dentist Anna"]
    await agenda.add("dentist", time="11:00")
    assert (await agenda.remove(summary="Dentist"))["removed"]["summary"] == "dentist"


async def test_a_uid_is_enough(agenda: Agenda) -> None:
    added = await agenda.add("Choir", "2020-01-05", repeat="weekly")
    past = await agenda.add("Past", "2020-01-05")
    assert (await agenda.remove(uid=past["uid"]))["removed"]["summary"] == "Past"
    assert (await agenda.remove(uid=added["uid"]))["removed"]["recurring"] is True
    assert await agenda.events() == []
    assert (await agenda.remove(uid="unknown"))["removed"] is None


async def test_a_foreign_file_is_understood(foreign: Agenda) -> None:
    assert [
        (e["summary"], e["start"]) for e in await foreign.events(date="2026-11-24", until="2026-11-25")
    ] == [
        ("Trip", "2026-11-24"),
        ("Call", "2026-11-24T10:00:00+01:00"),
        ("Midnight snack, a folded one", "2026-11-25T00:00:00+01:00"),
        ("Call", "2026-11-25T10:00:00+01:00"),
    ]
    assert await foreign.titles("2026-11-24") == ["Trip", "Call"]
    assert await foreign.titles("2026-11-27") == []
    [choir] = await foreign.events(date="2026-10-25")
    assert choir["start"] == "2026-10-25T19:30:00+01:00"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_a_foreign_file_keeps_every_byte(foreign: Agenda, line_end: str) -> None:
    before = FOREIGN.replace("\n", line_end).encode()
    foreign.file.write_bytes(before)
    foreign.file.chmod(0o640)
    added = await foreign.add("Added", time="9:00")
    after = foreign.file.read_bytes()
    head = before.removesuffix(f"END:VCALENDAR{line_end}".encode())
    assert after.startswith(head)
    assert after.count(b"\r\n") == (after.count(b"\n") if line_end == "\r\n" else 0)
    assert foreign.file.stat().st_mode & 0o777 == 0o640
    await foreign.remove(uid=added["uid"])
    zone = foreign.file.read_bytes().removeprefix(head)
    assert zone.count(b"BEGIN:VTIMEZONE") == 1  # its zone stays
    assert b"VEVENT" not in zone
    assert foreign.file.read_bytes() == after[: len(head)] + zone


async def test_one_day_of_a_series_is_removed(foreign: Agenda) -> None:
    assert (await foreign.remove(summary="choir", date="2026-11-01"))["removed"]["recurring"] is True
    assert (await foreign.remove(summary="choir", date="2026-11-08"))["removed"]["summary"] == "Choir (moved)"
    assert (await foreign.remove(summary="call", date="2026-11-25"))["removed"]["uid"] == "utc"
    text = foreign.file.read_text()
    assert 'EXDATE;TZID="Our House":20261101T193000\n' in text
    assert "EXDATE:20261125T090000Z\n" in text
    assert [e["start"][:10] for e in await foreign.events(date="2026-10-18", until="2026-11-22")] == [
        "2026-10-18", "2026-10-25", "2026-11-15", "2026-11-22",
    ]  # fmt: skip
    assert await foreign.titles("2026-11-25") == ["Trip", "Midnight snack, a folded one"]


async def test_a_series_needs_a_day_or_the_word(foreign: Agenda) -> None:
    before = foreign.file.read_bytes()
    told = await foreign.remove(summary="choir")
    assert told["removed"] is None
    assert len(told["candidates"]) > 50
    assert foreign.file.read_bytes() == before
    await foreign.remove(summary="choir", series=True)
    assert b"Choir" not in foreign.file.read_bytes()
    assert await foreign.titles("2026-11-24") == ["Trip", "Call"]


async def test_an_all_day_series_loses_one_day(agenda: Agenda) -> None:
    await agenda.add("Bins", "2026-11-23", repeat="weekly")
    await agenda.remove(summary="bins", date="2026-11-30")
    assert [e["start"] for e in await agenda.events(date="2026-11-23", until="2026-12-07")] == [
        "2026-11-23",
        "2026-12-07",
    ]


async def test_an_event_without_uid_is_not_removed(agenda: Agenda) -> None:
    text = FOREIGN.replace("UID:trip\n", "").replace("UID:single\n", "")
    agenda.file.write_text(text)
    assert (await agenda.remove(summary="trip", date="2026-11-24"))["removed"] is None
    assert agenda.file.read_text() == text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"garbage", b"\xff\xfe\x00", FOREIGN.encode()[:900], FOREIGN.encode() + b"more", b"BEGIN:VEVENT\nEND:VEVENT\n",
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\n", b"BEGIN:VCALENDAR\n" + b"X-A:" + b"b" * 5_000_000 + b"\nEND:VCALENDAR\n",
    ],
    ids=["empty", "garbage", "bytes", "cut", "tail", "event", "nesting", "large"],
)  # fmt: skip
async def test_a_corrupt_file_is_told_and_never_overwritten(agenda: Agenda, content: bytes) -> None:
    agenda.file.write_bytes(content)
    for call in (agenda.events(), agenda.add("x"), agenda.remove(summary="x")):
        with pytest.raises(ToolFailed, match=r"agenda\.ics is no calendar I can read, it was left as it is"):
            await call
    assert agenda.file.read_bytes() == content
    assert list(agenda.file.parent.iterdir()) == [agenda.file]


@pytest.mark.parametrize("line", ["DTSTART:20261124T100000Z", "DTEND:20261124T100000Z", "UID:twice"])
async def test_an_event_that_contradicts_itself_is_told(agenda: Agenda, line: str) -> None:
    text = FOREIGN.replace("DURATION:PT30M", f"DURATION:PT30M\n{line}")
    agenda.file.write_text(text)
    with pytest.raises(ToolFailed, match=r"agenda\.ics is no calendar I can read"):
        await agenda.events(date="2026-11-24")
    assert agenda.file.read_text() == text


async def test_two_calendars_in_one_file_are_one_agenda(foreign: Agenda) -> None:
    foreign.file.write_text(FOREIGN + FOREIGN.replace("trip", "other").replace("Trip", "Other"))
    await foreign.add("Added", "2026-11-26")
    assert await foreign.titles("2026-11-26") == ["Other", "Trip", "Added", "Call", "Call"]


async def test_a_link_stays_a_link(agenda: Agenda, tmp_path: Path) -> None:
    elsewhere = tmp_path / "cloud.ics"
    elsewhere.write_text(FOREIGN)
    agenda.file.symlink_to(elsewhere)
    await agenda.add("Added")
    assert agenda.file.is_symlink()
    assert "SUMMARY:Added" in elsewhere.read_text()


async def test_a_full_disk_leaves_the_old_file(agenda: Agenda, monkeypatch: pytest.MonkeyPatch) -> None:
    await agenda.add("kept")
    before = agenda.file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolFailed, match="No space left on device"):
        await agenda.add("lost")
    assert agenda.file.read_bytes() == before


async def test_adds_side_by_side_lose_nothing(agenda: Agenda) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for n in range(25):
                nursery.start_soon(agenda.add, f"event {n:02}")
    assert await agenda.titles("tomorrow") == [f"event {n:02}" for n in range(25)]


async def test_an_add_cut_at_any_step_is_whole_or_not_there(tmp_path: Path) -> None:
    worlds = 0
    agenda: Agenda

    async def scenario() -> None:
        nonlocal worlds, agenda
        worlds += 1
        agenda = Agenda(tmp_path / str(worlds), SUNDAY.astimezone(BERLIN))
        agenda.file.write_text(FOREIGN)
        await agenda.add("牙医")

    async def check(whole: bool) -> None:
        found = await agenda.titles("tomorrow")
        assert found in ([], ["牙医"])
        assert not whole or found
        assert list(agenda.file.parent.iterdir()) == [agenda.file]
        assert agenda.file.read_text().startswith(FOREIGN.removesuffix("END:VCALENDAR\n"))
        await agenda.add("after")  # nothing holds the file

    assert await kill_at_every_step(scenario, check) >= 2


def test_times_of_the_file_are_told_at_home() -> None:
    event = icalendar.Event()
    event.add("DTSTART", datetime(2026, 11, 22, 9, 0, tzinfo=UTC))
    assert AGENDA.as_occurrence(event, event, BERLIN).start.isoformat() == "2026-11-22T10:00:00+01:00"


def test_every_tool_is_offered_with_a_schema(agenda: Agenda) -> None:
    tool: Tool = agenda.tools["agenda_add"]
    assert tool.parameters["required"] == ["summary", "date"]
    assert agenda.tools["agenda_list"].idempotent
    assert not tool.idempotent
