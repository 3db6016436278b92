"""Where an agent keeps what outlives it: ``<state>/nodes/<name>``."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.ids import is_sane, new_id
from apexbridge_trio.results import is_file_name

FOLDER: Final = "nodes"
_ID: Final = "id"
_LOCK: Final = "lock"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Home(Struct, frozen=True):
    """The folder of one node, and who it is.

    Args:
        folder: Holds the id, kept results, and ``plugins/<plugin>`` as the state of each plugin.
        node_id: The same after each start, also if the name's folder came from elsewhere.
    """

    folder: Path
    node_id: str


@contextmanager
def open_home(state: Path, name: str, node_id: str | None = None) -> Iterator[Home]:
    """Take a node's folder for this process; it is free again on leaving, and after any crash.

    Args:
        state: The state directory; several nodes of one machine may share it.
        name: The node's.
        node_id: Instead of the one that is kept.

    Raises:
        ConfigInvalid: Another agent has it, it can not be written, or the id can not be one.
    """
    if node_id is not None and not is_sane(node_id):
        raise ConfigInvalid(f"--id: {node_id[:200]!r} is no id: 1 to 200 of A-Z a-z 0-9 . _ : and -")
    folder = state / FOLDER / folder_name(name)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise ConfigInvalid(f"can not use {folder}: {fault.strerror}") from None
    try:
        _take(lock, folder)
        yield Home(folder, node_id or _kept_id(folder / _ID, name))
    finally:
        os.close(lock)


def folder_name(name: str) -> str:
    """Return a name for a folder that no other node's name leads to."""
    if is_file_name(name):
        return name
    return f"{_UNSAFE.sub('_', name)[:100]}-{sha256(name.encode()).hexdigest()[:8]}"


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigInvalid(f"another agent runs with {folder}: give this one another --name") from None


def _kept_id(file: Path, name: str) -> str:
    """Return the id of all starts: the name, for people, where it can be an id."""
    try:
        kept = file.read_text("ascii").strip() if file.is_file() else ""
        if is_sane(kept):
            return kept
        made = name if is_sane(name) else new_id("node")
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(f"{made}\n", "ascii")
        unfinished.replace(file)
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigInvalid(f"can not use {file}: {fault}") from None
    return made
