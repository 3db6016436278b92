"""When a reminder comes that is put off, or brought forward: what is not said stays as it was."""

from datetime import date, datetime
from typing import Any, Final

from apexbridge_trio.plugins.dates import Unclear, read_moment

from .clocks import be_sure, clock_of
from .hints import unclear
from .when import when_of

_NOON: Final = 12


def changed(old: dict[str, Any], asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the keys of a reminder that say when, as `when_of` does.

    Raises:
        Unclear: The words say no time, or not one that this reminder can have.
    """
    due = datetime.fromisoformat(old["next"])
    zone = {} if old["timezone"] == str(now.tzinfo) else {"timezone": old["timezone"]}
    if "every" in asked:
        return when_of(asked, now) | zone
    if old["cron"] is not None and asked.keys() & {"date", "in"}:
        raise unclear(
            str(asked.get("date") or asked["in"]),
            "It comes again and again. Say how often, as in: every Friday at 9 am.",
            "这个提醒是重复的，请说多久一次，例如：每周五早上9点。",
        )
    if "in" in asked or not asked.keys() & {"date", "time"}:
        return when_of(asked, now)
    if old["cron"] is not None:
        return {"cron": _moved(old["cron"], _sure(asked["time"], due))} | zone
    return when_of(_completed(asked, due), now.astimezone(due.tzinfo)) | zone


def _completed(asked: dict[str, Any], due: datetime) -> dict[str, Any]:
    """Return day and time, with what is not said as it was."""
    if "time" not in asked:
        return {"date": asked["date"], "time": f"{due:%H:%M}"}
    return asked if "date" in asked else {"date": due.date().isoformat(), "time": _sure(asked["time"], due)}


def _sure(time: str, due: datetime) -> str:
    """Return a time; of a reminder of the afternoon a bare hour is of either half of the day."""
    return be_sure(clock_of("", time), _NOON) if due.hour >= _NOON else be_sure(clock_of("", time))


def _moved(line: str, clock: str) -> str:
    """Return a cron line of the same days at another time."""
    minute, hour, *days = line.split()
    moment = read_moment(date.min, clock)
    if not (minute + hour).isdigit() or moment.date() != date.min:
        raise Unclear(f"{line!r} can not be moved to {clock}: remove it, and set it anew / 请取消后重新设置")
    return f"{moment.minute} {moment.hour} {' '.join(days)}"
