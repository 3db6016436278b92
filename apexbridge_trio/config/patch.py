"""JSON merge patches (RFC 7396) on plain values, and masks that stand for what is there already."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from apexbridge_trio.config.lines import Place
from apexbridge_trio.config.load import ADDRESSED, without_path
from apexbridge_trio.redaction import MASK

# The schema is four levels deep; what is deeper is a mistake, and is refused before it is walked.
MAX_DEPTH: Final = 16


def depth_of(value: Any) -> int:
    """Return how deep a value is nested, at most one more than `MAX_DEPTH`; a scalar is 0."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH:
        level = [inner for one in level for inner in _inside(one)]
        if not any(isinstance(one, dict | list) for one in level):
            return depth + bool(level)
        depth += 1
    return depth


def merged(target: Any, patch: Any) -> Any:
    """Return what RFC 7396's MergePatch makes of a value; `target` stays as it is.

    Objects are merged, a null removes its key, and anything else, arrays too, takes the place of
    what was there.
    """
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def nulls_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where a value holds null, which TOML has no word for."""
    if value is None:
        yield place
    for key, inner in _items(value):
        yield from nulls_in(inner, (*place, key))


def unmasked(wanted: Any, present: Any) -> Any:
    """Return `wanted` with what is masked in it as `present` has it: headers, and addresses that may be keys.

    Who sends back what it was shown does not know their values. The entry is found by its name, so
    that arrays may be put in another order. A mask that stands for nothing stays one.
    """
    if not isinstance(wanted, dict):
        return wanted
    filled = _with_headers(wanted, present)
    for place in ADDRESSED:
        filled = _with_addresses(filled, present, place)
    return filled


def _with_addresses(wanted: Any, present: Any, place: tuple[str, ...]) -> Any:
    key, *inner = place
    if not isinstance(wanted, dict) or key not in wanted:
        return wanted
    if inner:
        below = present.get(key) if isinstance(present, dict) else None
        return {**wanted, key: _with_addresses(wanted[key], below, tuple(inner))}
    known = {entry["name"]: entry for entry in _entries(present, key) if _is_named(entry)}

    def filled(entry: Any) -> Any:
        old = known.get(entry["name"], {}).get("url") if _is_named(entry) else None
        is_masked = isinstance(old, str) and entry.get("url") == without_path(old) and old
        return {**entry, "url": old} if is_masked else entry

    return (
        {**wanted, key: [filled(one) for one in _entries(wanted, key)]} if _entries(wanted, key) else wanted
    )


def _with_headers(wanted: dict[str, Any], present: Any) -> dict[str, Any]:
    if not isinstance(wanted.get("upstreams"), list):
        return wanted
    known = headers_of(present)

    def filled(entry: Any) -> Any:
        if not isinstance(entry, dict) or not isinstance(entry.get("headers"), dict):
            return entry
        old = known.get(entry["name"], {}) if _is_named(entry) else {}
        new = {key: old.get(key, MASK) if said == MASK else said for key, said in entry["headers"].items()}
        return {**entry, "headers": new}

    return {**wanted, "upstreams": [filled(entry) for entry in wanted["upstreams"]]}


def masks_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where a value is still the mask."""
    if value == MASK or (isinstance(value, str) and place[-1:] == ("url",) and value.endswith(f"/{MASK}")):
        yield place
    for key, inner in _items(value):
        yield from masks_in(inner, (*place, key))


def headers_of(values: Any) -> dict[Any, dict[str, Any]]:
    """Return the headers of each upstream, by its name."""
    named = [entry for entry in _entries(values, "upstreams") if _is_named(entry)]
    return {entry["name"]: entry["headers"] for entry in named if isinstance(entry.get("headers"), dict)}


def _entries(values: Any, key: str) -> list[Any]:
    found = values.get(key) if isinstance(values, dict) else None
    return found if isinstance(found, list) else []


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
