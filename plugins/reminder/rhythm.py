"""How often somebody wants to be reminded, as a cron line: what no line can keep exactly is refused."""

import re
from datetime import date
from typing import Final

from apexbridge_trio.plugins.dates import MONTHS, WEEKDAYS, Unclear, read_moment, read_number

from .clocks import be_sure, clock_of, parted, plain
from .hints import no_rhythm, unclear
from .span import seconds_of

DAYS: Final = {
    "": "* * *", "day": "* * *", "天": "* * *", "日": "* * *",
    "weekday": "* * 1-5", "工作日": "* * 1-5", "weekend": "* * 6,0", "周末": "* * 6,0",
}  # fmt: skip
_SAME: Final = {
    "daily": "day", "hourly": "hour", "天天": "天", "weekdays": "weekday", "weekends": "weekend",
}  # fmt: skip
_ORDER: Final = {
    "first": "#1", "second": "#2", "third": "#3", "fourth": "#4", "last": "L",
    "1st": "#1", "2nd": "#2", "3rd": "#3", "4th": "#4",
    "一": "#1", "二": "#2", "两": "#2", "三": "#3", "四": "#4", "最后一": "L",
}  # fmt: skip
# Days that not every month has.
_RARE: Final = 29
_N: Final = r"\d{1,2}|[一二三四五六七八九十]+"
_NTH: Final = rf"(?P<nth>{'|'.join(name for name in _ORDER if name.isascii())})"
_ENGLISH_DAY: Final = r"(mon|tue|wed|thu|fri|sat|sun)(?:s|nes|rs|ur)?(?:days?)?"
_CHINESE_DAY: Final = r"(?:周|星期|礼拜)"
_ORDINAL: Final = r"\d{1,2}[a-z]{2}"
_OF_MONTH: Final = r" of (?:every|each|the) month"
_DATES: Final = (
    rf"(?:年(?P<month>{_N})月|月的?)(?P<days>(?:{_N})[号日]?(?:[和跟、](?:{_N})[号日])*)",
    rf"(?:month on )?the (?P<days>{_ORDINAL}(?:(?:,|,? and) (?:the )?{_ORDINAL})*)(?:{_OF_MONTH})?",
    rf"(?:year on )?(?P<month>{'|'.join(MONTHS)})[a-z]* (?P<days>\d{{1,2}})(?:st|nd|rd|th)?",
)
_NTH_DAYS: Final = (
    rf"月的?第?(?P<nth>[一二两三四]|最后一)个?{_CHINESE_DAY}(?P<day>[一二三四五六日天])",
    rf"(?:month on )?the {_NTH} (?P<day>[a-z]+?)s?(?:{_OF_MONTH})?",
    rf"{_NTH} (?P<day>[a-z]+?){_OF_MONTH}",
)
_MONTH_ENDS: Final = (
    r"月(?:的?最后一天|月?底|月?末)",
    r"(?:month on )?the (?:last day|end)(?: of (?:every|each) month)?",
)
_WEEK: Final = "一二三四五六日"
_EVERY: Final = r"每[个到逢]?|从|(?:every|each|on|at)(?: |$)"
_ANY_DAY: Final = date(2000, 1, 3)
# Of two parts of each day, what says when they are.
_BOTH: Final = r"(?:每天|天天)(早)(晚)|every (morning) and (evening|night)"


def cron_of(every: str, at: str | None, part: str = "") -> str:
    """Return the cron line of a rhythm.

    Args:
        every: The rhythm, as "every weekday".
        at: Its time of day, or several: "8 am and 8 pm".
        part: The part of the day that an hour without one is in.

    Raises:
        Unclear: It is none, or none that the clock can keep.
    """
    text, own = parted(plain(every))
    times = re.split(r" and |[和、跟]", plain(at)) if at else [""]
    if not at and (both := re.fullmatch(_BOTH, plain(every))):
        text, own, times = "day", "", [one for one in both.groups() if one]
    rest = re.sub(_EVERY, "", text, count=1)
    rest = _SAME.get(rest, rest)
    if not (days := _days(rest)):
        return _interval(every, rest, at)
    clocks = [be_sure(clock_of(own or part, one)) for one in times]
    return f"{_times(clocks, is_daily=days == DAYS['day'])} {days}"


