"""When somebody wants to be reminded, in their words: an instant, a span, or a cron line."""

import re
from datetime import date, datetime, timedelta
from typing import Any, Final

from apexbridge_trio.plugins.dates import (
    MONTHS,
    WEEKDAYS,
    WORDS,
    Unclear,
    read_day,
    read_moment,
    read_number,
    read_time,
)

# A day or a rhythm that names no time, and what a part of the day means that names none.
USUAL: Final = "09:00"
PARTS: Final = {
    "凌晨": "05:00", "清晨": "07:00", "早上": "08:00", "早晨": "08:00", "早": "08:00", "上午": "09:00",
    "中午": "noon", "下午": "15:00", "傍晚": "18:00", "晚上": "20:00", "晚": "20:00",
    "morning": "08:00", "afternoon": "15:00", "evening": "20:00", "night": "20:00",
}  # fmt: skip
# Compiled by the first question, and kept by `re`, as all that follow.
_PARTED: Final = rf"(?P<rest>.*?) ?(?:in the )?(?P<part>{'|'.join(PARTS)})"
_ONE_WORD: Final = {
    "tonight": "today night", "今晚": "今天晚上", "今早": "今天早上", "明早": "明天早上", "明晚": "明天晚上",
}  # fmt: skip
UNITS: Final = (
    (r"秒钟?|s|secs?|seconds?", 1),
    (r"分钟?|m|mins?|minutes?", 60),
    (r"刻钟|quarters? of an hour", 900),
    (r"个?(?:小时|钟头)|h|hrs?|hours?", 3600),
    (r"天|d|days?", 86_400),
    (r"个?星期|个?礼拜|周|w|weeks?", 604_800),
)
_NUMBER: Final = rf"\d{{1,6}}(?:\.\d{{1,2}})?|[一二两三四五六七八九十]+|an?(?: couple of)?|{WORDS}"
_SPAN: Final = (
    rf"(?:(?P<only>half an?|half|半个?)|(?P<number>{_NUMBER})(?P<more>个半| and a half)?) ?"
    rf"(?<![a-z])(?P<unit>{'|'.join(unit for unit, _ in UNITS)})(?![a-z])(?P<rest> and a half|半)?"
)
DAYS: Final = {
    "": "* * *", "day": "* * *", "天": "* * *", "日": "* * *",
    "weekday": "* * 1-5", "工作日": "* * 1-5", "weekend": "* * 6,0", "周末": "* * 6,0",
}  # fmt: skip
_SAME: Final = {
    "daily": "day", "hourly": "hour", "天天": "天", "weekdays": "weekday", "weekends": "weekend",
}  # fmt: skip
_DATES: Final = (
    r"(?:年(?P<month>\d{1,2}|[一二三四五六七八九十]+)月|月)(?P<day>\d{1,2}|[一二三四五六七八九十]+)[号日]?",
    r"(?:month on )?the (?P<day>\d{1,2})[a-z]{2}(?: of (?:every|each|the) month)?",
    r"year on (?P<month>[a-z]+) (?P<day>\d{1,2})(?:st|nd|rd|th)?",
)
_ANY_DAY: Final = date(2000, 1, 3)
_TODAY: Final = frozenset({"today", "this", "今天", "今日"})
_EVERY: Final = r"每个?隔?|(?:every|each|on)(?: |$)"
_ENGLISH_DAY: Final = r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*"
_VAGUE: Final = (
    rf"(?:(?:half|quarter) (?:past|to) )?(0?)(\d{{1,2}}|[一二两三四五六七八九十]+|{WORDS})"
    r"(?:点钟?|点整| ?o'clock|[:.点]\d\d分?|点半|点一刻|点三刻|点零?[一二三四五六七八九十]+分?)?"
)


