"""A value that is never shown, and where it is read from."""

import stat
from collections.abc import Mapping
from pathlib import Path

from apexbridge_trio.config.places import is_there, named, read_regular
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.redaction import MASK, hide

# A key is tens of characters, a token a few thousand; a file beyond this is not the one that was meant.
_LARGEST_FILE = 65_536


class Secret:
    """A text that shows itself only to who asks by name; making one hides it from every log."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text
        hide(text)

    def reveal(self) -> str:
        """Return the text. What it is put into must not be shown either."""
        return self._text

    def __eq__(self, other: object) -> bool:
        # Two configs are compared; nobody who could time it sees how long it takes.
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return MASK


def secret_from_env(name: str, env: Mapping[str, str]) -> Secret:
    """Take a secret from an environment variable.

    Raises:
        ConfigInvalid: It is not set, or can not be a secret.
    """
    if name not in env:
        raise ConfigInvalid(f"the environment variable {name} is not set")
    return _secret(env[name], f"the environment variable {name}")


def find_secret_file(name: str, *, beside: Path, env: Mapping[str, str]) -> Path:
    """Return where a secret's file is: a relative name is a systemd credential, or beside the config.

    Raises:
        ConfigInvalid: It is in the home of a user who has none.
    """
    credential = Path(env.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / name
    return credential if is_there(credential) else named(name, beside)


def secret_from_file(path: Path) -> Secret:
    """Read a secret; blanks and line ends around it do not count.

    Raises:
        ConfigInvalid: It can not be read, or holds no secret. Its content is never told.
    """
    return _secret(read_regular(path, _LARGEST_FILE).decode("utf-8", "replace"), str(path))


def is_readable_by_others(path: Path) -> bool:
    """Whether every user of the machine may read the file."""
    return bool(path.stat().st_mode & stat.S_IROTH)


def _secret(text: str, source: str) -> Secret:
    """Make a secret of what can stand in an HTTP header; anything else would forge one."""
    text = text.strip()
    if not text:
        raise ConfigInvalid(f"{source} is empty")
    if len(text) > _LARGEST_FILE or not text.isascii() or not text.isprintable():
        raise ConfigInvalid(f"{source} holds more than one line of printable ASCII")
    return Secret(text)