def _times(clocks: list[str], *, is_daily: bool) -> str:
    """Return the minute and the hours of a cron line."""
    begins = [read_moment(_ANY_DAY, clock) for clock in clocks]
    if not is_daily and any(one.date() != _ANY_DAY for one in begins):
        raise unclear(
            clocks[0],
            "Midnight is between two days: say 00:00, or 23:59.",
            "午夜在两天之间，请说 00:00 或 23:59。",
        )
    if len({one.minute for one in begins}) > 1:
        raise unclear(clocks[0], "These times need a reminder each.", "这几个时间请分开设提醒。")
    return f"{begins[0].minute} {','.join(map(str, sorted({one.hour for one in begins})))}"


def _days(rest: str) -> str:
    """Return the days of a rhythm as cron has them; empty: it is none of days."""
    if rest in DAYS:
        return DAYS[rest]
    if found := re.fullmatch(rf"(?:from )?{_ENGLISH_DAY} (?:to|through|till|until) {_ENGLISH_DAY}", rest):
        return _from_to(found[1], found[2])
    if found := re.fullmatch(
        rf"{_CHINESE_DAY}([一二三四五六日天])[到至]{_CHINESE_DAY}?([一二三四五六日天])", rest
    ):
        return _from_to(found[1], found[2])
    if found := re.fullmatch(rf"{_CHINESE_DAY}([一二三四五六日天和跟、及周]+)", rest):
        return _weekdays(re.findall("[一二三四五六日天]", found[1]))
    if re.fullmatch(rf"{_ENGLISH_DAY}(?:(?:,| and|, and)? {_ENGLISH_DAY})*", rest):
        return _weekdays(re.findall(_ENGLISH_DAY, rest))
    return _of_month(rest)


def _of_month(rest: str) -> str:
    if any(re.fullmatch(form, rest) for form in _MONTH_ENDS):
        return "L * *"
    for form in _NTH_DAYS:
        if (found := re.fullmatch(form, rest)) and found["day"][:3] in WEEKDAYS:
            return f"* * {_cron_day(found['day'][:3])}{_ORDER[found['nth']]}"
    for form in _DATES:
        if found := re.fullmatch(form, rest):
            return _of_dates(rest, found.groupdict().get("month"), re.findall(_N, found["days"]))
    return ""


def _of_dates(rest: str, month: str | None, days: list[str]) -> str:
    numbers = sorted({read_number(day) for day in days})
    if month is None and numbers[-1] >= _RARE:
        raise unclear(
            rest,
            f"Not every month has a day {numbers[-1]}. Say: on the last day of every month.",
            f"不是每个月都有{numbers[-1]}号。可以说：每月最后一天。",
        )
    of_year = "*" if month is None else MONTHS.get(month) or read_number(month)
    return f"{','.join(map(str, numbers))} {of_year} *"


def _from_to(first: str, last: str) -> str:
    begin, end = WEEKDAYS[first], WEEKDAYS[last]
    return _weekdays([_WEEK[day % 7] for day in range(begin, end + (7 if end < begin else 0) + 1)])


def _weekdays(days: list[str]) -> str:
    return f"* * {','.join(str(_cron_day(day)) for day in days)}"


def _cron_day(day: str) -> int:
    return (WEEKDAYS[day] + 1) % 7


def _interval(every: str, rest: str, at: str | None) -> str:
    rest = rest.removeprefix("隔")
    minutes, left = divmod(3600 if rest in {"hour", "小时", "钟头"} else _seconds(every, rest), 60)
    if at or left:
        raise no_rhythm(every)
    if 0 < minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"
    if 0 < minutes < 1440 and minutes % 60 == 0 and 1440 % minutes == 0:
        return f"0 */{minutes // 60} * * *"
    raise no_rhythm(every)


def _seconds(every: str, rest: str) -> int:
    try:
        return seconds_of(rest)
    except Unclear:
        raise no_rhythm(every) from None
