"""Find which of the plugins' sentences was said, with hassil.

hassil is strict about what stands between the words, people are not. So a sentence is folded first:
full-width forms become ASCII, punctuation goes, and beside Chinese characters so do spaces. Where
each character came from is kept, so what fills a slot is cut from the sentence as it was written.
"""

import re
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from apexbridge_trio.intents.wording import HAN, is_chinese
from apexbridge_trio.protocol.sentences import Phrase, Sentences

if TYPE_CHECKING:
    from hassil.intents import Intents, SlotList

# What one tells a machine in a sentence is shorter; hassil's time grows with length times templates, and
# it runs on the loop: what people say takes 2 to 20 ms, what is made to take long 200. A Chinese sentence
# has as many characters as an English one has words, and twice that is enough.
MAX_LENGTH: Final = 200
MAX_CHINESE: Final = 100

# A colon stays inside a time, a dot inside a time, a date or an abbreviation.
_PUNCTUATION: Final = (
    r"[,;!?、。“”\"「」『』《》…~()\[\]{}<>|]|(?<!\d):|:(?!\d)|(?<![0-9A-Za-z])\.|\.(?![0-9A-Za-z])"
)
# Both cases are written out: IGNORECASE takes each of the Han characters by itself, 10 ms of every start.
_DROPPED: Final = re.compile(_PUNCTUATION)
_DROPPED_ZH: Final = re.compile(_PUNCTUATION + rf"|\s+(?={HAN.pattern})|(?<={HAN.pattern})\s+")
# What people say around a wish; 请 is not cut from 请假, a day off.
_BEFORE: Final = re.compile(
    r"(?:[\s,.!?~。]|你好|您好|嗨|请问一下|请问|请你|请您|麻烦你|麻烦您|麻烦|请(?!假)|能不能|可不可以|可以|能否"
    r"|我想知道|我想|我要|帮我|帮忙|给我"
    r"|(?:hello|hi|hey|please|kindly|(?:could|can|would|will) you|i would like to|i'd like to|i want to)\b)*",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(
    r"(?:[\s,.!?~。]|谢谢你|谢谢您|谢谢|多谢|好吗|可以吗|行吗|\b(?:please|thanks|thank you)\b)*$",
    re.IGNORECASE,
)
# "提醒我开会，明天早上八点": the time may come last, after a pause. Turned round it is the usual sentence.
_PAUSE: Final = re.compile(r"[，,；;\s]+")


class Match(Struct, frozen=True):
    """What was asked: the phrase, its language, and the arguments of the call."""

    phrase: Phrase
    language: str
    arguments: dict[str, Any]


class Matcher:
    """All sentences of all plugins, compiled.

    Making the first one in a process takes some tenths of a second, for hassil's import.

    Args:
        declared: By plugin, then by language.

    Attributes:
        faults: Templates that hassil can not read; their phrases are left out.
    """

    def __init__(self, declared: Mapping[str, Mapping[str, Sentences]]) -> None:
        self.faults: list[str] = []
        self._intents: dict[str, Intents] = {}
        self._phrases: dict[str, Phrase] = {}
        for plugin, languages in declared.items():
            for language, sentences in languages.items():
                self._compile(plugin, language, sentences)

    def match(self, sentence: str, tools: Container[str] | None = None) -> Match | None:
        """Return what was asked, of what `tools` can do; without `tools`, of everything declared."""
        if len(sentence) > (MAX_CHINESE if is_chinese(sentence) else MAX_LENGTH):
            return None
        # The language of the sentence's script comes first, the others may still know it.
        for language in sorted(self._intents, key=lambda name: _has_no_spaces(name) != is_chinese(sentence)):
            if found := self._best(sentence, language, tools):
                result, origins = found
                arguments = {slot.name: _value(slot, sentence, origins) for slot in result.entities_list}
                phrase = self._phrases[result.intent.name]
                return Match(phrase, language, phrase.arguments | arguments)
        return None

    def _best(
        self, sentence: str, language: str, tools: Container[str] | None
    ) -> tuple[Any, list[int]] | None:
        """Return what was recognized, and where each character of that came from."""
        text, origins = fold(sentence, _DROPPED_ZH if _has_no_spaces(language) else _DROPPED)
        found = self._recognized(text, language, tools)
        if _has_no_spaces(language) and is_chinese(sentence) and (joint := _joint(sentence, origins)):
            turned = origins[joint:] + origins[:joint]
            other = self._recognized(text[joint:] + text[:joint], language, tools)
            if other and _is_better(other, found) and not _is_across(other, len(turned) - joint):
                return other, turned
        return None if found is None else (found, origins)

    def examples(self, language: str, tools: Container[str]) -> list[str]:
        """Return sentences to suggest, of phrases whose tool is among `tools`."""
        intents = self._intents[language].intents if language in self._intents else ()
        phrases = [self._phrases[name] for name in intents]
        return [phrase.example for phrase in phrases if phrase.example and phrase.tool in tools]

    def answers(self) -> Iterator[tuple[str, str]]:
        """Yield each answer template with its language."""
        for language, known in self._intents.items():
            for name in known.intents:
                yield language, self._phrases[name].answer

    def _recognized(self, text: str, language: str, tools: Container[str] | None) -> Any:
        from hassil.recognize import recognize_best

        known = self._intents[language]
        able = {
            name: one
            for name, one in known.intents.items()
            if tools is None or self._phrases[name].tool in tools
        }
        return recognize_best(text, replace(known, intents=able))

    def _compile(self, plugin: str, language: str, sentences: Sentences) -> None:
        from hassil.intents import Intents, IntentsSettings
        from hassil.parser import ParseError

        settings = IntentsSettings(ignore_whitespace=_has_no_spaces(language))
        known = self._intents.setdefault(language, Intents(language, {}, settings=settings))
        for number, phrase in enumerate(sentences.phrases):
            name = f"{plugin}/{language}/{number}"
            try:
                known.intents[name] = _intent(name, phrase, sentences)
            except (ParseError, ValueError, AssertionError, RecursionError) as fault:
                self.faults.append(f"{plugin}: sentences.{language}.phrases[{number}]: {fault}")
            self._phrases[name] = phrase


def fold(sentence: str, dropped: re.Pattern[str]) -> tuple[str, list[int]]:
    """Return what hassil shall see of a sentence, and where each of its characters came from."""
    narrow = "".join(map(_narrow, sentence))
    before = _BEFORE.match(narrow)
    assert before  # it matches nothing, too; so does the other
    after = _AFTER.search(narrow, before.end())
    assert after
    gone = {at for found in dropped.finditer(narrow) for at in range(*found.span())}
    kept = [at for at in range(before.end(), after.start()) if at not in gone]
    return "".join(narrow[at] for at in kept), kept


def _has_no_spaces(language: str) -> bool:
    return language.startswith("zh")


def _narrow(char: str) -> str:
    """Return the usual form of a full-width character; one stays one, so places do not move."""
    usual = unicodedata.normalize("NFKC", char)
    return usual if len(usual) == 1 else char


def _joint(sentence: str, origins: Sequence[int]) -> int:
    """Return where the last part of a sentence begins, among what is kept of it; 0: it has one part."""
    pauses = [found.end() for found in _PAUSE.finditer(sentence)]
    return max((at for at in range(1, len(origins)) if origins[at] in pauses), default=0)


def _is_better(one: Any, other: Any) -> bool:
    """Tell whether more of a sentence was recognized in one way than in another."""
    if other is None:
        return True
    (one_any, *one_rest), (other_any, *other_rest) = map(_unsure, (one, other))
    return one_any <= other_any and one_rest < other_rest


def _unsure(result: Any) -> tuple[int, int, int]:
    """Return how little is known of a sentence: its slots of any text, and how much is in them."""
    slots = [slot for slot in result.entities_list if slot.is_wildcard]
    return len(slots), -result.text_chunks_matched, sum(len(slot.text) for slot in slots)


def _is_across(result: Any, joint: int) -> bool:
    return any(start < joint < end for start, end in (slot.text_span for slot in result.entities_list))


def _value(slot: Any, sentence: str, origins: Sequence[int]) -> str:
    if slot.value != slot.text:
        return str(slot.value)  # of a list that says what a word means
    start, end = slot.text_span
    return sentence[origins[start] : origins[end - 1] + 1].strip()


def _intent(name: str, phrase: Phrase, sentences: Sentences) -> Any:
    from hassil.intents import Intent, IntentData, WildcardSlotList
    from hassil.parse_expression import parse_sentence

    lists: dict[str, SlotList] = {slot: WildcardSlotList(name=slot) for slot in sentences.any}
    lists |= {slot: _list(slot, values) for slot, values in sentences.lists.items()}
    found = IntentData(
        sentence_texts=phrase.say,
        slot_lists=lists,
        expansion_rules={rule: parse_sentence(text) for rule, text in sentences.rules.items()},
        wildcard_list_names=set(sentences.any),
    )
    assert found.sentences  # parsed on first use: now, so that a fault is found now
    return Intent(name, [found])


def _list(slot: str, values: Sequence[str] | Mapping[str, str]) -> "SlotList":
    from hassil.intents import TextSlotList, TextSlotValue
    from hassil.parse_expression import parse_sentence

    meant = values if isinstance(values, Mapping) else dict.fromkeys(values)
    return TextSlotList(
        name=slot,
        values=[TextSlotValue(parse_sentence(text).expression, value) for text, value in meant.items()],
    )
