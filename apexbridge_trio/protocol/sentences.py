"""What a plugin says it can be asked: shared by who declares it and who matches it.

Templates are in Home Assistant's intent language (library hassil): ``(a|b)`` one of, ``[a]``
optional, ``<rule>`` a named part, ``{slot}`` a value. A slot's name is the tool argument it fills.
"""

from typing import Annotated, Any

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
        rules: Named parts of templates.
    """

    phrases: list[Phrase]
    any: list[Name] = []
    lists: dict[Name, list[Template] | dict[Template, str]] = {}
    rules: dict[Name, Template] = {}
