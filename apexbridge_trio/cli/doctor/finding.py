"""One line of what the doctor says, in both languages."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]
Language = Literal["en", "zh"]


class Said(NamedTuple):
    """A sentence in English and in Chinese."""

    en: str
    zh: str

    def in_(self, language: Language) -> str:
        """Return it in one of them."""
        return self.zh if language == "zh" else self.en


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do.

    Attributes:
        check: A short word, the same in each language and for scripts.
        hint: What to do about it; empty of what is well.
    """

    check: str
    level: Level
    said: Said
    hint: Said = Said("", "")

    def entry(self, language: Language) -> dict[str, Any]:
        """Return it for scripts."""
        return {
            "check": self.check,
            "level": self.level,
            "message": self.said.in_(language),
            "hint": self.hint.in_(language),
        }


def ok(check: str, en: str, zh: str) -> Finding:
    """Return a finding of something that is well."""
    return Finding(check, "ok", Said(en, zh))


def warn(check: str, said: Said, hint: Said) -> Finding:
    """Return a finding of something that works, and not as it should."""
    return Finding(check, "warn", said, hint)


def fail(check: str, said: Said, hint: Said) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check, "fail", said, hint)


def owner_of(path: Path) -> str:
    """Return whose a file is, as people call them."""
    try:
        return path.owner()
    except KeyError:  # of a user that is not known here
        return str(path.stat().st_uid)


def language_of(env: Mapping[str, str] = os.environ) -> Language:
    """Return the language of the one who asks, as the C library finds it."""
    named = next((env[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if env.get(name)), "")
    return "zh" if named.lower().startswith("zh") else "en"
