"""The unit is one systemd takes, and the hub is one the unit can rely on."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1] / "systemd" / "apexbridge.service"
TEXT = UNIT.read_text("utf-8")
NET_S = 30.0  # a safety net, not a bound that is tested

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


def setting(name: str) -> str:
    (value,) = [line.partition("=")[2] for line in TEXT.splitlines() if line.startswith(f"{name}=")]
    return value


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=NET_S, check=False
    )


@needs_systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    # The program must exist for systemd, and is not installed where the tests run.
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/usr/bin/apexbridge", sys.executable))
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_little_is_exposed() -> None:
    done = analyze("security", "--offline=true", "--threshold=19", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_the_stop_timeout_is_above_the_drain() -> None:
    from apexbridge_trio.config import Server
    from apexbridge_trio.daemon import LAST_WORDS_S

    assert float(setting("TimeoutStopSec")) > Server().drain_timeout_s + LAST_WORDS_S


def test_the_hub_tells_systemd_and_stops_cleanly(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(NET_S)
        env = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state"), "NOTIFY_SOCKET": str(tmp_path / "notify"), "JOURNAL_STREAM": "1:1"}  # fmt: skip
        words = setting("ExecStart").removeprefix("/usr/bin/apexbridge ").split()
        command = [sys.executable, "-m", "apexbridge_trio", *words, "--bind", "127.0.0.1:0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        ) as hub:
            try:
                assert "READY=1" in manager.recv(4096).decode().splitlines()
                hub.send_signal(signal.SIGTERM)
                assert "STOPPING=1" in manager.recv(4096).decode().splitlines()
                out, err = hub.communicate(timeout=NET_S)
            finally:
                hub.kill()
    assert hub.returncode == 0
    assert out.startswith("listening on http://127.0.0.1:")
    assert all(line.startswith("{") for line in err.splitlines())
