"""The Debian package: built, installed, run by systemd as on a machine of its own, and purged."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.harness.process import ROOT
from tests.test_packaging import files, make

pytestmark = pytest.mark.prove

NET_S = 600.0  # a safety net, not a bound that is tested
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as dpkg and a first process do")


@pytest.fixture(scope="module")
def package() -> Path:
    os.environ.setdefault("DPKG_DEB_COMPRESSOR_TYPE", "none")
    make("deb")
    (built,) = (ROOT / "build").glob("apexbridge_*.deb")
    return built


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=NET_S, check=False)
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@needs_root
def test_it_installs_runs_and_is_purged_below_another_root(tmp_path: Path, package: Path) -> None:
    (tmp_path / "var/lib/dpkg/updates").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/info").mkdir()
    (tmp_path / "var/lib/dpkg/status").touch()
    (tmp_path / "etc").mkdir()
    # What it depends on is this machine's, which its root knows nothing of.
    dpkg = ("dpkg", f"--root={tmp_path}", "--force-script-chrootless", "--force-depends")
    before = files(tmp_path)
    run(*dpkg, "--install", str(package))
    assert "apexbridge" in (tmp_path / "etc/passwd").read_text("utf-8")
    (wanted,) = (tmp_path / "etc/systemd/system/sockets.target.wants").iterdir()
    assert wanted.name == "apexbridge.socket"
    python, launcher = tmp_path / "usr/lib/apexbridge/bin/python3", tmp_path / "usr/bin/apexbridge"
    assert run(str(python), "-I", str(launcher), "version").strip()
    run(*dpkg, "--purge", "apexbridge")
    left = {file for file in files(tmp_path) - before if not file.startswith("var/lib/dpkg/")}
    # Users are kept, as Debian's policy has it.
    users = {f"etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    assert left <= users | {"etc/.pwd.lock"}


class Machine:
    """A systemd that was booted for a test, and what is done on its machine."""

    def __init__(self, first: int) -> None:
        self.first = first

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command there."""
        spaces = ("--mount", "--pid", "--net", "--cgroup", "--uts", "--ipc")
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
        return run("nsenter", f"--target={self.first}", *spaces, *clean, *command, check=check)

    def show(self, name: str) -> str:
        """Return a property of the hub's service."""
        return self.run("systemctl", "show", "--property", name, "--value", "apexbridge.service").strip()

    def until(self, check: Callable[[], bool]) -> None:
        """Ask until it is so."""
        before = monotonic() + NET_S
        while not check():
            assert monotonic() < before
            self.run("sleep", "0.2")


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Boot systemd as the first process of a machine, in which `folder` is /tmp."""
    boot = [str(ROOT / "tests/harness/boot"), str(folder)]
    with subprocess.Popen(boot, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as booted:
        try:
            children = Path(f"/proc/{booted.pid}/task/{booted.pid}/children")
            before = monotonic() + NET_S
            while not (first := children.read_text("ascii").split()) or not _is_systemd(int(first[0])):
                assert booted.poll() is None, booted.stderr and booted.stderr.read()
                assert monotonic() < before
            there = Machine(int(first[0]))
            there.until(lambda: there.run("systemctl", "is-active", "test.target", check=False) == "active\n")
            yield there
        finally:
            own = Path(f"/proc/{booted.pid}/cgroup").read_text("ascii").rpartition("/")[2].strip()
            booted.kill()  # and with it the machine
            booted.wait()
    _remove_groups(own)


def _is_systemd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "systemd"
    except (FileNotFoundError, ProcessLookupError):  # a step of the script
        return False


def _remove_groups(own: str) -> None:
    assert own.startswith("apexbridge-test.")
    mounts = [line.split() for line in Path("/proc/mounts").read_text("ascii").splitlines()]
    top = Path(next(words[1] for words in mounts if words[2] == "cgroup2")) / own
    before = monotonic() + NET_S
    while "populated 1" in (top / "cgroup.events").read_text("ascii"):
        assert monotonic() < before  # the kernel is still burying the machine's processes
    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    top.rmdir()


def _can_boot() -> bool:
    able = shutil.which("unshare") and os.geteuid() == 0 and Path("/lib/systemd/systemd").exists()
    return bool(able) and subprocess.run(["unshare", "-mpf", "true"], check=False).returncode == 0


@pytest.mark.skipif(not _can_boot(), reason="needs root and namespaces, to boot systemd")
def test_systemd_runs_it_restarts_it_unnoticed_and_ends_it_when_its_loop_hangs(
    tmp_path: Path, package: Path, record_property: Callable[[str, object], None]
) -> None:
    shutil.copy(package, tmp_path / "hub.deb")
    health = ("curl", "--silent", "--fail", "--max-time", "60", "http://127.0.0.1:8088/health")
    with machine(tmp_path) as there:
        there.run("dpkg", "--install", "/tmp/hub.deb")
        there.until(lambda: there.show("ActiveState") == "active")
        assert '"status":"ok"' in there.run(*health)
        assert there.show("StatusText").strip() == "ready: 0 nodes, 0 requests in flight"

        # Below the unit's limits a plugin has what the hub holds it by: no network, a control group.
        chat = '{"model":"apex-intents","messages":[{"role":"user","content":"what is 6 times 7"}]}'
        typed = ("--header", "Content-Type: application/json", "--data", chat)
        assert "42" in there.run("curl", "-sf", *typed, "http://127.0.0.1:8088/v1/chat/completions")
        assert "plugin is limited" not in there.run("journalctl", "--no-pager", "--unit=apexbridge")

        # A restart: 200 clients one after another, none of which is refused.
        was = there.show("MainPID")
        loop = f"for i in $(seq 200); do {' '.join(health)} >/dev/null || echo lost; done"
        there.run("sh", "-c", f"({loop}) >/tmp/lost & systemctl restart apexbridge; wait")
        assert (tmp_path / "lost").read_text("ascii") == ""
        assert there.show("MainPID") != was

        # Stopped, it gives no sign of life; systemd ends it and starts another.
        drop_in = "/run/systemd/system/apexbridge.service.d"
        limits = "[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=1\\n"
        there.run("sh", "-c", f"mkdir -p {drop_in} && printf '{limits}' >{drop_in}/test.conf")
        there.run("systemctl", "daemon-reload")
        there.run("systemctl", "restart", "apexbridge")
        there.run("kill", "-STOP", there.show("MainPID"))
        there.until(lambda: there.show("NRestarts") == "1")
        there.until(lambda: there.show("ActiveState") == "active")
        assert '"status":"ok"' in there.run(*health)

        there.run("dpkg", "--purge", "apexbridge")
        assert there.show("ActiveState") == "inactive"
        look = "ls -d /var/lib/apexbridge /etc/apexbridge /usr/lib/apexbridge /usr/bin/apexbridge 2>/dev/null; true"
        assert there.run("sh", "-c", look) == ""
        assert "apexbridge" not in there.run("systemctl", "list-unit-files", "--no-pager")
    record_property("figure", "the package under a real systemd: 200 of 200 clients answered over a restart")
