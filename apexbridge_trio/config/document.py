"""The text of a config, changed where something changes: comments and order stay as they are.

tomlkit (0.15) keeps a text's form, but its arrays of tables have many corners. So what comes out is
read again by another reader, and compared with what was meant; see `edited`.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from apexbridge_trio.config.lines import Place, written
from apexbridge_trio.config.load import ADDRESSED, without_path
from apexbridge_trio.errors import ConfigRefused
from apexbridge_trio.redaction import MASK, redact

if TYPE_CHECKING:
    from tomlkit.items import AoT, Table

_NAMES: Final = ("id", "name")
# What stands for all of a text among the places that are lost.
_WHOLE: Final = "the whole text"


def edited(text: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return a text that says `after`, where `text` says `before`; the rest of it stays.

    Raises:
        ConfigRefused: It can not be written so; nothing was changed.
    """
    import tomlkit

    try:
        document = tomlkit.parse(text)
        _become(document, before, after)
        result = _with_ends_of(text, document.as_string())
        is_right = without_empty(tomllib.loads(result)) == without_empty(after)
    except _unfit():
        is_right = False
    if not is_right:
        raise ConfigRefused(
            "The hub can not write this change into the file and keep its form; edit the file by hand."
        )
    return result


def _with_ends_of(text: str, result: str) -> str:
    """Return a result with the line ends of a text whose lines all end alike; tomlkit adds its own."""
    is_other_system = text.count("\r\n") == text.count("\n") > 0
    return re.sub(r"(?<!\r)\n", "\r\n", result) if is_other_system else result


def _unfit() -> tuple[type[Exception], ...]:
    """Return what comes of a form that tomlkit does not know, such as 101 arrays in one another."""
    from tomlkit.exceptions import TOMLKitError

    return (TOMLKitError, ValueError, TypeError, LookupError, RecursionError)


def without_empty(value: Any) -> Any:
    """Return a value without the tables in which nothing is said: to leave them out means the same."""
    if isinstance(value, list):
        return [without_empty(one) for one in value]
    if not isinstance(value, dict):
        return value
    inner = {key: without_empty(one) for key, one in value.items()}
    return {key: one for key, one in inner.items() if one != {}}


def masked(text: str) -> tuple[str, list[str]]:
    """Return a text to be kept, without headers' values, addresses that may be keys, and known secrets.

    Returns:
        The text, and where others than those two were masked: they can not be filled in again. A text
        in which tomlkit can not mask is not kept at all, and is lost as a whole.
    """
    values = tomllib.loads(text)
    if _shown(values) != values:
        try:
            text = _with_masks(text)
            # As they are written: a nan is none that it equals.
            is_right = repr(tomllib.loads(text)) == repr(_shown(values))
        except _unfit():
            is_right = False
        if not is_right:
            return "", [_WHOLE]
    shown = redact(text)
    lost = [] if shown == text else [written(place) for place in _differing(text, shown)]
    return shown, lost


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a text says with masks in it."""
    shown = dict(values)
    if "upstreams" in shown:
        shown["upstreams"] = [
            {**one, "headers": dict.fromkeys(one["headers"], MASK)} if one.get("headers") else one
            for one in shown["upstreams"]
        ]
    for place in ADDRESSED:
        shown = _with_hosts(shown, place)
    return shown


def _with_hosts(values: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """Return values whose entries at a place have addresses without paths."""
    key, *inner = place
    if key not in values:
        return values
    if inner:
        return {**values, key: _with_hosts(values[key], tuple(inner))}
    entries = [{**one, "url": without_path(one["url"])} if one.get("url") else one for one in values[key]]
    return {**values, key: entries}


def _with_masks(text: str) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    for entry in document.get("upstreams", ()):
        for name in entry.get("headers", ()):
            entry["headers"][name] = MASK
    for *above, key in ADDRESSED:
        table = document
        for name in above:
            table = table.get(name, {})
        for entry in table.get(key, ()):
            if entry.get("url"):
                entry["url"] = without_path(entry["url"])
    return document.as_string()  # type: ignore[no-any-return]


def _differing(text: str, other: str) -> Iterator[Place]:
    """Yield where two texts of one form say different things."""
    try:
        yield from _different(tomllib.loads(text), tomllib.loads(other), ())
    except tomllib.TOMLDecodeError:
        yield (_WHOLE,)


def _different(one: Any, other: Any, place: Place) -> Iterator[Place]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _different(one[key], other[key], (*place, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _different(*pair, (*place, number))
    elif one != other:
        yield place


def _become(table: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Change a table that says `before` so that it says `after`."""
    for key in before.keys() - after.keys():
        del table[key]
    for key, value in after.items():
        if key not in before:
            if isinstance(value, dict) and _has_sections(table):
                table[key] = _table(value)
            else:
                _own_heading(table)
                table[key] = _item(value, inline=_is_inline(table))
        elif value != before[key] or type(value) is not type(before[key]):
            _change(table, key, before[key], value)


