"""Puts a backup in the place of a hub's state, and keeps what was there.

==================  ============================================================================
in the directory    what it means
==================  ============================================================================
``restore.new-*``   is being unpacked; what a crash left of it is worth nothing
``restore.staged``  a whole backup, checked and on disk; the next start of the hub takes it
``restore.applying``  it is being put in place; whoever holds the lock goes on from where it stood
``restore.unnoted``   it is in place, and its line in the audit is not on disk yet (`unnoted`)
``before-restore-*``  what was there before; nobody but people deletes it
==================  ============================================================================

Each arrow is one rename. Putting in place moves names one by one, first what is there out of the way and
then the new one in, so it can be taken up after a crash at any moment: a name of the plan that is still
in ``restore.applying`` has not been moved in.
"""

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from apexbridge_trio.backup.contents import OWN
from apexbridge_trio.backup.reading import Backup
from apexbridge_trio.errors import BackupUnusable
from apexbridge_trio.files import sync_folder
from apexbridge_trio.store import FILE, RESTORING, give_to_owner

STAGED: Final = "restore.staged"
_UNPACKED: Final = "restore.new-"
_KEPT: Final = "before-restore-"
_PLAN: Final = ".plan.json"
_UNNOTED: Final = "restore.unnoted"


class Plan(Struct, frozen=True):
    """What is to be moved in; it is there until the audit has it.

    Attributes:
        kept: The name of the folder for what was there.
        by: Who wants it, as the audit names people; empty: nobody has said.
    """

    kept: str
    names: list[str]
    by: str = ""


def stage(backup: Backup, state: Path, *, force: bool, by: str = "") -> Path:
    """Unpack a backup beside what is there, checked and on disk; nothing is changed for a hub that runs.

    Args:
        backup: What to restore.
        state: The state directory.
        force: What is there will be moved out of the way, or what was staged before is dropped.
        by: Who wants it, as the audit names people.

    Raises:
        BackupUnusable: It is damaged, there is no room, or something is there and `force` was not said.
        StoreUnusable: Its database is damaged.
    """
    if not force and ((state / FILE).exists() or (state / STAGED).exists()):
        raise BackupUnusable(
            f"there is a hub's state in {state} already; with --force it is moved aside, and kept"
        )
    if (state / RESTORING).exists():
        raise BackupUnusable(f"an earlier restore in {state} has not ended; start the hub once to end it")
    for left in state.glob(f"{_UNPACKED}*"):
        shutil.rmtree(left)
    try:
        return _unpack(backup, state, by)
    except OSError as fault:
        raise BackupUnusable(f"can not unpack into {state}: {fault.strerror or fault}") from None


def finish_restore(state: Path) -> Plan | None:
    """Put a staged backup in place, or go on with one that was cut short.

    The caller holds the state directory (`hold_state`), and notes it in the audit that has come with it:
    until `restore_noted`, it is returned again.

    Returns:
        What was put in place, and is not noted yet; None: there is nothing of it.

    Raises:
        BackupUnusable: A name can not be moved; the next call goes on.
    """
    try:
        _finish(state)
        return _plan_in(state / _UNNOTED) if (state / _UNNOTED).exists() else None
    except OSError as fault:
        raise BackupUnusable(
            f"the restore in {state} can not be ended now: {fault.strerror or fault};"
            " it goes on at the next start"
        ) from None


def restore_noted(state: Path) -> None:
    """Hear that the audit has it."""
    (state / _UNNOTED).unlink()
    sync_folder(state)


def _finish(state: Path) -> None:
    applying = state / RESTORING
    if not applying.exists():
        if not (state / STAGED).exists():
            return
        (state / STAGED).rename(applying)
        sync_folder(state)
    if (applying / _PLAN).exists():  # else it was cut short before its very last step
        plan = _plan_in(applying / _PLAN)
        kept = state / plan.kept
        kept.mkdir(mode=0o700, exist_ok=True)
        give_to_owner(kept, state)
        _move_all(plan, applying, state, kept)
        (applying / _PLAN).rename(state / _UNNOTED)
        sync_folder(state)
    applying.rmdir()
    sync_folder(state)


def _plan_in(path: Path) -> Plan:
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def _move_all(plan: Plan, applying: Path, state: Path, kept: Path) -> None:
    """Move what was there out, and what is new in; what was done before a crash is not done again."""
    # First what the backup has not: the old log must not stand beside the new database.
    for name in OWN:
        if name not in plan.names and os.path.lexists(state / name):
            (state / name).rename(kept / name)
    for name in plan.names:
        if not (applying / name).exists():
            continue  # it has been moved in
        if os.path.lexists(state / name):
            (state / name).rename(kept / name)
        (applying / name).rename(state / name)
    sync_folder(kept)
    sync_folder(state)


def _unpack(backup: Backup, state: Path, by: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_UNPACKED, dir=state))
    try:
        backup.unpack(folder)
        names = sorted(path.name for path in folder.iterdir())
        (folder / _PLAN).write_bytes(msgspec.json.encode(Plan(_new_name(state), names, by)))
        for path in [folder, *folder.rglob("*")]:
            give_to_owner(path, state)
        # One call for all files: a sync of each takes a minute where there are many results.
        os.sync()
        if (state / STAGED).exists():
            shutil.rmtree(state / STAGED)
        folder.rename(state / STAGED)
        sync_folder(state)
    except BaseException:  # Ctrl-C too: what is half unpacked is of no use
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return state / STAGED


def _new_name(state: Path) -> str:
    stamp = f"{_KEPT}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    taken = [path.name for path in state.glob(f"{_KEPT}*")]
    return stamp if stamp not in taken else f"{stamp}-{len(taken)}"
