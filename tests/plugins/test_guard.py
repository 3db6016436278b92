"""The guard by itself: what it is told, what it says, and whom it leaves alive, which is nobody."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest

from apexbridge_trio.plugins import guard
from apexbridge_trio.plugins.sandbox import find_cgroup, probe

ROOT = Path(__file__).parents[2]
SAFETY_S = 60


@dataclass
class Guarded:
    """A running guard, and the hub's end of its socket."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def said(self) -> str:
        """Return all it says until it leaves."""
        heard = b""
        while data := self.control.recv(4096):
            heard += data
        assert self.process.wait(SAFETY_S) == 0
        return heard.decode()

    def hang_up(self) -> None:
        self.control.shutdown(socket.SHUT_WR)


@contextmanager
def guarded(
    *command: str, grace_s: float = 5, memory_mb: int = 0, network: str = "open", cgroup: str = ""
) -> Iterator[Guarded]:
    near, far = socket.socketpair()
    near.settimeout(SAFETY_S)
    orders = [str(far.fileno()), str(grace_s), str(memory_mb), network, cgroup, *command]
    run, env = ["-I", "-S"], dict(os.environ)
    if measured := coverage.Coverage.current():
        run = ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}"]
        env["COVERAGE_FILE"] = str(measured.config.data_file)
    with (
        near,
        subprocess.Popen(
            [sys.executable, *run, guard.__file__, *orders],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=env,
            cwd=ROOT,
        ) as process,
    ):
        far.close()
        try:
            yield Guarded(process, near)
        finally:
            near.shutdown(socket.SHUT_WR)
            process.wait(SAFETY_S)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def status_of(pid: int) -> dict[str, str]:
    """Return what the kernel tells of a process, as it does to ``ps``."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def sleeps_of(pid: int) -> int:
    """Count how often a process has given up the processor by itself; one that is busy does not."""
    return int(status_of(pid)["voluntary_ctxt_switches"])


def wait_until(check: Callable[[], bool]) -> None:
    """Look until something has come to be."""
    until = time.monotonic() + SAFETY_S
    while not check():
        assert time.monotonic() < until
        os.sched_yield()


def test_it_leaves_when_nobody_is_left() -> None:
    with guarded(*sh("echo done; exit 3")) as one:
        assert one.line() == b"done\n"
        assert one.said() == "exited 3\nended 0 group+subreaper\n"


def test_it_stays_with_what_the_first_process_left() -> None:
    with guarded(*sh("setsid sh -c 'echo $$; exec sleep 1000' &")) as one:
        pid = int(one.line())
        assert one.control.recv(4096) == b"exited 0\n"
        assert one.process.poll() is None
        one.hang_up()
        assert one.said() == "ended 1 group+subreaper\n"
    assert not Path(f"/proc/{pid}").exists()


def test_who_ignores_sigterm_is_killed() -> None:
    with guarded(*sh("trap '' TERM; echo $$; exec sleep 1000"), grace_s=0.1) as one:
        pid = int(one.line())
        one.hang_up()
        assert one.said() == "ended 1 group+subreaper\n", "an end that was wanted is no news"
    assert not Path(f"/proc/{pid}").exists()


def test_it_waits_for_who_ignores_sigterm_without_being_busy() -> None:
    # The end of the other one, which nobody but the guard waits for, wakes it, and must not keep it awake.
    code = "(sleep 1000 & echo $!); trap '' TERM; echo $$; exec sleep 1000"
    with guarded(*sh(code), grace_s=math.inf) as one:
        other, stays = int(one.line()), int(one.line())
        one.hang_up()
        try:
            wait_until(lambda: not Path(f"/proc/{other}").exists())
            slept = sleeps_of(one.process.pid)
            wait_until(lambda: sleeps_of(one.process.pid) > slept + 3)
        finally:
            os.kill(stays, signal.SIGKILL)
        assert one.said() == "ended 2 group+subreaper\n"


def test_a_long_line_of_descendants_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "children", lambda pid: [pid + 1] if pid < 5000 else [])
    monkeypatch.setattr(guard, "is_alive", lambda _pid: True)
    assert guard.descendants(1) == list(range(2, 5001))


def test_only_the_hub_ends_it() -> None:
    with guarded(*sh("echo ready; exec sleep 1000")) as one:
        assert one.line() == b"ready\n"
        for number in guard.PATIENT:
            one.process.send_signal(number)
        blocked = int(status_of(one.process.pid)["SigBlk"], 16)
        assert all(blocked & 1 << number - 1 for number in guard.PATIENT)
        one.hang_up()
        assert one.said() == "ended 1 group+subreaper\n"


@pytest.mark.parametrize(
    ("command", "why"), [("/no/such/program", "No such file or directory"), ("/etc", "Permission denied")]
)
def test_what_can_not_be_run_is_said(command: str, why: str) -> None:
    with guarded(command) as one:
        assert one.said() == f"failed {why}\nexited 127\nended 0 group+subreaper\n"


def test_what_can_not_be_held_is_not_run() -> None:
    with guarded(*sh("echo it ran"), cgroup="/proc/no/such/group") as one:
        assert one.line() == b""
        assert one.said() == "failed No such file or directory\n"


@pytest.mark.skipif(not probe().can_cut_network, reason="no network namespaces here")
def test_a_cut_network_has_nothing_in_it() -> None:
    with guarded("cat", "/proc/self/net/dev", network="cut") as one:
        interfaces = [line.split(b":")[0].strip() for line in iter(one.line, b"") if b":" in line]
        assert interfaces == [b"lo"]
        one.said()


@pytest.mark.skipif(probe().cgroup is None, reason="no control group may be made here")
def test_a_control_group_is_ended_at_once_and_removed() -> None:
    group = probe().cgroup / f"guard-{os.getpid()}"  # type: ignore[operator]
    with guarded(*sh("trap '' TERM; sleep 1000 & echo ready; wait"), grace_s=0.1, cgroup=str(group)) as one:
        assert one.line() == b"ready\n"
        assert len((group / "cgroup.procs").read_text().split()) == 2
        one.hang_up()
        assert one.said() == "ended 2 cgroup\n"
    assert not group.exists()


def test_memory_is_limited() -> None:
    with guarded(sys.executable, "-c", "bytearray(1 << 30)", memory_mb=64) as one:
        assert one.said().startswith("exited 1\n")


def test_a_machine_without_control_groups_has_none(tmp_path: Path) -> None:
    assert find_cgroup(tmp_path) is None
    (tmp_path / "mountinfo").write_text(f"1 2 0:3 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("1:cpu:/\n0::/own\n")
    assert find_cgroup(tmp_path) is None, "the group is not there"
    (tmp_path / "own").mkdir()
    assert find_cgroup(tmp_path) is None, "it can not be killed as a whole"
    assert not list((tmp_path / "own").iterdir())
