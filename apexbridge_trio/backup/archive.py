"""Writes a backup: a ZIP file with a manifest, whole or not there, looked through before it counts.

The hub may run. The database is copied as it is at one moment (``VACUUM INTO``), and that copy says which
results belong to it. A result's file is on disk before its row, and stays as it is, so each one is
there; but for one that is forgotten while the backup runs (`results.keep_days`). Then all begins anew.
"""

import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import msgspec
from msgspec import Struct

from apexbridge_trio import __version__
from apexbridge_trio.backup.contents import (
    ELSEWHERE,
    MANIFEST,
    plugin_files,
    secret_files,
    within,
)
from apexbridge_trio.backup.manifest import Manifest, Member
from apexbridge_trio.backup.reading import open_backup
from apexbridge_trio.errors import BackupUnusable
from apexbridge_trio.files import sync_folder
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE, RESTORING, check_copy, copy_store, results_in

_ATTEMPTS: Final = 3
_BLOCK: Final = 1024 * 1024
_MODE: Final = 0o600


class Written(Struct, frozen=True):
    """A backup that is on disk and was read again."""

    path: Path
    size: int
    manifest: Manifest


def write_backup(
    state: Path, target: Path, *, config: Path | None, env: Mapping[str, str], force: bool = False
) -> Written:
    """Write all that a hub must not lose to one file, for its owner alone (mode 0600).

    Args:
        state: The state directory; the hub may run in it.
        target: The file. It is written beside its place and renamed, so it is whole or not there.
        config: The config in force; None: the one that comes with the program.
        env: Where secrets are looked up.
        force: A file that is there is replaced.

    Raises:
        BackupUnusable: The target is there, can not be written, or is not what was written.
        StoreUnusable: The store can not be read, or is damaged.
    """
    if target.exists() and not force:
        raise BackupUnusable(f"{target} is there already; choose another name, or --force")
    if (state / RESTORING).exists():
        raise BackupUnusable(f"a restore has begun in {state} and not ended; start the hub first")
    try:
        with tempfile.TemporaryDirectory(
            prefix=".apexbridge-backup-", dir=target.absolute().parent
        ) as folder:
            unfinished, manifest = _write_whole(state, Path(folder), config, env)
            with open_backup(unfinished) as again:
                again.verify()
            _put(unfinished, target.absolute(), force=force)
    except OSError as fault:
        raise BackupUnusable(f"can not write {target}: {fault.strerror or fault}") from None
    return Written(target, target.stat().st_size, manifest)


def _write_whole(
    state: Path, folder: Path, config: Path | None, env: Mapping[str, str]
) -> tuple[Path, Manifest]:
    """Write one whose database and results are of one moment."""
    for attempt in range(1, _ATTEMPTS + 1):
        copy, unfinished = folder / FILE, folder / "backup"
        copy_store(state / FILE, copy)
        with _Writer(unfinished) as writer:
            schema = check_copy(copy)
            writer.add(copy, FILE)
            missing = sum(not writer.add(state / name, name) for name in _results(copy))
            if missing and attempt < _ATTEMPTS:
                continue
            manifest = writer.end(state, config, env, schema=schema, missing=missing)
            return unfinished, manifest
    raise AssertionError("the last attempt ends")


def _results(copy: Path) -> list[str]:
    return [f"{FOLDER}/{plugin}/{task_id}.json" for plugin, task_id in results_in(copy)]


class _Writer:
    """The archive while it is written; in use as a context manager."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = open(os.open(path, flags, _MODE), "w+b")  # noqa: PTH123, SIM115  # opened with a mode; closed on leaving
        self._zip = ZipFile(self._file, "w", ZIP_DEFLATED)
        self._members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._zip.close()

    def add(self, path: Path, name: str) -> bool:
        """Add a file; False if it is not there."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        with open(source, "rb") as file:  # noqa: PTH123  # links are not followed
            self._members.append(self._copy(file, name))
        return True

    def end(
        self, state: Path, config: Path | None, env: Mapping[str, str], *, schema: int, missing: int
    ) -> Manifest:
        """Add the rest and the manifest, and bring all of it to the disk."""
        for name in plugin_files(state):
            self.add(state / name, name)
        left_out = self._add_config(state, config, env)
        manifest = Manifest(
            program=__version__,
            schema=schema,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            config="" if config is None or within(config, state) else str(config),
            missing=missing,
            left_out=left_out,
            files=self._members,
        )
        self._zip.writestr(_entry(MANIFEST), msgspec.json.encode(manifest))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        return manifest

    def _add_config(self, state: Path, config: Path | None, env: Mapping[str, str]) -> list[str]:
        """Add the config and its secrets in the state directory; returns those that are elsewhere."""
        if config is None:
            return []
        self.add(config, within(config, state) or ELSEWHERE)
        left_out = []
        for path in dict.fromkeys(secret_files(config, env)):
            name = within(path, state)
            if name is None:
                left_out.append(str(path))
            elif name not in {member.path for member in self._members}:
                self.add(path, name)
        return left_out

    def _copy(self, file: BinaryIO, name: str) -> Member:
        digest, size = sha256(), 0
        with self._zip.open(_entry(name), "w", force_zip64=True) as member:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
                member.write(block)
        return Member(name, size, digest.hexdigest())


def _entry(name: str) -> ZipInfo:
    # Without a time: the clock may stand before 1980, where ZIP's time begins.
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = _MODE << 16
    return entry


def _put(unfinished: Path, target: Path, *, force: bool) -> None:
    """Give a finished file its name; without `force` never in the place of another one."""
    if force:
        unfinished.replace(target)
    else:
        try:
            target.hardlink_to(unfinished)
        except FileExistsError:
            raise BackupUnusable(f"{target} is there already; choose another name, or --force") from None
        except OSError:  # a file system without links, as on a stick
            unfinished.rename(target)
    sync_folder(target.parent)