def _change(table: Any, key: str, old: Any, new: Any) -> None:
    from tomlkit.items import AoT

    if isinstance(old, dict) and isinstance(new, dict):
        _become(table[key], old, new)
    elif isinstance(table[key], AoT) and new and all(isinstance(one, dict) for one in new):
        _become_array(table[key], old, new)
    else:
        if isinstance(table[key], AoT):  # its headings can not stay
            del table[key]
        table[key] = _item(new, inline=_is_inline(table))


def _become_array(tables: "AoT", old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Change an array of tables; an entry that keeps its name keeps its comments."""
    free = list(zip(old, [tables[number] for number in range(len(tables))], strict=True))
    order: list[Table] = []
    for wanted in new:
        known = next((pair for pair in free if _name_of(pair[0]) == _name_of(wanted)), None)
        if known is None:
            order.append(_table(wanted))
        else:
            free.remove(known)
            _become(known[1], known[0], wanted)
            order.append(known[1])
    while len(tables):
        del tables[len(tables) - 1]
    for table in order:
        tables.append(table)


def _name_of(entry: dict[str, Any]) -> Any:
    return next((entry[name] for name in _NAMES if name in entry), None)


def _has_sections(table: Any) -> bool:
    """Tell whether tables in a table have headings: in the whole document, and in what is a part of some."""
    from tomlkit import TOMLDocument

    return isinstance(table, TOMLDocument) or _is_part_of_headings(table)


def _is_part_of_headings(table: Any) -> bool:
    from tomlkit.items import Table

    return isinstance(table, Table) and table.is_super_table()


def _own_heading(table: Any) -> None:
    """Have a table that gets a heading now not say the comment of the one below; tomlkit copies it."""
    if _is_part_of_headings(table):
        table.trivia.comment_ws = table.trivia.comment = ""


def _is_inline(table: Any) -> bool:
    from tomlkit.items import InlineTable

    return isinstance(table, InlineTable)


def _item(value: Any, *, inline: bool) -> Any:
    """Write a value: tables with headings where there is room for them."""
    import tomlkit

    if isinstance(value, dict) and not inline and any(isinstance(one, dict | list) for one in value.values()):
        return _table(value)
    is_tables = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    if is_tables and not inline:
        array = tomlkit.aot()
        for one in value:
            array.append(_table(one))
        return array
    if isinstance(value, list):  # by itself tomlkit makes headings of tables in it, also where none may be
        inner = tomlkit.array()
        for one in value:
            inner.append(_item(one, inline=True))
        return inner
    return tomlkit.item(value) if not isinstance(value, dict) else _inline(value)


def _table(value: dict[str, Any]) -> "Table":
    import tomlkit

    table = tomlkit.table()
    for key, inner in value.items():
        table[key] = _inline(inner) if isinstance(inner, dict) else _item(inner, inline=False)
    return table


def _inline(value: dict[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    for key, inner in value.items():
        table[key] = _item(inner, inline=True)
    return table
