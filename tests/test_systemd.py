"""The units are ones systemd takes, and hub and node are ones the units can rely on."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "systemd"
HUB, NODE = UNITS / "apexbridge.service", UNITS / "apexbridge-node@.service"
SOCKET = UNITS / "apexbridge.socket"
NET_S = 120.0  # a safety net, not a bound that is tested

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


def setting(unit: Path, name: str) -> str:
    lines = unit.read_text("utf-8").splitlines()
    (value,) = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
    return value


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=NET_S, check=False
    )


@needs_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in (HUB, NODE, SOCKET):
        # The program must exist for systemd, and is not installed where the tests run.
        text = unit.read_text("utf-8").replace("/usr/bin/apexbridge", sys.executable)
        (tmp_path / unit.name.replace("@", "@attic")).write_text(text)
    drop_in = tmp_path / "apexbridge.service.d/plugins.conf"
    drop_in.parent.mkdir()
    shutil.copy(UNITS / "plugins.conf", drop_in)
    units = sorted(map(str, tmp_path.glob("apexbridge*.*[!d]")))
    assert len(units) == 3
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stderr) == (0, "")
    # What a systemd before 253 does not know of this one it says, and goes on with the unit's own.
    shutil.copy(UNITS / "reload.conf", drop_in.with_name("reload.conf"))
    done = analyze("verify", "--man=no", *units)
    said = [line for line in done.stderr.splitlines() if not line.endswith("ignoring: notify-reload")]
    assert (done.returncode, said) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", [HUB, NODE], ids=["hub", "node"])
def test_little_is_exposed(unit: Path, record_property: Callable[[str, object], None]) -> None:
    done = analyze("security", "--offline=true", "--threshold=17", str(unit))
    assert done.returncode == 0, done.stdout
    exposure = done.stdout.rpartition(": ")[2].split()[0]
    record_property("figure", f"systemd-analyze security {unit.name}: {exposure} (at most 1.7)")


def test_the_socket_is_where_the_shipped_config_listens() -> None:
    from apexbridge_trio.config import Server

    assert setting(SOCKET, "ListenStream") == Server().bind


def test_all_that_is_for_a_service_is_in_the_unit() -> None:
    said = {line.partition("=")[0]: line.partition("=")[2] for line in HUB.read_text("utf-8").splitlines()}
    wanted = {"Type": "notify", "StateDirectory": "apexbridge", "OOMPolicy": "continue", "LimitCORE": "0"}
    wanted["ExecReload"] = "/bin/kill -HUP $MAINPID"
    assert {name: said.get(name) for name in wanted} == wanted
    for name in ("WatchdogSec", "MemoryMax", "TasksMax", "LimitNOFILE", "#LoadCredential", "Requires"):
        assert said.get(name), name


def test_the_stop_timeout_is_above_the_drain() -> None:
    from apexbridge_trio.config import Server
    from apexbridge_trio.daemon import LAST_WORDS_S

    assert float(setting(HUB, "TimeoutStopSec")) > Server().drain_timeout_s + LAST_WORDS_S


def test_a_nodes_stop_timeout_is_above_its_drain() -> None:
    from apexbridge_trio.agent import agent, link
    from apexbridge_trio.agent.run import DRAIN_S

    longest_s = DRAIN_S + agent.LAST_WORDS_S + agent.ACK_S + 3 * link.FAREWELL_S
    assert float(setting(NODE, "TimeoutStopSec")) > longest_s


def hear(manager: socket.socket, word: str) -> list[str]:
    """Return what the service says, up to and with this."""
    told: list[str] = []
    while word not in told:
        told += manager.recv(4096).decode().splitlines()
    return told


def test_the_hub_tells_systemd_and_stops_cleanly(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(NET_S)
        env = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state"), "NOTIFY_SOCKET": str(tmp_path / "notify"), "JOURNAL_STREAM": "1:1"}  # fmt: skip
        words = setting(HUB, "ExecStart").removeprefix("/usr/bin/apexbridge ").split()
        command = [sys.executable, "-m", "apexbridge_trio", *words, "--bind", "127.0.0.1:0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        ) as hub:
            try:
                hear(manager, "READY=1")
                hub.send_signal(signal.SIGTERM)
                hear(manager, "STOPPING=1")
                out, err = hub.communicate(timeout=NET_S)
            finally:
                hub.kill()
    assert hub.returncode == 0
    assert out.startswith("listening on http://127.0.0.1:")
    assert all(line.startswith("{") for line in err.splitlines())


def test_a_node_is_up_without_its_hub_and_stops_cleanly(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/key").write_text("apx_key_of_this_test\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(NET_S)
        env = {
            **os.environ,
            "STATE_DIRECTORY": str(tmp_path / "state"),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
            "JOURNAL_STREAM": "1:1",
        }
        line = setting(NODE, "ExecStart").replace("${HUB}", "http://127.0.0.1:1").replace("%i", "attic")
        words = line.removeprefix("/usr/bin/apexbridge ").replace(" $OPTIONS", "").split()
        command = [sys.executable, "-m", "apexbridge_trio", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as node:
            try:
                told: list[str] = []
                while "READY=1" not in told or not any("not connected" in line for line in told):
                    told += manager.recv(4096).decode().splitlines()
                node.send_signal(signal.SIGTERM)
                while "STOPPING=1" not in told:
                    told += manager.recv(4096).decode().splitlines()
                _, err = node.communicate(timeout=NET_S)
            finally:
                node.kill()
    assert node.returncode == 0
    assert any(line.startswith("STATUS=attic at http://127.0.0.1:1: not connected: ") for line in told)
    assert all(line.startswith("{") for line in err.splitlines())
    assert "apx_key" not in err
