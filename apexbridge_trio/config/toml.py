"""Reads TOML into structs and tells every fault at once, each with its line.

msgspec stops at the first fault and knows no lines. Here each value is converted alone, so that
one wrong key does not hide the next, and a scan of the text says where a key stands.
"""

import difflib
import re
from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from apexbridge_trio.config.lines import Lines, Place, written

S = TypeVar("S", bound=msgspec.Struct)

_PLACE = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)
_NO_VALUE = object()

# What msgspec and Python call a TOML value, as TOML's own specification calls it.
_PLAIN = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "list": "an array",
    "object": "a table",
    "dict": "a table",
}


class Wrong(Struct, frozen=True):
    """One thing that is wrong with a config.

    Attributes:
        path: Where, as people write it; empty: the whole text.
        line: Of the text, from 1; 0 if there is none.
        reason: What is wrong there.
    """

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class Reader:
    """One TOML text, and the faults found in it.

    Args:
        name: What the file is called in a fault; empty: there is none.
        text: All of it.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text
        self._lines = Lines(text)
        self.wrongs: list[Wrong] = []

    @property
    def faults(self) -> list[str]:
        """Every fault so far, ``file:line: place: what``, in the order of the text."""
        if not self.name:
            return [str(wrong) for wrong in self.wrongs]
        return [f"{self.name}{f':{one.line}' if one.line else ''}: {one}" for one in self.wrongs]

    def fault(self, place: Place, what: str) -> None:
        """Note that the value at `place` is wrong."""
        insort(self.wrongs, Wrong(written(place), self._lines.of(place), what), key=attrgetter("line"))

    def read(self, kind: type[S]) -> S | None:
        """Return the text as a `kind`.

        With faults, what is returned is only good for finding more of them: values at fault have
        their defaults, and those without a default are None.
        """
        try:
            raw = msgspec.toml.decode(self._text)
        except RecursionError:
            self._note_syntax("It is nested too deeply")
            return None
        except ValueError as fault:  # msgspec's own too; Python's of a number with thousands of digits
            self._note_syntax(str(fault))
            return None
        return self.take(kind, raw)

    def take(self, kind: type[S], raw: object) -> S | None:
        """Return plain values as a `kind`; with faults, see `read`."""
        return self._struct(kind, raw, ())

    def _note_syntax(self, what: str) -> None:
        placed = _PLACE.match(what)
        line, what = (int(placed[2]), placed[1]) if placed else (0, what)
        self.wrongs.append(Wrong("", line, f"not TOML: {what[:1].lower()}{what[1:]}"))

    def _struct(self, kind: type[S], raw: object, place: Place) -> S | None:
        if not isinstance(raw, dict):
            self.fault(place, f"expected a table, got {_PLAIN.get(type(raw).__name__, 'a date')}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind) if is_read(field.type)}
        for key in raw:
            if key not in fields:
                self.fault((*place, key), f"unknown key{nearest(key, fields)}")
        values: dict[str, Any] = {}
        for key, field in fields.items():
            value = self._value(field.type, raw[key], (*place, key)) if key in raw else _NO_VALUE
            if value is not _NO_VALUE:
                values[field.name] = value
            elif field.required:
                values[field.name] = None
                if key not in raw:
                    self.fault(place, f"{key} is missing")
        return kind(**values)

    def _value(self, kind: Any, raw: object, place: Place) -> Any:
        item = get_args(kind)[0] if get_origin(kind) is list else None
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found = self._struct(kind, raw, place)
            return _NO_VALUE if found is None else found
        if isinstance(item, type) and issubclass(item, msgspec.Struct) and isinstance(raw, list):
            found_items = [self._struct(item, one, (*place, number)) for number, one in enumerate(raw)]
            return [one for one in found_items if one is not None]
        item = get_args(kind)[1] if get_origin(kind) is dict else None
        if isinstance(item, type) and issubclass(item, msgspec.Struct) and isinstance(raw, dict):
            found_named = {name: self._struct(item, one, (*place, name)) for name, one in raw.items()}
            return {name: one for name, one in found_named.items() if one is not None}
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as fault:
            self.fault(place, _what_is_wrong(fault, kind, raw))
            return _NO_VALUE


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` for the most similar of the known words, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def is_read(kind: Any) -> bool:
    """Whether a field is of TOML: one marked ``extra={"toml": False}`` is filled in by its owner."""
    return not any((getattr(mark, "extra", None) or {}).get("toml") is False for mark in get_args(kind)[1:])


def _what_is_wrong(fault: msgspec.ValidationError, kind: Any, raw: object) -> str:
    words = _words(kind)
    if isinstance(raw, str) and words:
        others = ["an array"] if list in [get_origin(part) for part in get_args(kind)] else []
        return f"expected {' or '.join([*map(repr, words), *others])}, got {raw!r}{nearest(raw, words)}"
    what, _, inner = str(fault).partition(" - at `$")
    for name, plain in _PLAIN.items():
        what = what.replace(f"`{name}`", plain)
    at = f"{inner.rstrip('`')}: " if inner else ""
    return f"{at}{what[:1].lower()}{what[1:]}"


def _words(kind: Any) -> list[str]:
    """Return the literal words a type allows."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [word for part in get_args(kind) if get_origin(part) is Literal for word in get_args(part)]
