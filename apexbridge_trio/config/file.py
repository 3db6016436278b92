"""The config file as the hub finds it, and writes it: whole or not at all.

A write is a new file beside the old one, synced, with its mode, owner and extended attributes (lists of
who may read it are among these), and renamed onto it. A symbolic link stays one: what it leads to is
replaced. A file with several names (hard links) is not written: it would be another one under each.
Between the last look and the rename there is a moment in which an edit by hand would be lost; no file
system offers a way to close it.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from errno import EACCES, EBUSY, ENODATA, ENOTSUP, EPERM, EROFS
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from apexbridge_trio.config.load import MAX_FILE_BYTES, config_of, config_of_values, read_bytes, text_of
from apexbridge_trio.config.needs import Check
from apexbridge_trio.config.places import ETC, FILE, is_there
from apexbridge_trio.config.schema import Config
from apexbridge_trio.errors import BodyTooLarge, ConfigReadOnly, ConfigStale, ConfigUnwritable
from apexbridge_trio.files import sync_folder
from apexbridge_trio.log import get_logger

_BOM: Final = b"\xef\xbb\xbf"
_READ_ONLY: Final = frozenset({EACCES, EPERM, EROFS, EBUSY})
# 48 bits of the content: two states of one house's file do not meet in them.
_DIGEST_CHARS: Final = 12

# What a file begins with that the hub has made.
HEAD: Final = (
    "# Made by apexbridge, with what differs from the defaults. Every key is explained in the\n"
    "# config.toml that comes with the hub. You may edit this file: the hub sees it.\n\n"
)

log = get_logger("config")


class Source(Struct, frozen=True):
    """What was read.

    Attributes:
        path: Where; None: there is no file, and the defaults are in force.
        data: All of it, as it is on disk.
        text: The same, without a byte order mark.
    """

    path: Path | None
    data: bytes = b""
    text: str = ""

    @property
    def digest(self) -> str:
        """Stands for the content."""
        return digest_of(self.data)


def digest_of(data: bytes) -> str:
    """Return what stands for a file's content."""
    return sha256(data).hexdigest()[:_DIGEST_CHARS]


