"""What must never be read by anyone: secrets by their value, and keys by their shape.

The one register of the process. What is hidden here is masked wherever the hub writes text for
people; it is a net below code that keeps secrets to itself, not a reason to be careless.

A secret that was replaced is still a secret, so the register keeps what it had, up to a number: then the one
goes that was named longest ago. Whatever the config and the plugins have in force is named again each time
they are read. Each costs a search in each line, 0.2 µs; one expression for all of them took 3 ms for 1000.
"""

import re
import threading
from typing import Final
from urllib.parse import unquote

MASK = "***"

# Shorter ones are placeholders ("none", "ollama"): hiding them would blot out ordinary words.
_SHORTEST_SECRET = 8
# A home has tens. Who is hurt: the one with more, whose oldest ones are masked by their shape alone.
MOST_HIDDEN: Final = 1024

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)(?:[ \t]+|\.)[\w.~+/=-]+"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b((?:vcp|abp)_key)(?:=|%3d)[^\s\"'?&]+"), rf"\1={MASK}"),
    (re.compile(r"\bapx_\w[\w-]*"), f"apx_{MASK}"),
    (re.compile(r"(plugin-callback/+~)[^/\s\"'?&]+"), rf"\1{MASK}"),
)
_ENCODED_LETTER = re.compile(r"%(?:2[dDeE]|3[0-9dD]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")

# In the order in which they were named last; and the same, the longest first.
_hidden: dict[str, None] = {}
_longest_first: tuple[str, ...] = ()
# A config is read in a thread, while the loop or another thread may name a secret.
_naming = threading.Lock()


def hide(secret: str) -> None:
    """Mask this text from now on, wherever the hub writes for people.

    Texts shorter than 8 characters are left as they are.
    """
    global _longest_first  # noqa: PLW0603  # one process, one register
    secret = secret.strip()
    if len(secret) < _SHORTEST_SECRET:
        return
    with _naming:
        is_new = secret not in _hidden
        _hidden.pop(secret, None)
        _hidden[secret] = None
        if is_new:
            if len(_hidden) > MOST_HIDDEN:
                del _hidden[next(iter(_hidden))]
            _longest_first = tuple(sorted(_hidden, key=len, reverse=True))


def redact(text: str) -> str:
    """Return `text` with every secret the process knows, or knows the shape of, as ``***``.

    A secret is found whether its letters are percent-encoded or not.
    """
    redacted = _redact_plain(text)
    if "%" in redacted:
        # First only letters, which can not end a key of a path, so that none ends early; then all.
        for decode in (_decode_letters, unquote):
            decoded = decode(redacted)
            masked = _redact_plain(decoded)
            redacted = redacted if masked == decoded else masked
    return redacted


def _decode_letters(text: str) -> str:
    return _ENCODED_LETTER.sub(lambda found: unquote(found[0]), text)


def _redact_plain(text: str) -> str:
    for secret in _longest_first:
        if secret in text:
            text = text.replace(secret, MASK)
    if _may_hold_key(text.lower()):
        for pattern, mask in _PATTERNS:
            text = pattern.sub(mask, text)
    return text


def _may_hold_key(lowered: str) -> bool:
    """Tell whether a pattern can match; written out, since this is most of what a log line costs."""
    return "bearer" in lowered or "_key" in lowered or "apx_" in lowered or "callback/" in lowered
