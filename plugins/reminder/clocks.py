"""A time of day as people say it, and what they mean by a part of the day that names none."""

import re
from typing import Final

from apexbridge_trio.plugins.dates import WORDS, read_number

from .hints import unclear

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
_MINUTE: Final = r"(?:[一三]刻|[一二两三四五六七八九十\d]+分?)"
_VAGUE: Final = (
    rf"(?:(?:half|(?:a )?quarter|(?:\d{{1,2}}|{WORDS})(?: minutes?)?) (?:past|to) )?(?:差{_MINUTE}钟?)?"
    rf"(0?)(\d{{1,2}}|[一二两三四五六七八九十]+|{WORDS})"
    rf"(?:点(?:钟|整|半|[零过差]?{_MINUTE})?| ?o'clock|[:.]\d\d)?"
)
# A bare hour up to here is as likely of the afternoon, and few mean the night by it.
_LAST_UNSURE: Final = 6


def plain(words: str) -> str:
    """Return words with small letters, and one space between them."""
    return " ".join(words.casefold().split())


def parted(words: str) -> tuple[str, str]:
    """Return days, and the part of the day that they end with, if they do."""
    words = _ONE_WORD.get(words, words)
    found = re.fullmatch(_PARTED, words)
    return (found["rest"], found["part"]) if found else (words, "")


def clock_of(part: str, at: str) -> str:
    """Return a time of day with the part of the day that it is in."""
    clock = plain(at).removeprefix("at ") or PARTS.get(part, USUAL)
    if clock in PARTS:
        return PARTS[clock]
    if not at or not part or not re.fullmatch(_VAGUE, clock):
        return clock
    return f"{clock} in the {part}" if part.isascii() else f"{part}{clock}"


def is_vague(clock: str) -> bool:
    """Tell whether a clock with hands shows that twice a day."""
    found = re.fullmatch(_VAGUE, clock)
    return found is not None and not found[1] and 1 <= read_number(found[2]) <= 12


def be_sure(clock: str, last_unsure: int = _LAST_UNSURE) -> str:
    """Return a time of day, unless it may as well be the other one that a clock with hands shows.

    Args:
        clock: The time, as `clock_of` has it.
        last_unsure: The last bare hour that may be either.

    Raises:
        Unclear: It may.
    """
    found = re.fullmatch(_VAGUE, clock)
    if found and is_vague(clock) and read_number(found[2]) <= last_unsure:
        raise unclear(
            clock,
            f"Is {clock} in the morning, or in the afternoon? Say it with am or pm.",
            f"{clock}是早上还是下午？请一起说出来。",
        )
    return clock
