"""What the embedded model says, in Chinese and English.

A result is worded by the plugin's own template. What has no template (a failure, a stop, a sentence
that nobody understands) is worded here, and says no more than what is known.
"""

import json
import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jinja2.environment import Template

    from apexbridge_trio.intents.matcher import Match

HAN: Final = re.compile(r"[㐀-䶿一-鿿]")

WEEKDAYS: Final = {
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

_LOST: Final = {"zh": "抱歉，我没听懂。", "en": "Sorry, I did not understand that. "}
_SELF: Final = {
    "zh": "我只是一个很小的句子匹配器，背后没有语言模型，只认得固定的几种说法。",
    "en": "I am a small sentence matcher without a language model and know only a few ways of asking.",
}
_HELP: Final = frozenset(
    {"help", "what can you do", "what can i ask", "what do you know"}
    | {"帮助", "帮忙", "你能做什么", "你会做什么", "你会什么", "能做什么", "怎么用"}
)
_ASK: Final = {"zh": "可以这样问：", "en": "You can ask:"}
_NO_TOOLS: Final = {
    "zh": "这次请求没有给我任何可用的工具，所以我什么也做不了。",
    "en": "This request offers me no tool I know, so there is nothing I can do.",
}
_NOT_OFFERED: Final = {
    "zh": "我听懂了，但需要工具“{}”，而这次请求不允许我使用它。",
    "en": 'I understood, but that takes the tool "{}", which this request does not let me use.',
}
_FAULTS: Final = {
    "zh": {
        "tool_failed": "没有办成：{}",
        "tool_timeout": "等待超时，没有得到结果；事情可能已经做了一部分。",
        "interrupted": "已按要求停止，没有得到结果；事情可能已经做了一部分。",
        "invalid_arguments": "没有办成，参数不对：{}",
        "unknown_tool": "没有办成，没有这个工具：{}",
    },
    "en": {
        "tool_failed": "That did not work: {}",
        "tool_timeout": "That took too long and there is no result; a part of it may have been done.",
        "interrupted": "That was stopped as asked and there is no result; a part of it may have been done.",
        "invalid_arguments": "That did not work, the arguments are wrong: {}",
        "unknown_tool": "That did not work, there is no such tool: {}",
    },
}


def lost(language: str, said: str, examples: Sequence[str]) -> str:
    """Say that nothing matched, unless somebody has asked just that; and what can be asked."""
    words = _words(language)
    begin = ("" if said.strip(" ?!.。？！").lower() in _HELP else _LOST[words]) + _SELF[words] + _gap(words)
    if not examples:
        return f"{begin}{_NO_TOOLS[words]}"
    lines = "".join(f"\n- {example}" for example in examples)
    return f"{begin}{_ASK[words]}{lines}"


def not_offered(language: str, tool: str) -> str:
    """Say that the sentence was understood, and that its tool may not be used."""
    return _NOT_OFFERED[_words(language)].format(tool)


def failed(language: str, error: dict[str, Any]) -> str:
    """Word a tool's ``{"code", "message"}``; a stop is told as a stop."""
    faults = _FAULTS[_words(language)]
    return faults.get(str(error.get("code")), faults["tool_failed"]).format(error.get("message", ""))


def plain(tool: str, result: Any) -> str:
    """Show a result that no template fits as what it is."""
    return f"{tool}: {result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)}"


def worded(asked: "Match", result: Any) -> str | None:
    """Word a result with the plugin's template; None when the template does not fit the result."""
    try:
        template = compiled(asked.language, asked.phrase.answer)
        return template.render(asked=asked.arguments, result=result).strip()
    except Exception:  # noqa: BLE001  # the trust boundary of a template: a plugin's code, run on whatever came
        return None


def fault_of(language: str, answer: str) -> str | None:
    """Return what is wrong with an answer template, if anything is."""
    from jinja2 import TemplateSyntaxError

    try:
        compiled(language, answer)
    except (TemplateSyntaxError, RecursionError) as fault:
        return f"answer {answer[:40]!r}: {fault}"
    return None


@cache
def compiled(language: str, answer: str) -> "Template":
    """Compile an answer template: it reaches no file, no import and no attribute that changes things.

    Its filter ``day`` makes 11月22日 星期日 or Sunday 22 November of an ISO date or time.

    Raises:
        jinja2.TemplateSyntaxError: It is no template.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Nothing is escaped: the answer is text for a person, not a page.
    environment = ImmutableSandboxedEnvironment(autoescape=False)
    words = _words(language)
    environment.filters["day"] = lambda iso: _day(words, date.fromisoformat(iso[:10]))
    return environment.from_string(answer)


def _day(words: str, day: date) -> str:
    weekday = WEEKDAYS[words][day.weekday()]
    if words == "zh":
        return f"{day.month}月{day.day}日 {weekday}"
    return f"{weekday} {day.day} {MONTHS[day.month - 1]}"


def _words(language: str) -> str:
    return "zh" if language.startswith("zh") else "en"


def _gap(words: str) -> str:
    return "" if words == "zh" else " "


def is_chinese(text: str) -> bool:
    """Tell whether there are Chinese characters in `text`."""
    return HAN.search(text) is not None
