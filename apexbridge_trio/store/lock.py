"""One hub for one state directory: two would fire each reminder twice and end each other's tasks.

The lock is the kernel's (flock), so it goes with the process that holds it, however that ends. The
file stays; what is in it only names the process to people.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.store.faults import said

LOCK: Final = "hub.lock"
_LONGEST_PID: Final = 20


class StateHeld(StoreUnusable):
    """Another process has the state directory.

    Attributes:
        pid: Which one, as it wrote; empty if that can not be read.
    """

    code = "state_in_use"

    def __init__(self, state: Path, pid: str) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"a hub runs in {state} already ({who}); stop it first (Ctrl-C there, or"
            " systemctl stop apexbridge), or give this one another --state"
        )
        self.pid = pid


@contextmanager
def hold_state(state: Path) -> Iterator[None]:
    """Hold a state directory inside the block; nothing waits.

    Raises:
        StateHeld: Another process has it.
        StoreUnusable: The lock's file can not be opened.
    """
    path = state / LOCK
    try:
        # Not inherited: a plugin that outlives the hub must not hold it.
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise StoreUnusable(f"can not use {path}: {said(fault)}") from None
    try:
        _take(file, state)
        yield
    finally:
        os.close(file)


def holder_of(state: Path) -> str | None:
    """Return the process that has a state directory, as it wrote; None: nobody has it. Nothing is touched.

    It is looked up and not tried: who starts meanwhile must not find it taken.
    """
    try:
        lock = state / LOCK
        inode = f":{lock.stat().st_ino}"
        locks = (line.split() for line in Path("/proc/locks").read_text("ascii").splitlines())
        is_held = any("FLOCK" in words and any(word.endswith(inode) for word in words) for words in locks)
        return lock.read_text("ascii", "replace").strip()[:_LONGEST_PID] if is_held else None
    except OSError:
        return None


def _take(file: int, state: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateHeld(state, os.pread(file, _LONGEST_PID, 0).decode("ascii", "replace").strip()) from None
    give_to_owner(file, state)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # a full disk; the lock holds without a name in it


def give_to_owner(path: Path | int, state: Path) -> None:
    """Give what root made in a state directory to the directory's owner, who the hub runs as."""
    if os.geteuid() == 0:
        owner = state.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
