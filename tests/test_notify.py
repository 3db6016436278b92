import socket
from pathlib import Path
from uuid import uuid4

import pytest

from apexbridge_trio.notify import notify


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:9")
    assert notify("READY=1") is False


@pytest.mark.parametrize("abstract", [False, True])
def test_states_are_the_lines_of_one_datagram(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name without a file is everybody's on this machine, so it is of this run alone.
    shown = f"@apexbridge-{uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(shown.replace("@", "\0", 1) if abstract else shown)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", shown)
        assert notify("READY=1", "STATUS=listening") is True
        assert manager.recv(4096) == b"READY=1\nSTATUS=listening"


def test_a_manager_that_is_gone_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert notify("READY=1") is False
