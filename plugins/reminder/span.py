"""How long until somebody wants to be reminded: seconds, or days and months of the calendar."""

import calendar
import re
from datetime import MAXYEAR, datetime, timedelta
from typing import Final

from apexbridge_trio.plugins.dates import WORDS, read_number

from .hints import no_time, unclear

UNITS: Final = (
    (r"秒钟?|s|secs?|seconds?", 1),
    (r"分钟?|m|mins?|minutes?", 60),
    (r"刻钟|quarters? of an hour", 900),
    (r"个?(?:小时|钟头)|h|hrs?|hours?", 3600),
    (r"天|d|days?", 86_400),
    (r"个?星期|个?礼拜|周|w|weeks?", 604_800),
)
# What a calendar counts, in days or in months: as long as that is, at the same time of day.
_DAYS: Final = ((r"天|d|days?", 1), (r"个?星期|个?礼拜|周|w|weeks?", 7))
_MONTHS: Final = ((r"个月|months?", 1), (r"年|years?", 12))
# Longer ahead nothing can be set, and no calendar goes for ever.
_MOST_DAYS: Final = 100 * 366
_NUMBER: Final = rf"\d{{1,6}}(?:\.\d{{1,2}})?|[一二两三四五六七八九十]+|an?(?: couple of)?|{WORDS}"
_SPAN: Final = (
    rf"(?:(?P<only>half an?|half|半个?)|(?P<number>{_NUMBER})(?P<more>个半| and a half)?) ?"
    rf"(?<![a-z])(?P<unit>{'|'.join(unit for unit, _ in UNITS)})(?![a-z])(?P<rest> and a half|半)?"
)
_WHOLE: Final = (
    rf"(?P<number>{_NUMBER}) ?(?P<unit>{'|'.join(unit for unit, _ in (*_DAYS, *_MONTHS))})(?![a-z])"
)


def seconds_of(words: str) -> int:
    """Return the length of a span of time, which may have several parts: 1 hour and 30 minutes.

    Raises:
        Unclear: It is none.
    """
    text = _bare(words)
    found = list(re.finditer(_SPAN, text))
    between = re.sub(_SPAN, "", text)
    if not found or re.sub(r"and|[零又加, ]", "", between):
        raise no_time(text)
    return round(sum(map(_seconds, found)))


def day_after(words: str, now: datetime) -> datetime | None:
    """Return the day that whole days, weeks, months or years lead to, at the same time; None: it is none.

    Raises:
        Unclear: The month that they lead to has no such day.
    """
    found = re.fullmatch(_WHOLE, _bare(words))
    number = _count(found["number"]) if found else 0.5
    if found is None or number % 1:
        return None
    months = int(number) * _factor(found["unit"], _MONTHS)
    year, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    days = int(number) * _factor(found["unit"], _DAYS)
    if year > MAXYEAR or days > _MOST_DAYS:
        raise no_time(words)
    if days:
        return now + timedelta(days=days)
    if now.day > calendar.monthrange(year, month + 1)[1]:
        raise unclear(
            words,
            f"The month that {words!r} leads to has no such day.",
            f"“{words}”的那个月没有这一天，请说具体日期。",
        )
    return now.replace(year=year, month=month + 1)


def _bare(words: str) -> str:
    text = " ".join(words.casefold().split())
    return re.sub(r"^(?:in|for) | from (?:now|today)$|(?:以|之|过)?后$", "", text)


def _seconds(span: re.Match[str]) -> float:
    number = 0.5 if span["only"] else _count(span["number"])
    return _factor(span["unit"], UNITS) * (number + 0.5 * bool(span["more"] or span["rest"]))


def _factor(unit: str, units: tuple[tuple[str, int], ...]) -> int:
    return next((factor for form, factor in units if re.fullmatch(form, unit)), 0)


def _count(words: str) -> float:
    known = {"a": 1, "an": 1, "a couple of": 2}
    return known[words] if words in known else float(words) if "." in words else read_number(words)