class ConfigFile:
    """The place of the config; which file is in force is looked up each time.

    All of it blocks.

    Args:
        option: The file that was named on the command line, if one was.
        state: The state directory.
        env: Where keys and credentials are looked up.
        etc: The directory of the machine's configuration.
    """

    def __init__(self, option: Path | None, state: Path, env: Mapping[str, str], *, etc: Path = ETC) -> None:
        self._option = option.absolute() if option else None
        self._state = state.absolute()
        self._etc = etc
        self.env = env

    @property
    def path(self) -> Path | None:
        """The file in force; None: there is none."""
        if self._option is not None:
            return self._option
        places = (self._state / FILE, self._etc / FILE)
        return next((place for place in places if is_there(place)), None)

    @property
    def base(self) -> Path:
        """What relative names in the file are relative to."""
        return (self.path or self._state / FILE).parent

    def signature(self) -> tuple[object, ...]:
        """Return what is another one whenever the file was changed or another file is in force."""
        path = self.path
        try:
            found = path.stat() if path else None
        except OSError as fault:
            return path, fault.errno
        return (
            (path,)
            if found is None
            else (path, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        )

    def read(self) -> Source:
        """Read the file in force.

        Raises:
            ConfigInvalid: It can not be read, or is no text.
        """
        if (path := self.path) is None:
            return Source(None)
        data = read_bytes(path)
        return Source(path, data, text_of(data, path.name))

    def config_of(self, text: str, also: Check | None = None) -> Config:
        """Return the config that a text would be as this file.

        Args:
            text: All of it.
            also: As for `load`.

        Raises:
            ConfigInvalid: With every fault, and its line.
        """
        return config_of(text, (self.path or Path(FILE)).name, self.base, self.env, also)

    def config_of_values(self, values: object, also: Check | None = None) -> Config:
        """Return the config that plain values would be in this file; see `config_of`.

        Raises:
            ConfigInvalid: With every fault.
        """
        return config_of_values(values, self.base, self.env, also)

    def write(self, before: Source, text: str) -> Source:
        """Put a text in the place of what was read; it is on disk when this returns.

        Raises:
            ConfigStale: The file is not as it was read any more.
            ConfigReadOnly: It may not be written, or replaced.
            ConfigUnwritable: The disk is full or broken.
            BodyTooLarge: It would be larger than a config may be.
        """
        head = _BOM if before.data.startswith(_BOM) else b""
        is_to_be_explained = before.path is None and not text.startswith(HEAD)
        data = head + (HEAD + text if is_to_be_explained else text).encode()
        if len(data) > MAX_FILE_BYTES:
            raise BodyTooLarge(f"The config would be larger than {MAX_FILE_BYTES} bytes.")
        try:
            self._replace(before, data)
        except OSError as fault:
            if fault.errno in _READ_ONLY:
                raise _read_only() from None
            raise ConfigUnwritable(f"The config file can not be written: {fault.strerror}.") from None
        path = before.path or self._state / FILE
        return Source(path, data, text_of(data, path.name))

    def _replace(self, before: Source, data: bytes) -> None:
        # Where there is no file yet, it is made in the state directory.
        target = (before.path or self._state / FILE).resolve()
        kept = _kept_of(target) if before.path else _Kept(0o600)
        fresh = target.with_name(f".{target.name}.new")
        with suppress(FileNotFoundError):
            fresh.unlink()  # of a hub that was killed in the middle
        try:
            _write(fresh, data, kept)
            self._compare(before, target)
            fresh.replace(target)
        except BaseException:  # nothing is handled: the file is as it was, and nothing lies beside it
            with suppress(OSError):
                fresh.unlink()
            raise
        _sync_folder(target.parent)

    def _compare(self, before: Source, target: Path) -> None:
        if self.path != before.path or (before.path and target.read_bytes() != before.data):
            raise ConfigStale("The config file was edited by hand meanwhile; look at it, and try again.")


class _Kept(Struct, frozen=True):
    """What a file keeps when it is replaced.

    Attributes:
        owner: User and group, if that is not the hub itself.
    """

    mode: int
    owner: tuple[int, int] | None = None
    attributes: Mapping[str, bytes] = {}


def _write(path: Path, data: bytes, kept: _Kept) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if kept.owner is not None:
            os.fchown(descriptor, *kept.owner)
        os.fchmod(descriptor, kept.mode)
        # After the mode, which would change the mask of an access list.
        for name, value in kept.attributes.items():
            _set_attribute(descriptor, name, value)
        os.fsync(descriptor)


def _set_attribute(descriptor: int, name: str, value: bytes) -> None:
    """Give a file an attribute of the one before; a label that the system itself sets is left to it."""
    try:
        os.setxattr(descriptor, name, value)
    except OSError as fault:
        if not name.startswith("security.") or fault.errno not in {EPERM, EACCES, ENOTSUP}:
            raise


def _attributes_of(target: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        for name in os.listxattr(target):
            found[name] = os.getxattr(target, name)
    except OSError as fault:
        if fault.errno not in {ENOTSUP, ENODATA}:  # a file system that has none; one that went meanwhile
            raise
    return found


def _kept_of(target: Path) -> _Kept:
    """Return what a file keeps.

    Raises:
        ConfigReadOnly: It is not to be written, also by one who could.
    """
    found = target.stat()
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise _read_only()
    if found.st_nlink > 1:
        raise ConfigReadOnly(
            "The config file has another name as well (a hard link), and would not be the same under both: "
            "edit it by hand, or put a copy in its place (cp -p FILE NEW && mv NEW FILE)."
        )
    theirs = (found.st_uid, found.st_gid)
    owner = None if theirs == (os.geteuid(), os.getegid()) else theirs
    return _Kept(stat.S_IMODE(found.st_mode), owner, _attributes_of(target))


def _sync_folder(folder: Path) -> None:
    """Have the rename on disk; it has been made, so that a fault here takes nothing back."""
    try:
        sync_folder(folder)
    except OSError as fault:
        log.warning("the folder of the config could not be synced", reason=fault.strerror)


def _read_only() -> ConfigReadOnly:
    return ConfigReadOnly(
        "The config file may not be written by the hub: edit it by hand, or give the hub one of its own "
        "in its state directory (--config)."
    )
