"""The family's agenda: list, add and remove events of one iCalendar file in the state directory.

All file work happens in a thread, one at a time, from read to rename: there is no moment at which
two calls hold the same old content, and an interrupt finds the change not begun or complete.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct

from apexbridge_trio.plugins import PluginHome
from apexbridge_trio.plugins.dates import Unclear, read_day, read_days, read_moment, read_time

from .calendar_file import CalendarFile, Occurrence, as_occurrence

if TYPE_CHECKING:
    import icalendar

T = TypeVar("T")
Text = Annotated[str, Meta(min_length=1, max_length=500)]

# A model reads the list; more than this is no answer to a question.
MAX_LISTED: Final = 100
# How far a removal without a day looks ahead, and the longest list.
YEAR: Final = timedelta(days=366)
# An appointment without an end: the default of the usual calendar programs.
USUAL_LENGTH: Final = timedelta(hours=1)

# The owner of the file: whoever holds it may read and write. Callers wait in order, as long as
# their own call may take.
_FILE: Final = trio.CapacityLimiter(1)


class ListArguments(Struct, forbid_unknown_fields=True):
    """What `agenda_list` takes."""

    date: Text = "today"
    until: Text | None = None


class AddArguments(Struct, forbid_unknown_fields=True):
    """What `agenda_add` takes."""

    summary: Text
    date: Text
    time: Text | None = None
    end_date: Text | None = None
    end_time: Text | None = None
    location: Text | None = None
    repeat: Literal["daily", "weekly", "monthly", "yearly"] | None = None


class RemoveArguments(Struct, forbid_unknown_fields=True):
    """What `agenda_remove` takes."""

    uid: Text | None = None
    summary: Text | None = None
    date: Text | None = None
    time: Text | None = None
    series: bool = False

    @property
    def names_series(self) -> bool:
        """Whether all days of a series are meant."""
        return self.series or (self.uid is not None and self.date is None)


async def agenda_list(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """List what happens on a day or in a range of days, in order."""
    asked = msgspec.convert(arguments, ListArguments)
    today = home.now().date()
    first, last = read_days(asked.date, today)
    if asked.until:
        last = read_days(asked.until, today)[1]
    if not timedelta() <= last - first <= YEAR:
        raise Unclear("the range is over a year long or ends before it begins / 日期范围不对")
    found = await _in_thread(_list, _file_of(home), first, last, home)
    return {
        "first": first.isoformat(),
        "last": last.isoformat(),
        "count": len(found),
        "events": [_told(one) for one in found[:MAX_LISTED]],
    }


async def agenda_add(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Add one event; it is on the disk when this returns.

    Cancellation: before the write begins nothing happens; a write that has begun is completed.
    """
    asked = msgspec.convert(arguments, AddArguments)
    return {"added": _told(await _in_thread(_add, _file_of(home), asked, home))}


