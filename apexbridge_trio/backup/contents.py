"""What of a state directory is in a backup, by name; and which names a backup may have.

In it: the database, the results it knows of, what plugins keep, the config, and the secret files that
the config names and that lie in the state directory. Not in it: secrets elsewhere (credentials of
systemd, files in /etc, the environment), plugins themselves, what an agent on this machine keeps
(``nodes/``), copies before migrations.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from apexbridge_trio.config import find_secret_file
from apexbridge_trio.config.places import FILE as CONFIG
from apexbridge_trio.results import FOLDER as RESULTS
from apexbridge_trio.store import FILE

PLUGINS: Final = "plugins"
# A config that is not in the state directory; a restore leaves it here for people to look at.
ELSEWHERE: Final = f"elsewhere/{CONFIG}"
MANIFEST: Final = "manifest.json"

# What a restore moves out of the way, whether the backup has such a thing or not.
OWN: Final = (f"{FILE}-wal", f"{FILE}-shm", FILE, RESULTS, PLUGINS, CONFIG)

_DEEPEST: Final = 16
_LONGEST_PART: Final = 255  # bytes; Linux takes no more
# Keys that name one secret file each.
_SECRET_FILES: Final = frozenset({"api_key_file", "secret_file"})
# Names of the hub's own that come and go: none is ever in a backup.
_RESERVED: Final = ("hub.", "restore.", "before-restore", "nodes", ".", MANIFEST)


def is_safe(name: str) -> bool:
    """Tell whether a file of a backup may have a name: it stays below the folder, and is plain."""
    parts = name.split("/")
    if not 1 <= len(parts) <= _DEEPEST or "\\" in name or not name.isprintable():
        return False
    if any(part in {"", ".", ".."} or len(part.encode("utf-8", "replace")) > _LONGEST_PART for part in parts):
        return False
    return name == FILE or not parts[0].startswith(_RESERVED)


def plugin_files(state: Path) -> Iterator[str]:
    """Yield what plugins keep, by its name below the state directory; links and sockets are left out."""
    for folder, folders, files in os.walk(state / PLUGINS):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(state).as_posix()
            if is_safe(name) and stat.S_ISREG(path.lstat().st_mode):
                yield name


def secret_files(config: Path, env: Mapping[str, str]) -> list[Path]:
    """Return the secret files that a config names, wherever they are; none of one that can not be read."""
    try:
        values = tomllib.loads(config.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return []
    return [find_secret_file(name, beside=config.absolute().parent, env=env) for name in _named(values)]


def within(path: Path, state: Path) -> str | None:
    """Return a file's name below a state directory; None if it is elsewhere, or no plain file."""
    try:
        name = PurePosixPath(os.path.normpath(path)).relative_to(state).as_posix()
    except ValueError:
        return None
    return name if is_safe(name) and path.is_file() and not path.is_symlink() else None


def _named(value: Any) -> Iterator[str]:
    """Yield the values of all keys that name secret files."""
    if isinstance(value, list):
        for inner in value:
            yield from _named(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _SECRET_FILES and isinstance(inner, str) and inner:
                yield inner
            elif key == "signing_secret_files":
                yield from _strings(inner)
            else:
                yield from _named(inner)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
