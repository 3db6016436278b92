"""Reads a backup that may be cut short, damaged or forged: all of it is checked before any of it counts.

Nothing of the archive decides where a file goes or what it is: names are checked against a rule, each
file is made anew and plain, and no more is written than the manifest says, which is no more than there
is room for.
"""

import errno
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from msgspec import Struct

from apexbridge_trio.backup.contents import MANIFEST, is_safe
from apexbridge_trio.backup.manifest import MOST_BYTES, MOST_FILES, Manifest, Member, read_manifest
from apexbridge_trio.errors import BackupUnusable
from apexbridge_trio.store import FILE, NEWEST, check_copy

_BLOCK: Final = 1024 * 1024
# Left free on the disk, for the hub that starts.
_SPARE: Final = 16 * 1024 * 1024
# All that `zipfile` raises for bytes that are wrong somewhere.
_BROKEN: Final = (
    BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError,
    OverflowError,
)  # fmt: skip


class Backup(Struct, frozen=True):
    """An archive whose manifest was read; made by `open_backup`."""

    manifest: Manifest
    _zip: ZipFile

    def verify(self) -> None:
        """Read every file of it and compare.

        Raises:
            BackupUnusable: One is not as the manifest says.
        """
        for member in self.manifest.files:
            with _in_words():
                self._copy(member, None)

    def unpack(self, into: Path) -> None:
        """Write every file of it below an empty folder, and check the database.

        Raises:
            BackupUnusable: One is not as the manifest says, or there is no room.
            StoreUnusable: The database is damaged.
            OSError: It can not be written.
        """
        needed, free = self.manifest.bytes + _SPARE, shutil.disk_usage(into).free
        if needed > free:
            raise BackupUnusable(f"it needs {needed >> 20} MB, and {free >> 20} MB are free in {into.parent}")
        for member in self.manifest.files:
            path = into / member.path
            for folder in reversed(path.relative_to(into).parents[:-1]):
                (into / folder).mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb") as file, _in_words():  # noqa: PTH123  # with a mode
                self._copy(member, file)
        if check_copy(into / FILE) != self.manifest.schema:
            raise BackupUnusable("its database is of another version than its manifest says")

    def _copy(self, member: Member, into: BinaryIO | None) -> None:
        digest, left = sha256(), member.size
        with self._zip.open(member.path) as source:
            while block := source.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                digest.update(block)
                if into is not None:
                    into.write(block)
        if left or digest.hexdigest() != member.sha256:
            raise BackupUnusable(f"{member.path} in it is damaged")


@contextmanager
def open_backup(path: Path) -> Iterator[Backup]:
    """Open an archive and check what it says of itself; its files are read by what is called next.

    Raises:
        BackupUnusable: It is no backup, is damaged, forged, or of a newer hub.
    """
    try:
        file = path.open("rb")
    except OSError as fault:
        raise BackupUnusable(f"can not read {path}: {fault.strerror}") from None
    with file:
        try:
            with _in_words():
                archive = ZipFile(file)
                backup = Backup(_manifest_of(archive), archive)
        except BackupUnusable as fault:
            raise BackupUnusable(f"{path} can not be restored: {fault.message}") from None
        yield backup


def _manifest_of(archive: ZipFile) -> Manifest:
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise BackupUnusable(f"it has more than {MOST_FILES} files")
    if MANIFEST not in archive.NameToInfo:
        raise BackupUnusable("it is no backup of a hub: it has no manifest")
    _check_entries(entries)
    head = archive.getinfo(MANIFEST)
    if head.file_size > MOST_BYTES:
        raise BackupUnusable("its manifest is too large")
    with archive.open(head) as file:
        manifest = read_manifest(file.read(MOST_BYTES))
    _check(manifest, {entry.filename: entry.file_size for entry in entries if entry is not head})
    return manifest


def _check_entries(entries: list[ZipInfo]) -> None:
    if len({entry.filename for entry in entries}) != len(entries):
        raise BackupUnusable("it has two files of one name")
    for entry in entries:
        is_plain = entry.compress_type in {ZIP_STORED, ZIP_DEFLATED} and not entry.flag_bits & 1
        if not is_plain or entry.is_dir() or (entry.filename != MANIFEST and not is_safe(entry.filename)):
            raise BackupUnusable(f"it has a file that may not be in it: {entry.filename[:200]!r}")


def _check(manifest: Manifest, sizes: dict[str, int]) -> None:
    """Compare a manifest with what is in the archive."""
    if manifest.schema > NEWEST:
        raise BackupUnusable(
            f"it is of a newer hub (version {manifest.program}, store {manifest.schema}; this one knows"
            f" {NEWEST}): install that one first"
        )
    if {file.path: file.size for file in manifest.files} != sizes or len(manifest.files) != len(sizes):
        raise BackupUnusable("its files are not those of its manifest")
    if any(file.size < 0 for file in manifest.files) or FILE not in sizes:
        raise BackupUnusable("it has no database")
    paths = {file.path for file in manifest.files}
    if any(parent in paths for path in paths for parent in _parents(path)):
        raise BackupUnusable("one of its files is the folder of another one")


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except _BROKEN:
        raise BackupUnusable("it is damaged or cut short") from None
    except OSError as fault:
        if fault.errno != errno.EINVAL:  # not the disk: a place before the file's beginning
            raise
        raise BackupUnusable("it is damaged or cut short") from None