async def agenda_remove(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Remove the one event that fits; with none or several nothing is changed and they are told.

    Cancellation: as `agenda_add`.
    """
    asked = msgspec.convert(arguments, RemoveArguments)
    if not (asked.uid or asked.summary):
        raise Unclear("say which event: its uid, or its title / 请说明是哪一项日程")
    removed, candidates = await _in_thread(_remove, _file_of(home), asked, home)
    return {
        "removed": _told(removed) if removed else None,
        "candidates": [_told(one) for one in candidates[:MAX_LISTED]],
    }


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    # Not abandoned on cancel: the work is bounded by the file's size, and half a change is none.
    return await trio.to_thread.run_sync(work, *arguments, limiter=_FILE)


def _file_of(home: PluginHome) -> Path:
    return home.state / "agenda.ics"


def _zone(home: PluginHome) -> tzinfo:
    zone = home.now().tzinfo
    assert zone is not None  # PluginHome promises it
    return zone


def _list(file: Path, first: date, last: date, home: PluginHome) -> list[Occurrence]:
    return CalendarFile.read(file).occurrences(first, last, _zone(home))


def _add(file: Path, asked: AddArguments, home: PluginHome) -> Occurrence:
    event = _event(asked, home.now())
    CalendarFile.read(file).with_event(event, _zone(home)).write(file)
    return as_occurrence(event, event, _zone(home))


def _remove(
    file: Path, asked: RemoveArguments, home: PluginHome
) -> tuple[Occurrence | None, list[Occurrence]]:
    calendar = CalendarFile.read(file)
    candidates = _candidates(calendar, asked, home)
    chosen = candidates[0] if candidates else None
    if chosen is None or not chosen.uid or len({one.uid for one in candidates}) > 1:
        return None, candidates
    if asked.names_series or not chosen.is_recurring:
        calendar.without(chosen.uid).write(file)
    elif len(candidates) > 1:
        return None, candidates
    else:
        calendar.without_occurrence(chosen).write(file)
    return chosen, []


def _candidates(calendar: CalendarFile, asked: RemoveArguments, home: PluginHome) -> list[Occurrence]:
    today = home.now().date()
    first, last = read_days(asked.date, today) if asked.date else (today, today + YEAR)
    if asked.uid and not asked.date:
        known = calendar.events(_zone(home))
    else:
        known = calendar.occurrences(first, last, _zone(home))
    found = [one for one in known if _fits(one, asked)]
    exact = [one for one in found if asked.summary and _plain(one.summary) == _plain(asked.summary)]
    return exact or found


def _fits(one: Occurrence, asked: RemoveArguments) -> bool:
    begins = one.start.time() if isinstance(one.start, datetime) else None
    return (
        (asked.uid is None or one.uid == asked.uid)
        and (asked.summary is None or _plain(asked.summary) in _plain(one.summary))
        and (asked.time is None or begins == read_time(asked.time))
    )


def _plain(title: str) -> str:
    return "".join(title.split()).casefold()


def _event(asked: AddArguments, now: datetime) -> "icalendar.Event":
    import icalendar

    start, end = _span(asked, now)
    if end <= start:
        raise Unclear("it ends before it begins / 结束时间早于开始时间")
    event = icalendar.Event()
    event.add("UID", str(uuid.uuid4()))
    event.add("DTSTAMP", now.astimezone(UTC))
    event.add("SUMMARY", asked.summary.strip())
    event.add("DTSTART", _stored(start))
    event.add("DTEND", _stored(end))
    if asked.location:
        event.add("LOCATION", asked.location)
    if asked.repeat:
        event.add("RRULE", {"FREQ": asked.repeat.upper()})
    return event


def _stored(moment: date) -> date:
    # A zone without a name, a bare offset, can not be written down; the moment itself can.
    if isinstance(moment, datetime) and not getattr(moment.tzinfo, "key", None):
        return moment.astimezone(UTC)
    return moment


def _span(asked: AddArguments, now: datetime) -> tuple[date, date]:
    day = read_day(asked.date, now.date())
    last = read_day(asked.end_date, now.date()) if asked.end_date else day
    if asked.time is None:
        return day, last + timedelta(days=1)
    start = read_moment(day, asked.time).replace(tzinfo=now.tzinfo)
    if asked.end_time:
        return start, read_moment(last, asked.end_time).replace(tzinfo=now.tzinfo)
    return start, start + USUAL_LENGTH


def _told(one: Occurrence) -> dict[str, Any]:
    """Put an event into JSON; the end of an all-day event is its last day."""
    end = max(one.end - timedelta(days=1), one.start) if one.is_all_day else one.end
    told = {
        "uid": one.uid,
        "summary": one.summary,
        "start": one.start.isoformat(),
        "end": end.isoformat(),
        "all_day": one.is_all_day,
    }
    if one.location:
        told["location"] = one.location
    if one.is_recurring:
        told["recurring"] = True
    return told
