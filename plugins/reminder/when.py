"""When somebody wants to be reminded, in their words: an instant, a span, or a cron line."""

import re
from datetime import datetime, time, timedelta
from typing import Any, Final

from apexbridge_trio.plugins.dates import WEEKDAYS, Unclear, read_day, read_number, read_time

# A day without a time, or a rhythm without one.
USUAL: Final = time(9)
TIMES: Final = {"every morning": time(8), "every evening": time(20)}
# Compiled by the first question, and kept by `re`.
UNITS: Final = (
    (r"秒钟?|s|secs?|seconds?", 1),
    (r"分钟?|m|mins?|minutes?", 60),
    (r"个?(?:小时|钟头)|h|hours?", 3600),
    (r"天|d|days?", 86_400),
    (r"个?星期|周|w|weeks?", 604_800),
)
SPANS: Final = {
    "半小时": 1800, "半个小时": 1800, "半个钟头": 1800, "一刻钟": 900, "三刻钟": 2700, "一个半小时": 5400,
    "half an hour": 1800,
}  # fmt: skip
WORDS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "five": 5, "ten": 10}
DAYS: Final = {
    "day": "* * *", "天": "* * *", "日": "* * *", "morning": "* * *", "evening": "* * *",
    "weekday": "* * 1-5", "工作日": "* * 1-5", "weekend": "* * 6,0", "周末": "* * 6,0",
}  # fmt: skip
_EVERY: Final = re.compile(r"每个?隔?|every ")
_PLAIN: Final = re.compile(
    r"(?:at )?(0?)(\d{1,2}|[一二两三四五六七八九十]+)(?:点钟?|点整|o'clock|[:.点]\d\d分?|点半|点一刻|点三刻)?"
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
    return {"at": _at(asked.get("date"), asked.get("time"), now).isoformat(timespec="minutes")}


def seconds_of(words: str) -> int:
    """Return the length of a span of time.

    Raises:
        Unclear: It is none.
    """
    text = " ".join(words.casefold().split()).removeprefix("in ").removesuffix("后")
    if text in SPANS:
        return SPANS[text]
    number, unit = _number_and_unit(text)
    return number * unit


def _number_and_unit(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6}|[一二两三四五六七八九十]+|[a-z]+) ?(.+)", text)
    factor = next((seconds for unit, seconds in UNITS if found and re.fullmatch(unit, found[2])), None)
    if (
        found is None
        or factor is None
        or (found[1].isalpha() and found[1].isascii() and found[1] not in WORDS)
    ):
        raise Unclear(f"{text!r} is no span of time I know / 看不懂这个时长")
    return WORDS[found[1]] if found[1] in WORDS else read_number(found[1]), factor


def cron_of(every: str, at: str | None) -> str:
    """Return the cron line of a rhythm.

    Raises:
        Unclear: It is none, or none that the clock can keep.
    """
    text = " ".join(every.casefold().split())
    text = {"daily": "every day", "hourly": "every hour", "天天": "每天", "工作日": "每工作日"}.get(
        text, text
    )
    rest = _EVERY.sub("", text, count=1)
    moment = read_time(at) if at else TIMES.get(text, USUAL)
    clock = f"{moment.minute} {moment.hour}"
    if rest in DAYS:
        return f"{clock} {DAYS[rest]}"
    if found := re.fullmatch(
        r"(?:周|星期|礼拜)([一二三四五六日天])|(mon|tue|wed|thu|fri|sat|sun)[a-z]*", rest
    ):
        return f"{clock} * * {(WEEKDAYS[found[1] or found[2]] + 1) % 7}"
    if found := re.fullmatch(r"月(\d{1,2}|[一二三四五六七八九十]+)[号日]?", rest):
        return f"{clock} {read_number(found[1])} * *"
    return _interval(every, rest)


def _interval(every: str, rest: str) -> str:
    number, unit = (1, 3600) if rest in {"hour", "小时", "钟头"} else _number_and_unit(rest)
    if unit == 60 and 0 < number < 60 and 60 % number == 0:
        return f"*/{number} * * * *"
    if unit == 3600 and 0 < number < 24 and 24 % number == 0:
        return f"0 */{number} * * *"
    raise Unclear(f"{every!r} does not fit into an hour or a day / 间隔须能整除一小时或一天")


def _at(date: str | None, at: str | None, now: datetime) -> datetime:
    today = now.replace(tzinfo=None)
    moment = read_time(at) if at else USUAL
    if date:
        if date.casefold() in {"tonight", "今晚", "明晚"} and at and moment.hour < 12:
            moment = moment.replace(hour=moment.hour + 12)
        return datetime.combine(read_day(date, today.date()), moment)
    found = datetime.combine(today.date(), moment)
    # "At 7" alone is the next time that a clock with hands shows it.
    step = timedelta(hours=12) if _is_vague(at or "") else timedelta(days=1)
    while found <= today:
        found += step
    return found


def _is_vague(at: str) -> bool:
    found = _PLAIN.fullmatch(" ".join(at.casefold().split()))
    return found is not None and not found[1] and 1 <= read_number(found[2]) <= 12