def when_of(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the keys of a reminder that say when.

    Raises:
        Unclear: The words say no time, or too much.
    """
    if "cron" in asked:
        zone = {"timezone": asked["timezone"]} if "timezone" in asked else {}
        return {"cron": asked["cron"], **zone}
    if "every" in asked:
        return {"cron": cron_of(asked["every"], asked.get("time"))}
    if "in" in asked:
        return {"in": seconds_of(asked["in"])}
    if "date" not in asked and "time" not in asked:
        raise Unclear("say when: in how long, or at what time / 请说明什么时候提醒")
    return {"at": _at(asked.get("date") or "", asked.get("time") or "", now).isoformat(timespec="minutes")}


def seconds_of(words: str) -> int:
    """Return the length of a span of time, which may have several parts: 1 hour and 30 minutes.

    Raises:
        Unclear: It is none.
    """
    text = _plain(words).removeprefix("in ").removesuffix("后")
    found = list(re.finditer(_SPAN, text))
    between = re.sub(_SPAN, "", text)
    if not found or re.sub(r"and|[零又加, ]", "", between):
        raise Unclear(f"{text!r} is no span of time I know / 看不懂这个时长")
    return round(sum(map(_seconds, found)))


def _seconds(span: re.Match[str]) -> float:
    factor = next(seconds for unit, seconds in UNITS if re.fullmatch(unit, span["unit"]))
    number = 0.5 if span["only"] else _count(span["number"])
    return factor * (number + 0.5 * bool(span["more"] or span["rest"]))


def _count(words: str) -> float:
    known = {"a": 1, "an": 1, "a couple of": 2}
    return known[words] if words in known else float(words) if "." in words else read_number(words)


def cron_of(every: str, at: str | None) -> str:
    """Return the cron line of a rhythm.

    Raises:
        Unclear: It is none, or none that the clock can keep.
    """
    text, part = _parted(_plain(every))
    rest = re.sub(_EVERY, "", text, count=1)
    rest = _SAME.get(rest, rest)
    begins = read_moment(_ANY_DAY, _clock(part, at or ""))
    if not (days := _days(rest)):
        return _interval(every, rest)
    if begins.date() != _ANY_DAY and days != DAYS["day"]:
        raise Unclear(
            f"{at!r} is between two days: say 00:00, or 23:59 / 午夜在两天之间，请说 00:00 或 23:59"
        )
    return f"{begins.minute} {begins.hour} {days}"


def _days(rest: str) -> str:
    """Return the days of a rhythm as cron has them; empty: it is none of days."""
    if rest in DAYS:
        return DAYS[rest]
    if found := re.fullmatch(r"(?:周|星期|礼拜)([一二三四五六日天和跟、及周]+)", rest):
        return _weekdays(re.findall("[一二三四五六日天]", found[1]))
    if re.fullmatch(rf"{_ENGLISH_DAY}(?:(?:,| and|, and)? {_ENGLISH_DAY})*", rest):
        return _weekdays(re.findall(_ENGLISH_DAY, rest))
    for pattern in _DATES:
        if found := re.fullmatch(pattern, rest):
            month = found.groupdict().get("month")
            of_year = "*" if month is None else MONTHS.get(month[:3]) or read_number(month)
            return f"{read_number(found['day'])} {of_year} *"
    return ""


def _weekdays(days: list[str]) -> str:
    return f"* * {','.join(str((WEEKDAYS[day] + 1) % 7) for day in days)}"


def _interval(every: str, rest: str) -> str:
    seconds = 3600 if rest in {"hour", "小时", "钟头"} else seconds_of(rest)
    minutes, hours = seconds // 60, seconds // 3600
    if 0 < minutes < 60 and seconds % 60 == 0 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"
    if 0 < hours < 24 and seconds % 3600 == 0 and 24 % hours == 0:
        return f"0 */{hours} * * *"
    raise Unclear(f"{every!r} does not fit into an hour or a day / 间隔须能整除一小时或一天")


def _at(words: str, at: str, now: datetime) -> datetime:
    now = now.replace(tzinfo=None)
    day, part = _parted(_plain(words).removeprefix("on "))
    clock = _clock(part, at)
    if day:
        return _on(day, clock, now)
    # "At 7" alone is the next time that a clock with hands shows it.
    step = timedelta(hours=12) if _is_vague(clock) else timedelta(days=1)
    found = datetime.combine(now.date(), read_time(clock))
    while found <= now:
        found += step
    return found


def _on(day: str, clock: str, now: datetime) -> datetime:
    """Return when a day's time is; of a day that is today, and whose time has passed, the next that fits."""
    today, is_today = now.date(), day in _TODAY
    first = today if is_today else read_day(day, today)
    found = read_moment(first, clock)
    if found > now or first != today:
        return found
    later = found + timedelta(hours=12)
    if _is_vague(clock) and later > now and later.date() == today:
        return later
    # "Friday", said on Friday evening, is the next one; "today" can only be refused.
    return found if is_today else read_moment(read_day(day, today + timedelta(days=1)), clock)


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())


def _parted(words: str) -> tuple[str, str]:
    """Return days, and the part of the day that they end with, if they do."""
    words = _ONE_WORD.get(words, words)
    found = re.fullmatch(_PARTED, words)
    return (found["rest"], found["part"]) if found else (words, "")


def _clock(part: str, at: str) -> str:
    """Return a time of day with the part of the day that it is in."""
    clock = _plain(at).removeprefix("at ") or PARTS.get(part, USUAL)
    if clock in PARTS:
        return PARTS[clock]
    if not at or not part or not re.fullmatch(_VAGUE, clock):
        return clock
    return f"{clock} in the {part}" if part.isascii() else f"{part}{clock}"


def _is_vague(clock: str) -> bool:
    found = re.fullmatch(_VAGUE, clock)
    return found is not None and not found[1] and 1 <= read_number(found[2]) <= 12
