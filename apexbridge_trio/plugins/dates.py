"""Days and times in the words people use, Chinese and English.

A weekday alone is the next one, today included; with 这/this it is of this week, with 下/next of the
next; weeks begin on Monday (GB/T 7408, ISO 8601). A month and day without a year, or a day alone,
is the next one, today included.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Final

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.boundary import shown

DIGITS: Final = {word: value for value, word in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
NEAR: Final = {
    "大前天": -3, "前天": -2, "昨天": -1, "昨日": -1, "今天": 0, "今日": 0, "今晚": 0, "今早": 0,
    "明天": 1, "明日": 1, "明早": 1, "明晚": 1, "后天": 2, "大后天": 3,
    "the day before yesterday": -2, "yesterday": -1, "today": 0, "tonight": 0, "tomorrow": 1,
    "the day after tomorrow": 2, "day after tomorrow": 2,
}  # fmt: skip
TURN: Final = {"上": -1, "这": 0, "本": 0, "下": 1, "last": -1, "this": 0, "the": 0, "next": 1}
WEEKDAYS: Final = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6} | {
    word: value for value, word in enumerate("一二三四五六日")
} | {"天": 6}  # fmt: skip
MONTHS: Final = {
    word: value
    for value, word in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
QUARTERS: Final = {"一刻": 15, "半": 30, "三刻": 45, "quarter": 15, "half": 30}
AFTERNOON: Final = frozenset({"下午", "傍晚", "pm", "afternoon", "evening"})
# Its first hours are of the day, those from midnight on of the night that has begun on it.
NIGHT: Final = frozenset({"晚上", "今晚", "明晚", "晚", "夜里", "半夜", "深夜", "night", "tonight"})
NIGHT_ENDS: Final = 5
MIDNIGHT: Final = frozenset({"midnight", "午夜", "半夜"})

ONES: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
TEENS: Final = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
NUMBERS: Final = ONES | TEENS | TENS
WORDS: Final = rf"(?:(?:{'|'.join(TENS)})(?:[ -](?:{'|'.join(ONES)}))?|{'|'.join(ONES | TEENS)})"
_N = r"([0-9]+|[零〇一二两三四五六七八九十]+)"
_WEEKDAY = r"(?P<day>mon|tue|wed|thu|fri|sat|sun)(?:s|nes|rs|ur)?(?:day)?"
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ORDINAL = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"

Days = tuple[date, date]


class Unclear(ToolFailed):
    """The words name no day, or no time; no plugin has failed, who said them can say it otherwise."""

    code = "unclear"

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


def read_days(words: str, today: date) -> Days:
    """Return the first and the last day that `words` name: a day, a week, a weekend, a month.

    Raises:
        Unclear: They name none.
    """
    text = re.sub(r"^(?:on|at|for) |'s$", "", _fold(words))
    if text in NEAR:
        day = today + timedelta(days=NEAR[text])
        return day, day
    try:
        for pattern, read in _READERS:
            if found := re.fullmatch(pattern, text):
                return read(found, today)
    except (ValueError, OverflowError):
        pass  # the form is right and the day does not exist
    raise Unclear(f"{words!r} is no day I know / 看不懂这个日期")


def read_day(words: str, today: date) -> date:
    """Return the one day that `words` name.

    Raises:
        Unclear: They name none, or several.
    """
    first, last = read_days(words, today)
    if first != last:
        raise Unclear(f"{words!r} is more than one day / 需要具体的某一天")
    return first


def read_time(words: str) -> time:
    """Return the time of day that `words` name, to the minute.

    Raises:
        Unclear: They name none.
    """
    return _read_time(words)[0]


def read_moment(day: date, words: str) -> datetime:
    """Return when a day's time of day is; midnight, and what is past it, is of the night that begins then.

    Raises:
        Unclear: They name none.
    """
    moment, nights = _read_time(words)
    return datetime.combine(day + timedelta(days=nights), moment)


def _read_time(words: str) -> tuple[time, int]:
    """Return a time of day, and 1 if it is of the night that began on the day before."""
    text = re.sub(r"(?<=[ap])\.(?=m)|\.$", "", _fold(words).removeprefix("at "))
    if text in {"noon", "中午", "正午"}:
        return time(12), 0
    if text in MIDNIGHT:
        return time(0), 1
    if text == "零点":
        return time(0), 0
    found = next((one for form in _TIMES if (one := re.fullmatch(form, text))), None)
    try:
        if found:
            return _time_of(found.groupdict())
    except ValueError:
        pass  # 25:00
    raise Unclear(f"{words!r} is no time I know / 看不懂这个时间")


def _time_of(found: dict[str, str | None]) -> tuple[time, int]:
    part, hour = found["part"] or "", read_number(found["hour"] or "")
    words = re.sub(r"^a | minutes?$", "", found.get("quarters") or found["minute"] or "0")
    minute = QUARTERS[words] if words in QUARTERS else read_number(words)
    if found.get("to"):
        hour, minute = (hour - 1) or 12, 60 - minute
    is_past_midnight = part in NIGHT and (hour == 12 or hour < NIGHT_ENDS)
    is_late = part in AFTERNOON or (part in NIGHT and not is_past_midnight)
    if (is_late and hour < 12) or (part == "中午" and hour < 11):
        hour += 12
    elif hour == 12 and (is_past_midnight or part in {"am", "凌晨", "上午", "morning"}):
        hour = 0
    return time(hour, minute), int(is_past_midnight)


# Compiled by the first question, as `_READERS` are.
_PART: Final = (
    r"(?P<part>凌晨|清晨|早上|早晨|今早|明早|早|上午|中午|下午|傍晚|晚上|今晚|明晚|晚|夜里|半夜|深夜)?的?"
)
_ENGLISH_TIME: Final = (
    rf"(?:(?P<quarters>half|(?:a )?quarter|(?:\d{{1,2}}|{WORDS})(?: minutes?)?) (?:past|(?P<to>to)) )?"
    rf"(?P<hour>\d{{1,2}}|{WORDS})(?:[:.](?P<minute>\d\d))?(?: ?o'clock)?"
    r"(?: ?(?:(?:in the|at|this) )?(?P<part>am|pm|morning|afternoon|evening|night|tonight))?"
)
_TIMES: Final = (
    rf"{_PART}(?P<hour>{_N})(?:点|时|:)钟?整?(?P<minute>半|一刻|三刻|{_N})?分?",
    rf"{_PART}(?P<to>差)(?P<minute>一刻|{_N})分?钟?(?P<hour>{_N})点钟?",
    rf"{_PART}(?P<hour>{_N})点(?P<to>差)(?P<minute>一刻|{_N})分?钟?",
    _ENGLISH_TIME,
)


def _fold(words: str) -> str:
    text = unicodedata.normalize("NFKC", words).casefold().replace("’", "'")
    return ("" if re.search(r"[一-鿿]", text) else " ").join(text.split())


def read_number(text: str) -> int:
    """Return the number that digits write, or words up to 99, Chinese or English."""
    if text.isdecimal():
        return int(text)
    if text.isascii():
        return sum(NUMBERS[word] for word in text.replace("-", " ").split())
    tens, ten, units = text.rpartition("十")
    value = int("".join(str(DIGITS[digit]) for digit in units) or "0")
    return value + 10 * (read_number(tens) if tens else 1) if ten else value


def _iso(found: re.Match[str], _: date) -> Days:
    day = date(*map(int, found.groups()))
    return day, day


def _later(found: re.Match[str], today: date) -> Days:
    unit = 7 if found["unit"] in {"周", "星期", "week", "weeks"} else 1
    day = today + timedelta(days=read_number(found["n"]) * unit)
    return day, day


def _weekday(found: re.Match[str], today: date) -> Days:
    number = WEEKDAYS[found["day"]]
    if found["turn"] is None:
        day = today + timedelta(days=(number - today.weekday()) % 7)
    else:
        day = _monday(found["turn"], today) + timedelta(days=number)
    return day, day


def _week(found: re.Match[str], today: date) -> Days:
    monday = _monday(found["turn"] or "this", today)
    return monday, monday + timedelta(days=6)


def _weekend(found: re.Match[str], today: date) -> Days:
    monday = _monday(found["turn"] or "this", today)
    return monday + timedelta(days=5), monday + timedelta(days=6)


def _monday(turns: str, today: date) -> date:
    return today + timedelta(days=7 * _turns(turns) - today.weekday())


def _month(found: re.Match[str], today: date) -> Days:
    months = _turned(found["turn"], today)
    last = _first_of(months + 1) - timedelta(days=1)
    return _first_of(months), last


def _month_end(found: re.Match[str], today: date) -> Days:
    last = _first_of(_turned(found["turn"] or "this", today) + 1) - timedelta(days=1)
    return last, last


def _day_of_month(found: re.Match[str], today: date) -> Days:
    day = _first_of(_turned(found["turn"], today)).replace(day=read_number(found["day"]))
    return day, day


def _turned(turns: str, today: date) -> int:
    """Return the months until the one that `turns` name, counted from the year 0."""
    return today.year * 12 + today.month - 1 + _turns(turns)


def _turns(turns: str) -> int:
    return sum(TURN[turn] for turn in ([turns] if turns in TURN else turns))


def _first_of(months: int) -> date:
    return date(months // 12, months % 12 + 1, 1)


def _month_day(found: re.Match[str], today: date) -> Days:
    words = found.groupdict()
    month = MONTHS.get(words["month"]) or read_number(words["month"])
    day, year = read_number(words["day"]), words.get("year")
    if year:
        return (date(read_number(year), month, day),) * 2
    # Eight years hold at least one 29 February.
    return _next(today, [(today.year + ahead, month, day) for ahead in range(9)])


def _day_alone(found: re.Match[str], today: date) -> Days:
    months = today.year * 12 + today.month - 1
    day = read_number(found["day"])
    return _next(today, [((months + n) // 12, (months + n) % 12 + 1, day) for n in range(3)])


def _next(today: date, candidates: list[tuple[int, int, int]]) -> Days:
    for year, month, day in candidates:
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found >= today:
            return found, found
    raise ValueError("no such day")


# Compiled by the first question, and kept by `re`: the hub starts without them.
_READERS: Final[tuple[tuple[str, Callable[[re.Match[str], date], Days]], ...]] = (
    (r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", _iso),
    (rf"(?P<n>{_N})个?(?P<unit>天|日|周|星期)(?:以?后|之后)", _later),
    (r"in (?P<n>\d+) (?P<unit>days?|weeks?)", _later),
    (r"(?P<turn>上+|这|本|下+)?个?(?:周|星期|礼拜)(?P<day>[一二三四五六日天])", _weekday),
    (rf"(?:(?P<turn>last|this|next) )?{_WEEKDAY}", _weekday),
    (rf"{_WEEKDAY} (?P<turn>this|next) week", _weekday),
    (rf"(?P<turn>this|next) week,? (?:on )?{_WEEKDAY}", _weekday),
    (r"(?P<turn>上+|这|本|下+)个?(?:周|星期|礼拜)", _week),
    (r"(?:(?:the )?(?P<turn>last|this|next)|the) week", _week),
    (r"(?P<turn>上+|这|本|下+)?个?周末", _weekend),
    (r"(?:(?:the )?(?P<turn>last|this|next)|the) weekend", _weekend),
    (r"(?P<turn>上|这|本|下)个?月", _month),
    (r"(?P<turn>这|本|下+)?个?月的?(?:底|末|最后一天)", _month_end),
    (r"(?:the )?(?:end|last day) of (?P<turn>the|this|next) month", _month_end),
    (rf"(?P<turn>这|本|下+)个?月的?(?P<day>{_N})[号日]", _day_of_month),
    (rf"(?:the )?{_ORDINAL} of (?P<turn>this|next) month", _day_of_month),
    (rf"(?P<turn>this|next) month,? on the {_ORDINAL}", _day_of_month),
    (r"(?P<turn>last|this|next) month", _month),
    (rf"(?:(?P<year>{_N})年)?(?P<month>{_N})月(?P<day>{_N})[号日]?", _month_day),
    (rf"{_MONTH} {_ORDINAL}(?:,? (?P<year>\d{{4}}))?", _month_day),
    (rf"(?:the )?{_ORDINAL} (?:of )?{_MONTH}(?:,? (?P<year>\d{{4}}))?", _month_day),
    (rf"(?P<day>{_N})[号日]", _day_alone),
    (rf"the {_ORDINAL}", _day_alone),
)
