"""What types can not say of ``[[triggers]]``: events, their fields, where a webhook goes."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from apexbridge_trio.addresses import is_public
from apexbridge_trio.config.lines import Place
from apexbridge_trio.config.schema import Trigger
from apexbridge_trio.config.toml import nearest
from apexbridge_trio.ids import is_sane
from apexbridge_trio.protocol.happened import FIELDS, SUBJECTS, Field

Fault = Callable[[Place, str], None]

# What stands for a field of the event in a text; other braces are left alone.
PLACEHOLDER: Final = re.compile(r"(?<!\{)\{([A-Za-z][\w.]*)\}(?!\})")
# What every event has besides its own fields.
COMMON: Final = ("event", "tenant", "at")

# Which keys say what is done, and of these which must be there.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "notify": ("text", "title", "level"),
    "alert": ("text", "title", "level"),
    "tool": ("tool", "args"),
    "chat": ("prompt",),
    "webhook": ("url", "secret_file", "secret_env", "allow_private"),
}
_NEEDED: Final = {"tool": "tool", "chat": "prompt", "webhook": "url"}


def check_trigger(trigger: Trigger, place: Place, fault: Fault) -> None:
    """Tell `fault` everything that is wrong with one trigger; what is None was told before."""
    for key, text in (("tenant", trigger.tenant), ("family", trigger.family)):
        if text and not is_sane(text):
            fault((*place, key), "1 to 200 of A-Z a-z 0-9 . _ : and -")
    if not trigger.tenant:
        fault((*place, "tenant"), "an event is always some tenant's")
    fields = FIELDS.get(trigger.on or "")
    if fields is None and trigger.on:
        near = nearest(trigger.on, FIELDS) or f"; there are {', '.join(FIELDS)}"
        fault((*place, "on"), f"there is no event {trigger.on!r}{near}")
    if fields is not None:
        _check_when(trigger, fields, place, fault)
        _check_texts(trigger, fields, place, fault)
    if trigger.do in _KEYS:
        _check_keys(trigger, place, fault)
    if trigger.do == "webhook" and trigger.url:
        _check_webhook(trigger, place, fault)


def _check_when(trigger: Trigger, fields: Any, place: Place, fault: Fault) -> None:
    for name, wanted in trigger.when.items():
        where = (*place, "when", name)
        if name not in fields:
            near = nearest(name, fields) or f"; there are {', '.join(fields)}"
            fault(where, f"{trigger.on} has no field {name!r}{near}")
            continue
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values:
            fault(where, "an empty list can never be met")
        for value in values:
            if wrong := _why_not(value, fields[name]):
                fault(where, f"this can never be met: {wrong}")
    if trigger.for_s and trigger.on not in SUBJECTS:
        fault((*place, "for_s"), f"only {' and '.join(SUBJECTS)} tell how something is, so that it can last")
    elif trigger.for_s and not trigger.when:
        fault((*place, "for_s"), "without a condition in `when` nothing would end it")


def _why_not(value: Any, field: Field) -> str:
    if isinstance(field, tuple):
        return "" if value in field else f"it is one of {', '.join(field)}, never {value!r}"
    kinds: dict[str, type | tuple[type, ...]] = {"text": str, "number": (int, float), "flag": bool}
    is_right = isinstance(value, kinds[field]) and (field == "flag" or not isinstance(value, bool))
    return "" if is_right else f"it is a {field}, never {value!r}"


def _check_texts(trigger: Trigger, fields: Any, place: Place, fault: Fault) -> None:
    texts = [(("text",), trigger.text), (("title",), trigger.title), (("prompt",), trigger.prompt)]
    for path, text in [*texts, *((("args", *path), text) for path, text in _strings(trigger.args))]:
        for name in PLACEHOLDER.findall(text):
            if name not in fields and name not in COMMON:
                fault(
                    (*place, *path), f"{trigger.on} has no field {name!r}{nearest(name, [*fields, *COMMON])}"
                )


def _strings(value: Any, path: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _strings(one, (*path, key))


def _check_keys(trigger: Trigger, place: Place, fault: Fault) -> None:
    needed = _NEEDED.get(trigger.do)
    if needed and not getattr(trigger, needed):
        fault(place, f'{needed} is missing: do = "{trigger.do}" needs it')
    others = {key for keys in _KEYS.values() for key in keys} - set(_KEYS[trigger.do])
    defaults = Trigger(name="", on="", do="notify")
    for key in sorted(others):
        if getattr(trigger, key) != getattr(defaults, key):
            fault((*place, key), f'do = "{trigger.do}" takes no {key}')


def _check_webhook(trigger: Trigger, place: Place, fault: Fault) -> None:
    if bool(trigger.secret_file) is bool(trigger.secret_env):
        fault(place, "a webhook is signed: it has a secret_file or a secret_env, one of the two")
    try:
        parts = urlsplit(trigger.url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # an empty label, or one that is too long
    except ValueError:
        host, port = "", 0
    is_plain = trigger.url.isascii() and trigger.url.isprintable() and " " not in trigger.url
    if not host or port == 0 or parts.scheme not in {"http", "https"} or not is_plain:
        fault((*place, "url"), "expected an address like https://host/path")
    elif "@" in parts.netloc or parts.fragment:
        fault((*place, "url"), "no name, no password and no # in an address")
    elif not _may_go(host, trigger.allow_private):
        fault((*place, "url"), f"it leads to a private address; if that is meant: allow_private = [{host!r}]")


def _may_go(host: str, allowed: list[str]) -> bool:
    """Tell whether a host may be asked, as far as its name says; the rest is seen when it is resolved."""
    if host in {one.lower() for one in allowed}:
        return True
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return False
    try:
        return is_public(host)
    except ValueError:
        return True
