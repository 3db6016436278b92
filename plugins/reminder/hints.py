"""What is said to who was not understood: which words, and what can be said instead, in their language."""

import re
from typing import Final

from apexbridge_trio.plugins.dates import Unclear

_WHEN: Final = {
    "en": "Say for example: in 20 minutes, tomorrow at 8 am, next Friday at 18:30, on the 5th of next month,"
    " every Monday at 7 am.",
    "zh": "可以说：20分钟后、明天早上8点、下周五18:30、下个月5号、每周一早上7点。",
}
_RHYTHM: Final = {
    "en": "Say for example: every day, every Monday and Thursday, every month on the 1st, on the first"
    " Monday of every month, every 30 minutes.",
    "zh": "可以说：每天、每周一和周四、每月1号、每月第一个周一、每月最后一天、每30分钟。",
}
_SAYS_RHYTHM: Final = r"(?:every|each|once|twice|daily|weekly|monthly|yearly)\b|\w+ times (?:a|per)\b|[每隔]"


def no_time(words: str = "") -> Unclear:
    """Refuse words that say no instant; or none at all."""
    if not words:
        return Unclear(f"say when. {_WHEN['en']} / 请说明什么时候提醒。{_WHEN['zh']}")
    if re.match(_SAYS_RHYTHM, words):
        return no_rhythm(words)
    return unclear(
        words, f"I do not know when {words!r} is. {_WHEN['en']}", f"看不懂“{words}”是什么时候。{_WHEN['zh']}"
    )


def no_rhythm(words: str) -> Unclear:
    """Refuse a rhythm that no cron line keeps exactly."""
    return unclear(
        words, f"I can not repeat {words!r}. {_RHYTHM['en']}", f"做不到“{words}”这样的重复。{_RHYTHM['zh']}"
    )


def unclear(words: str, english: str, chinese: str) -> Unclear:
    """Refuse words in the language that they are of."""
    return Unclear(chinese if is_chinese(words) else english)


def is_chinese(words: str) -> bool:
    """Tell whether there are Chinese characters in words."""
    return re.search(r"[一-鿿]", words) is not None
