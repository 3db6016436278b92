"""What a plugin says it can be asked: shared by who declares it and who matches it.

Templates are in Home Assistant's intent language (library hassil): ``(a|b)`` one of, ``[a]``
optional, ``<rule>`` a named part, ``{slot}`` a value. A slot's name is the tool argument it fills.
"""

import re
from collections.abc import Container, Iterator
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

Template = Annotated[str, Meta(min_length=1, max_length=4000)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Phrase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ways to ask for one thing, and how its result is worded.

    Args:
        tool: The plugin's tool that is called.
        say: Templates of the sentence.
        answer: Jinja template of the answer; it sees `result` and `asked` (the call's arguments).
        arguments: What the call always carries; slots come on top.
        example: A sentence to suggest to people when nothing matched.
    """

    tool: str
    say: Annotated[list[Template], Meta(min_length=1)]
    answer: Template
    arguments: dict[str, Any] = {}
    example: str = ""


class Sentences(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one plugin can be asked in one language.

    Args:
        phrases: What can be asked.
        any: Slots that take any text.
        lists: Slots with known values: templates, or a table from template to the value it means.
        rules: Named parts of templates; a rule may use the ones above it.
    """

    phrases: list[Phrase]
    any: list[Name] = []
    lists: dict[Name, list[Template] | dict[Template, str]] = {}
    rules: dict[Name, Template] = {}

    def unknown_names(self) -> Iterator[tuple[str, str]]:
        """Yield each place that uses a rule or a slot nobody declared, with what it uses."""
        slots = {*self.any, *self.lists}
        above: set[str] = set()
        for name, text in self.rules.items():
            yield from _unknown(f"rules.{name}", text, above, slots)
            above.add(name)
        for name, values in self.lists.items():
            for text in values:
                yield from _unknown(f"lists.{name}", text, above, ())
        for phrase in self.phrases:
            for text in phrase.say:
                yield from _unknown("phrases.say", text, above, slots)


_RULE: Final = re.compile(r"<([^<>]*)>")
_SLOT: Final = re.compile(r"\{([^{}:]*)[^{}]*\}")


def _unknown(
    place: str, text: str, rules: Container[str], slots: Container[str]
) -> Iterator[tuple[str, str]]:
    yield from ((place, f"<{name}>") for name in _RULE.findall(text) if name not in rules)
    yield from ((place, f"{{{name}}}") for name in _SLOT.findall(text) if name not in slots)
