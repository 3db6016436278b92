"""A process under measurement: when it was ready, what it costs, on which core it runs."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

ROOT: Final = Path(__file__).parents[1]
# The slowest gateway needs 20 s on one core; three times that means that it will not come.
START_S: Final = 60.0
# A gateway that still relays leaked streams when it is told to stop may wait for them for ever.
STOP_S: Final = 3.0

_CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORES: Final = set(_CORES[:1])
"""The side under measurement has one core to itself, the load and the provider have the others."""
LOAD_CORES: Final = set(_CORES[1:]) or GATEWAY_CORES

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NotReady(Exception):
    """A process ended, or said nothing in time, before it was ready."""


class Running:
    """A process that has said that it is ready.

    Attributes:
        line: The line that said so.
        cold_start_s: From exec to that line.
    """

    def __init__(self, process: trio.Process, line: str, cold_start_s: float) -> None:
        self.line: Final = line
        self.cold_start_s: Final = cold_start_s
        self._process: Final = process

    @property
    def port(self) -> int:
        """The port in its line, if the line has one."""
        return int(re.findall(r":(\d+)", self.line)[-1])

    def cpu_s(self) -> float:
        """Seconds of processor time it and its children have used."""
        return sum(_cpu_ticks(pid) for pid in self._pids()) / _TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory of it and its children, in units of 1e6 bytes."""
        pages = sum(int(_read(f"/proc/{pid}/statm").split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _pids(self) -> list[int]:
        pids = [self._process.pid]
        for pid in pids:  # grows while it is walked, so grandchildren are found
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in file.read_text("ascii").split()]
        return pids


def _read(path: str) -> str:
    return Path(path).read_text("ascii", errors="replace")


def _cpu_ticks(pid: int) -> int:
    # The name, in brackets, may hold spaces; user and system time are 11 fields behind it.
    user, system = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


async def run(
    command: Sequence[str],
    ready: str,
    *,
    cores: set[int],
    env: Mapping[str, str],
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a command until it ends or is cancelled; "started" means that it has said `ready`.

    Cancellation: the whole process group is gone when this returns; it has `STOP_S` to go in peace.

    Args:
        command: What to run, in the project's directory.
        ready: Part of the line by which it says that it accepts connections.
        cores: Where it may run.
        env: Added to an environment that is otherwise bare, so that no proxy and no key of this
            machine reaches a gateway.

    Raises:
        NotReady: It did not say so.
    """
    began = time.monotonic()
    process = await _spawn(command, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **env})
    try:
        _pin(process.pid, cores)
        assert process.stdout is not None
        line = await _line_with(ready, process.stdout)
        task_status.started(Running(process, line, time.monotonic() - began))
        async for _ in process.stdout:  # a full pipe would stop it
            pass
    finally:
        # Shielded, for a gateway must not outlive its slice; bounded, for it is killed half-way.
        with trio.move_on_after(2 * STOP_S, shield=True):
            await _end(process)


async def _spawn(command: Sequence[str], env: Mapping[str, str]) -> trio.Process:
    return await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=env,
        start_new_session=True,
    )


def _pin(pid: int, cores: set[int]) -> None:
    """Bind it, and the threads it may have by now; later ones inherit."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


async def _line_with(ready: str, output: trio.abc.ReceiveStream) -> str:
    said = ""
    with trio.move_on_after(START_S):
        async for data in output:
            said += data.decode(errors="replace")
            lines = said.splitlines(keepends=True)
            for line in lines:
                if ready in line and line.endswith("\n"):
                    return line.strip()
    last = said.strip().rpartition("\n")[2]
    raise NotReady(f"it did not say {ready!r} but {last!r}")


async def _end(process: trio.Process) -> None:
    with suppress(ProcessLookupError), trio.move_on_after(STOP_S):
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
    with suppress(ProcessLookupError):  # what is left of its group
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    assert process.stdout is not None
    await process.stdout.aclose()
