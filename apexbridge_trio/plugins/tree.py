"""The process tree of one call, seen from the hub.

A call's processes stand below a guard (`guard.py`, which says how they are ended), and the guard is
the only child of the hub. When the guard has left by itself nothing of the call is left: that is what
`open_tree` waits for, whatever ends its block.

A guard that was killed, or stopped, can not say so. Then every process with the call's mark in its
environment is killed from here; the mark is an id of this call alone.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.ids import new_id
from apexbridge_trio.plugins import guard

MARK: Final = "APEXBRIDGE_CALL"

# Over the grace that the processes have, the guard gets this long to end them: it takes milliseconds.
MARGIN_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.02


class Cage(Struct, frozen=True):
    """What a process may not do.

    Args:
        kill_grace_s: Seconds between SIGTERM and SIGKILL.
        max_memory_mb: What one process may take, in MiB; None: as much as there is.
        cut_network: Whether it runs in an empty network namespace.
        cgroup: A directory in which a control group can be made; None: there is none.
    """

    kill_grace_s: float
    max_memory_mb: int | None = None
    cut_network: bool = False
    cgroup: Path | None = None


class Tree:
    """The processes of one call.

    Attributes:
        stdin: Of the first process, as are `stdout` and `stderr`.
        fault: Why the first process could not be started; empty if it was.
        exited: Set when the first process has exited or could not be started, while `listen` runs;
            others of the tree may be alive.
        exit_code: Of the first process, once it is known.
    """

    def __init__(self, mark: str, cage: Cage, control: socket.socket, remarks: dict[str, Any]) -> None:
        self._mark = mark
        self._cage = cage
        self._control = control
        self._heard = b""
        self._guard: trio.Process | None = None
        self.fault = ""
        self.exited = trio.Event()
        self.exit_code: int | None = None
        self._remarks = remarks

    @property
    def stdin(self) -> trio.abc.SendStream:
        """What the first process reads."""
        assert self._guard is not None
        assert self._guard.stdin is not None
        return self._guard.stdin

    @property
    def stdout(self) -> trio.abc.ReceiveStream:
        """What the call's processes write."""
        assert self._guard is not None
        assert self._guard.stdout is not None
        return self._guard.stdout

    @property
    def stderr(self) -> trio.abc.ReceiveStream:
        """What they say beside it."""
        assert self._guard is not None
        assert self._guard.stderr is not None
        return self._guard.stderr

    async def listen(self) -> None:
        """Hear from the guard until the first process has exited."""
        control = trio.socket.from_stdlib_socket(self._control)
        while not self.exited.is_set():
            data = await control.recv(4096)
            self._hear(data or b"failed its guard was killed\n")

    async def gone(self) -> None:
        """Wait until no process is left."""
        assert self._guard is not None
        await self._guard.wait()

    async def _start(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], far: int) -> None:
        self._guard = await trio.lowlevel.open_process(  # noqa: TID251  # run_process would own the streams
            [sys.executable, "-I", "-S", guard.__file__, str(far), *self._orders(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**env, MARK: self._mark},
            pass_fds=[far],
            start_new_session=True,  # a Ctrl-C at the hub's terminal is the hub's
        )

    def _orders(self) -> list[str]:
        cage = self._cage
        return [
            str(cage.kill_grace_s),
            str(cage.max_memory_mb or 0),
            "cut" if cage.cut_network else "open",
            str(self._cgroup or ""),
        ]

    @property
    def _cgroup(self) -> Path | None:
        return self._cage.cgroup / self._mark if self._cage.cgroup else None

    async def _end(self, process: trio.Process) -> None:
        """End all processes and wait for that, not longer than they may take."""
        self._control.shutdown(socket.SHUT_WR)
        with trio.move_on_after(self._cage.kill_grace_s + MARGIN_S):
            await process.wait()
        if process.returncode != 0:
            await self._sweep(process)
        with suppress(OSError):
            self._hear(self._control.recv(4096))
        for stream in (self.stdin, self.stdout, self.stderr):
            await trio.aclose_forcefully(stream)

    async def _sweep(self, process: trio.Process) -> None:
        process.kill()
        killed: set[int] = set()
        with trio.move_on_after(MARGIN_S):
            await process.wait()
            while left := marked(f"{MARK}={self._mark}".encode()):
                killed |= left
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await trio.sleep(_LOOK_AGAIN_S)
            while self._cgroup and not _is_removed(self._cgroup):  # noqa: ASYNC110  # the kernel sets no event
                await trio.sleep(_LOOK_AGAIN_S)
        self._remarks |= {"processes": len(killed), "how": "mark"}

    def _hear(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "ended":
                count, _, how = rest.partition(" ")
                self._remarks |= {"processes": int(count), "how": how}
                continue
            if word == "failed":
                self.fault = rest
            else:
                self.exit_code = int(rest)
            self.exited.set()


@asynccontextmanager
async def open_tree(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    cage: Cage,
    remarks: dict[str, Any] | None = None,
) -> AsyncIterator[Tree]:
    """Start a command, and end it with all that came of it when the block is left.

    The guarantee: after the block none of its processes is alive, for whatever reason the block was
    left. Only a process that has cleared its environment can outlive a guard that was killed.

    Cancellation: as any other way out; leaving takes at most `Cage.kill_grace_s` and twice `MARGIN_S`,
    and milliseconds if the processes obey SIGTERM.

    Args:
        command: A program and its arguments; the program is looked for in the hub's PATH.
        cwd: Where it starts.
        env: All of its environment, but for the mark.
        cage: What it may not do.
        remarks: Here is written how many processes had to be ended when the block was left, and how.

    Raises:
        ToolFailed: The machine has no process or descriptor to spare.
    """
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)  # noqa: FBT003  # it takes no names
        tree = Tree(new_id("call"), cage, near, {} if remarks is None else remarks)
        try:
            await tree._start(command, cwd, env, far.fileno())  # noqa: SLF001  # this is its constructor
        except OSError as fault:
            raise ToolFailed(f"The plugin could not be run: {fault.strerror}.") from None
        far.close()
        try:
            yield tree
        finally:
            # Shielded: that the processes are gone is what leaving means. Bounded inside.
            with trio.CancelScope(shield=True):
                assert tree._guard is not None  # noqa: SLF001
                await tree._end(tree._guard)  # noqa: SLF001


def marked(mark: bytes) -> set[int]:
    """Return the living processes that have `mark` in their environment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
    return found


def _is_removed(cgroup: Path) -> bool:
    """End who is in a control group, and remove it if that has come to pass."""
    with suppress(OSError):
        (cgroup / "cgroup.kill").write_text("1")
        cgroup.rmdir()
    return not cgroup.exists()
