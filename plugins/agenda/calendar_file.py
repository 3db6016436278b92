"""One iCalendar file (RFC 5545) that other programs may keep too.

It is read with icalendar and changed as bytes: what is added is spliced in before the end, what is
removed is cut out, and every other byte stays what it was. So properties, components and time zones
that this program does not know survive, in order and in their own spelling.

icalendar is imported by the first call, in its thread: the hub starts without it, as most homes do.

A change is written to a new file, flushed and renamed over the old: whoever reads, or pulls the
plug, sees the old file or the new one. A program that writes within the same few milliseconds can
still be overtaken: iCalendar files have no lock that both would keep.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct

if TYPE_CHECKING:
    import icalendar

# Parsing takes about a second per MB, and the file is read for each question.
MAX_BYTES: Final = 4 * 1024 * 1024

EMPTY: Final = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//apexbridge//agenda//EN\r\nEND:VCALENDAR\r\n"
_ID: Final = "RECURRENCE-ID"
_END: Final = re.compile(rb"^END:VCALENDAR\s*\Z", re.IGNORECASE | re.MULTILINE)
_EVENT: Final = re.compile(
    rb"^BEGIN:VEVENT[ \t]*\r?\n.*?^END:VEVENT[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE | re.DOTALL
)
# A parameter may be quoted, and the line folded.
_START: Final = re.compile(
    rb'^DTSTART((?:;(?:[^:\r\n"]|"[^"\r\n]*"|\r?\n[ \t])*)?):([^\r\n]*)', re.IGNORECASE | re.MULTILINE
)


class AgendaBroken(Exception):
    """The file can not be read as a calendar; it was not touched."""


class Occurrence(Struct, frozen=True):
    """One event on its day.

    Args:
        start: Date of an all-day event, else a time in the home's zone.
        end: Exclusive, as in the file.
        original: What the series had planned (RECURRENCE-ID), in the series' own zone.
    """

    uid: str
    summary: str
    location: str
    start: date | datetime
    end: date | datetime
    original: date | datetime
    is_recurring: bool

    @property
    def is_all_day(self) -> bool:
        """Whether it has no time of day."""
        return not isinstance(self.start, datetime)


class CalendarFile:
    """The bytes of one file and what they mean.

    Raises:
        AgendaBroken: They are not a whole calendar.
    """

    def __init__(self, content: bytes) -> None:
        import icalendar

        self.content = content
        with _reading():
            calendars = icalendar.Calendar.from_ical(content, multiple=True)
        if not calendars or {part.name for part in calendars} != {"VCALENDAR"} or not _END.search(content):
            raise _broken("no whole VCALENDAR")
        for calendar in calendars:
            # What has no day can not be expanded; recurring-ical-events 3.8 raises KeyError for it.
            calendar.subcomponents = [
                part for part in calendar.subcomponents if part.name != "VEVENT" or "DTSTART" in part
            ]
        self.calendars = calendars

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; one that does not exist is an empty calendar.

        Raises:
            AgendaBroken: It is there and is no calendar, or larger than `MAX_BYTES`.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            content = EMPTY
        if len(content) > MAX_BYTES:
            raise _broken(f"larger than {MAX_BYTES} bytes")
        return cls(content)

    def write(self, path: Path) -> None:
        """Replace the file in one step, keeping its mode and where a link points."""
        path = path.resolve()
        new = path.with_name(f".{path.name}.new")
        with new.open("wb") as file:
            file.write(self.content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
        # The rename itself is only on disk with the directory.
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def occurrences(self, first: date, last: date, zone: tzinfo) -> list[Occurrence]:
        """Return what happens from the first day to the last, in order; all-day events come first.

        An event so incomplete that it has no day is passed over.

        Raises:
            AgendaBroken: An event contradicts itself.
        """
        import recurring_ical_events

        start = datetime.combine(first, time(), zone)
        stop = datetime.combine(last + timedelta(days=1), time(), zone)
        found: list[Occurrence] = []
        with _reading():
            for calendar in self.calendars:
                masters = {str(event.get("UID")): event for event in _masters(calendar)}
                for event in recurring_ical_events.of(calendar, skip_bad_series=True).between(start, stop):
                    master = masters.get(str(event.get("UID")), event)
                    found.append(as_occurrence(event, master, zone))
        return sorted(found, key=lambda one: (one.start.isoformat(), one.summary))

    def events(self, zone: tzinfo) -> list[Occurrence]:
        """Return every event once, a series as its first day."""
        masters = [event for calendar in self.calendars for event in _masters(calendar)]
        with _reading():
            return [as_occurrence(event, event, zone) for event in masters]

    def with_event(self, event: "icalendar.Event", zone: tzinfo) -> Self:
        """Return the calendar with one more event, and its time zone if that is missing."""
        import icalendar

        key = str(zone)
        known = {str(part.get("TZID")) for one in self.calendars for part in one.walk("VTIMEZONE")}
        added = event.to_ical()
        if key not in known and b"TZID=" in added:
            added = icalendar.Timezone.from_tzid(key).to_ical() + added
        at = self._end()
        return type(self)(self.content[:at] + self._own_lines(added) + self.content[at:])

    def without(self, uid: str) -> Self:
        """Return the calendar without the event of that uid, and without all of its series."""
        return self._edited(lambda block, event: b"" if event.get("UID") == uid else block)

    def without_occurrence(self, gone: Occurrence) -> Self:
        """Return the calendar with a series less one of its occurrences."""

        def edit(block: bytes, event: "icalendar.Component") -> bytes:
            if event.get("UID") != gone.uid:
                return block
            if _ID not in event:
                return self._excluded(block, gone.original)
            return b"" if _same(event.decoded(_ID), gone.original) else block

        return self._edited(edit)

    def _edited(self, edit: "Callable[[bytes, icalendar.Component], bytes]") -> Self:
        import icalendar

        def each(found: re.Match[bytes]) -> bytes:
            return edit(found[0], icalendar.Event.from_ical(found[0]))

        return type(self)(_EVENT.sub(each, self.content))

    def _excluded(self, block: bytes, original: date | datetime) -> bytes:
        # An EXDATE is only honoured in the very form of the series' own DTSTART.
        start = _START.search(block)
        assert start is not None  # it had an occurrence
        form = "%Y%m%dT%H%M%S" if isinstance(original, datetime) else "%Y%m%d"
        value = original.strftime(form).encode() + (b"Z" if start[2].endswith(b"Z") else b"")
        line = b"EXDATE" + start[1] + b":" + value + b"\r\n"
        return block[: start.start()] + self._own_lines(line) + block[start.start() :]

    def _end(self) -> int:
        found = _END.search(self.content)
        assert found is not None  # __init__ has looked
        return found.start()

    def _own_lines(self, added: bytes) -> bytes:
        return added if b"\r\n" in self.content else added.replace(b"\r\n", b"\n")


def _masters(calendar: "icalendar.Component") -> "list[icalendar.Component]":
    return [event for event in calendar.walk("VEVENT") if _ID not in event]


def as_occurrence(event: Any, master: Any, zone: tzinfo) -> Occurrence:
    """Return what an event says, in the home's zone; `master` is the series it belongs to, or itself."""
    return Occurrence(
        uid=str(event.get("UID", "")),
        summary=str(event.get("SUMMARY", "")),
        location=str(event.get("LOCATION", "")),
        start=_at_home(event.start, zone),
        end=_at_home(event.end, zone),
        original=_in_zone_of(master.start, event.decoded(_ID, event.start)),
        is_recurring="RRULE" in master or "RDATE" in master,
    )


def _in_zone_of(start: date | datetime, moment: date | datetime) -> date | datetime:
    zones = getattr(start, "tzinfo", None), getattr(moment, "tzinfo", None)
    return moment.astimezone(zones[0]) if isinstance(moment, datetime) and all(zones) else moment


def _at_home(moment: date | datetime, zone: tzinfo) -> date | datetime:
    if not isinstance(moment, datetime):
        return moment
    return moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)


def _same(one: date | datetime, other: date | datetime) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        if one.tzinfo and other.tzinfo:
            return one.astimezone(UTC) == other.astimezone(UTC)
        # A zone of the file's own is unknown to an event read alone; both are in that zone.
        return one.replace(tzinfo=None) == other.replace(tzinfo=None)
    return one == other


@contextmanager
def _reading() -> Iterator[None]:
    # What icalendar 7.3 and recurring-ical-events 3.8 raise for 1,500 mutations of a real file.
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        raise _broken(str(fault)) from fault


def _broken(reason: str) -> AgendaBroken:
    said = "agenda.ics is no calendar I can read, it was left as it is / 日历文件无法读取，未作改动"
    return AgendaBroken(f"{said} ({reason[:200]})")
