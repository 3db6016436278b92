"""What must never be read by anyone: secrets by their value, and keys by their shape.

The one register of the process. What is hidden here is masked wherever the hub writes text for
people; it is a net below code that keeps secrets to itself, not a reason to be careless.
"""

import re
from urllib.parse import unquote

MASK = "***"

# Shorter ones are placeholders ("none", "ollama"): hiding them would blot out ordinary words.
_SHORTEST_SECRET = 8

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)(?:[ \t]+|\.)[\w.~+/=-]+"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b((?:vcp|abp)_key)(?:=|%3d)[^\s\"'?&]+"), rf"\1={MASK}"),
    (re.compile(r"\bapx_\w[\w-]*"), f"apx_{MASK}"),
    (re.compile(r"(plugin-callback/+~)[^/\s\"'?&]+"), rf"\1{MASK}"),
)
_ENCODED_LETTER = re.compile(r"%(?:2[dDeE]|3[0-9dD]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")

_hidden: set[str] = set()
_hidden_pattern: re.Pattern[str] | None = None


def hide(secret: str) -> None:
    """Mask this text from now on, wherever the hub writes for people.

    Texts shorter than 8 characters are left as they are.
    """
    global _hidden_pattern  # noqa: PLW0603  # one process, one register
    secret = secret.strip()
    if len(secret) >= _SHORTEST_SECRET:
        _hidden.add(secret)
        longest_first = sorted(_hidden, key=len, reverse=True)
        _hidden_pattern = re.compile("|".join(map(re.escape, longest_first)))


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
    if _hidden_pattern is not None:
        text = _hidden_pattern.sub(MASK, text)
    if _may_hold_key(text.lower()):
        for pattern, mask in _PATTERNS:
            text = pattern.sub(mask, text)
    return text


def _may_hold_key(lowered: str) -> bool:
    """Tell whether a pattern can match; written out, since this is most of what a log line costs."""
    return "bearer" in lowered or "_key" in lowered or "apx_" in lowered or "callback/" in lowered
