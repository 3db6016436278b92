"""Words for when that were not understood, and so were left in what to remind of.

"Water the plants every other day" at nine is no reminder of nine today: what is half understood is refused.
"""

import re
from typing import Any, Final

from apexbridge_trio.plugins.dates import Unclear

from .hints import is_chinese, no_rhythm, no_time, unclear

_DAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_UNIT: Final = (
    rf"(?:{_DAY}|(?:second|minute|hour|day|night|morning|evening|weekday|weekend|week|month|quarter|year)s?)"
)
_NTH: Final = r"(?:\d{1,3}|other|second|third|fourth|few|two|three|four|five|six|ten|single)"
_LONG: Final = r"(?:天|日|周|星期|礼拜|月|年|季度?|小时|分钟)"
_RHYTHMS: Final = (
    rf"(?:every|each)(?: {_NTH})?(?: {_UNIT})?(?: (?:on|at|from))?$",
    rf"^(?:every|each|other)(?: {_NTH})? {_UNIT}\b",
    rf"\b(?:every|each)(?: {_NTH})? {_UNIT}(?: \w+){{0,2}}$",
    rf"\b(?:until|till) (?:\d|noon|midnight|tomorrow|tonight|the (?:morning|evening)|{_DAY})|直到|为止",
    r"(?:once|twice|\w+ times) (?:a|an|per|every) (?:hour|day|week|month|year)$",
    r"(?:daily|hourly|weekly|fortnightly|biweekly|monthly|quarterly|yearly|annually)$",
    rf"每(?:[^，。、]{{0,4}}(?:{_LONG}|次))?的?$|隔[^，。、]{{0,3}}{_LONG}的?$",
    rf"^每[^，。]{{0,4}}{_LONG}|^隔[^，。]{{0,3}}{_LONG}|^[一两二三四五\d]?次",
)
_CLOCK: Final = (
    r"(?:\d{1,2}|[一二两三四五六七八九十半]{1,3})"
    r"(?:点|:|：|号(?!楼|线|门|院)|日|月|分钟|秒|个?(?:半?小时|钟头)|天后)"
)
_INSTANTS: Final = (
    rf"\b(?:and|or|before|after|by|until|till|from|between|through|except|not|for|for the next|{_DAY} to)$",
    rf"\b(?:at \d{{1,2}}(?::\d\d)?(?: ?[ap]m)?|on {_DAY}|tomorrow|tonight) and\b",
    rf"\band (?:at|in|on) (?:\d|{_DAY})|\bfor the next \w+ \w+$",
    r"^(?:and|or|until|till|through|except|but not|before|after)\b|^\d{1,2} to\b",
    r"^(?:of )?(?:next|this|last) (?:week|month|year)\b",
    r"(?:和|或者?|除了|从|直到|之前|以前|[上下本这]个?(?:月|周|星期|礼拜))$",
    rf"^(?:和|跟|与|及|或|到|至|、|，)(?:每|周[一二三四五六日天]|星期|礼拜|[早晚]上|[上中下]午|今|明|大?后天|{_CLOCK})",
    r"^(?:之|以)?前(?!往|台|面|去|后|妻|夫|男|女|锋|门)|^(?:之后|以后|左右|前后)",
    r"^(?:明天|后天|大后天|[下本这]个?(?:周|星期|礼拜|月))",
)
# Behind a day alone, as in "明天提醒我开会，下午三点": the time is the meeting's, or the reminder's.
_TIME_LAST: Final = (
    r"(?:\d{1,2}|[一二两三四五六七八九十]{1,3})(?:点(?:钟|半|[一三]刻|[零\d一二三四五六十]+分?)?|[:：]\d\d)$"
)
# Behind a time alone, as in "at 8 to call Anna tomorrow": the day is of the one, or of the other.
_DATE_LAST: Final = rf"\b(?:tomorrow|tonight|today|(?:on|next|this) {_DAY}|next (?:week|month))$"


def be_whole(text: str, asked: dict[str, Any]) -> None:
    """Refuse to remind of a text that begins or ends with words for when.

    Raises:
        Unclear: It does.
    """
    plain = " ".join(text.casefold().split())
    for form in _RHYTHMS:
        if found := re.search(form, plain):
            raise no_rhythm(_near(plain, found))
    for form in _INSTANTS:
        if found := re.search(form, plain):
            raise no_time(_near(plain, found))
    said = asked.keys() & {"date", "every", "time", "in", "cron"}
    if said == {"time"} and (found := re.search(_DATE_LAST, plain)):
        raise _together(asked["time"], found[0])
    if said in ({"date"}, {"every"}) and (found := re.search(_TIME_LAST, plain)):
        raise _together(found[0], asked[said.pop()])


def _together(time: str, day: str) -> Unclear:
    return unclear(
        time + day,
        f"Say {day!r} and {time!r} together, as in: remind me tomorrow at 8 pm to call Anna.",
        f"“{day}”和“{time}”请连在一起说，例如：明天下午三点提醒我开会。",
    )


def _near(text: str, found: re.Match[str]) -> str:
    """Return what was found; one word, such as "and", tells nobody much, so with those beside it."""
    words, those = (re.findall(r"[a-z0-9'-]+|[^\sa-z0-9]", one) for one in (text, found[0]))
    number = min(len(words), len(those) if len(those) > 1 else 3)
    near = words[-number:] if found.end() == len(text) else those if found.start() else words[:number]
    return ("" if is_chinese(text) else " ").join(near)
