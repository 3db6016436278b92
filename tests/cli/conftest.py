"""A scripted hub, and the command run as its entry point runs it."""

import io
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from apexbridge_trio.cli.main import main
from tests.fakes.hub import FakeHub
from tests.harness.process import own_loopback


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No state, key or hub of the one who runs the tests; and the sink is put back."""
    for name in ("APEXBRIDGE_URL", "APEXBRIDGE_KEY", "STATE_DIRECTORY", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    root = logging.getLogger()
    handlers, level, sink = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**sink)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        monkeypatch.setenv("APEXBRIDGE_URL", hub.url)
        yield hub


@pytest.fixture
def free() -> str:
    """An address that nobody listens at, and nobody will."""
    host = own_loopback()
    with socket.create_server((host, 0)) as taken:
        return f"{host}:{taken.getsockname()[1]}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.argv", ["apexbridge", *words])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int | None)
        return Ran(left.value.code or 0, out, err)

    return run
