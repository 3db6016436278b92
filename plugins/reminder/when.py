"""When somebody wants to be reminded, in their words: an instant, a span, or a cron line."""

from datetime import date, datetime, timedelta
from typing import Any, Final

from apexbridge_trio.plugins.dates import Unclear, read_day, read_days, read_moment, read_time

from .clocks import be_sure, clock_of, is_vague, parted, plain
from .hints import no_time
from .rhythm import cron_of
from .span import day_after, seconds_of

_TODAY: Final = frozenset({"today", "this", "今天", "今日"})


def when_of(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the keys of a reminder that say when.

    Raises:
        Unclear: The words say no time, or too much.
    """
    if "cron" in asked:
        zone = {"timezone": asked["timezone"]} if "timezone" in asked else {}
        return {"cron": asked["cron"], **zone}
    part, time = str(asked.get("part") or ""), asked.get("time")
    if "every" in asked:
        return {"cron": cron_of(asked["every"], time, part)}
    if "in" in asked:
        return _in(asked["in"], time or "", part, now)
    if "date" not in asked and "time" not in asked:
        raise no_time()
    return _instant(_at(asked.get("date") or "", time or "", part, now))


def _in(words: str, at: str, part: str, now: datetime) -> dict[str, Any]:
    """Say when a span is over: one of days when the clock shows the time, also over a change of it."""
    later = day_after(words, now.replace(tzinfo=None))
    if later is not None:
        clock = clock_of(part, at)
        return _instant(read_moment(later.date(), be_sure(clock)) if at else later)
    if at:
        raise no_time(f"{words} {at}")
    return {"in": seconds_of(words)}


def _instant(at: datetime) -> dict[str, Any]:
    return {"at": at.isoformat(timespec="minutes")}


def _at(words: str, at: str, part: str, now: datetime) -> datetime:
    now = now.replace(tzinfo=None)
    day, own = parted(plain(words).removeprefix("on "))
    clock = clock_of(own or part, at)
    if day:
        return _on(day, clock, now)
    # "At 7" alone is the next time that a clock with hands shows it.
    step = timedelta(hours=12) if is_vague(clock) else timedelta(days=1)
    found = datetime.combine(now.date(), read_time(clock))
    while found <= now:
        found += step
    return found


def _on(day: str, clock: str, now: datetime) -> datetime:
    """Return when a day's time is; of a day that is today, and whose time has passed, the next that fits."""
    today, is_today = now.date(), day in _TODAY
    first = today if is_today else _day(day, today)
    found = read_moment(first, clock)
    if first != today:
        return read_moment(first, be_sure(clock))
    if found > now:
        return found
    later = found + timedelta(hours=12)
    if is_vague(clock) and later > now and later.date() == today:
        return later
    # "Friday", said on Friday evening, is the next one; "today" can only be refused.
    return found if is_today else read_moment(_day(day, today + timedelta(days=1)), be_sure(clock))


def _day(words: str, today: date) -> date:
    """Return the day that is meant: of a weekend its Saturday, as what is for a day comes in its morning."""
    if words.endswith(("weekend", "周末")):
        return read_days(words, today)[0]
    try:
        return read_day(words, today)
    except Unclear:
        raise no_time(words) from None
