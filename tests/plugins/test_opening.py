"""Code that hangs when it is imported: the start says so, and goes on without it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import capture
from apexbridge_trio.plugins import opening
from apexbridge_trio.plugins.opening import attempt_in_time
from tests.plugins.folders import load, write_plugin

HANGS = """
import pathlib, time
while not pathlib.Path({on!r}).exists():
    time.sleep(0.01)
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "SLOW_S", 0.0)
    monkeypatch.setattr(opening, "OPEN_S", 0.0)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def thread_of(name: str) -> threading.Thread:
    return next(one for one in threading.enumerate() if one.name == f"opening {name}")


def test_a_start_names_what_it_waits_for_and_goes_on_without_it(
    tmp_path: Path, impatient: None, systemd: socket.socket
) -> None:
    folder = write_plugin(tmp_path / "plugins", code=HANGS.format(on=str(tmp_path / "on")))
    with capture() as lines:
        plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    assert plugins.faults == [f"{folder}: it can not be opened within 0 s"]
    assert [(line["event"], line["plugin"]) for line in lines] == [
        ("a plugin takes its time; the start waits for it", "echo")
    ]
    said = systemd.recv(4096).decode().splitlines()
    assert said == ["STATUS=waiting for the plugin echo", "EXTEND_TIMEOUT_USEC=0"]
    left_behind = thread_of("echo")
    (tmp_path / "on").touch()
    left_behind.join()


def test_one_that_is_quick_is_waited_for_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: socket.socket
) -> None:
    monkeypatch.setattr(opening, "SLOW_S", threading.TIMEOUT_MAX)  # whatever is quick on this machine
    write_plugin(tmp_path / "plugins")
    with capture() as lines:
        assert "echo" in load(tmp_path / "plugins", state=tmp_path / "state").tools
    assert lines == []
    with pytest.raises(BlockingIOError):
        systemd.recv(4096)


def test_one_that_is_slow_is_taken_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: socket.socket
) -> None:
    monkeypatch.setattr(opening, "SLOW_S", 0.0)
    go = threading.Event()
    monkeypatch.setattr(opening, "notify", lambda *_: go.set())

    def open_it() -> None:
        go.wait()
        raise ConfigInvalid("echo: it is none")

    found = attempt_in_time(tmp_path / "echo", open_it)
    assert isinstance(found, ConfigInvalid)
    assert found.message == "echo: it is none"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_would_end_a_program_is_a_fault(tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def open_it() -> None:
        threads.append(threading.current_thread())
        raise KeyboardInterrupt

    found = attempt_in_time(tmp_path / "echo", open_it)
    threads[0].join()  # Python tells of its end after the answer, and may do so in another test
    assert isinstance(found, ConfigInvalid)
    assert found.message.endswith("/echo: its import ended its thread")
