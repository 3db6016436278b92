from pathlib import Path
from typing import Any

import pytest

from apexbridge_trio import agent
from apexbridge_trio.agent import HubAddress, Options
from tests.cli.conftest import Run

KEY = "apx_key_of_this_test"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    seen: list[Options] = []

    def begin(options: Options) -> int:
        seen.append(options)
        return 7

    monkeypatch.setattr(agent, "run", begin)
    return seen


def words(place: Path, **more: Any) -> list[str]:
    (place / "key").write_text(KEY)
    given = {"hub": "http://hub:8088", "key_file": place / "key", "name": "attic", "state": place, **more}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_what_the_line_says_is_handed_over(runs: list[Options], tmp_path: Path, run: Run) -> None:
    assert run("node", *words(tmp_path)).code == 7
    more = words(tmp_path, hub="wss://hub.example", type="companion", id="n-1", max_concurrent=9)
    lists = ["--plugins", "a", "--plugins", "b", "--capability", "gpu", "--capability", "声音"]
    assert run("node", *more, *lists).code == 7
    plain, full = runs
    assert plain == Options(
        hub=HubAddress("hub", 8088, is_tls=False), key_file=tmp_path / "key", name="attic", state=tmp_path
    )
    assert full == Options(
        hub=HubAddress("hub.example", 443, is_tls=True),
        key_file=tmp_path / "key",
        name="attic",
        state=tmp_path,
        plugins=(Path("a"), Path("b")),
        node_id="n-1",
        type="companion",
        max_concurrent=9,
        capabilities=("gpu", "声音"),
    )


def test_a_key_file_may_be_a_credential(
    runs: list[Options], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.key").write_text(KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert run("node", *words(tmp_path, key_file="node.key")).code == 7
    assert runs[0].key_file == tmp_path / "node.key"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hub": "ftp://hub"}, "--hub"),
        ({"name": ""}, "--name"),
        ({"name": "a\nb"}, "--name"),
        ({"name": "x" * 201}, "--name"),
        ({"capability": "x" * 201}, "--capability"),
        ({"key_file": "/nonexistent/key"}, "can not read /nonexistent/key"),
        ({"plugins": "/nonexistent"}, "--plugins: /nonexistent is no directory"),
        ({"id": "a b"}, "--id"),
    ],
)
def test_what_is_wrong_is_said_at_once(tmp_path: Path, run: Run, wrong: dict[str, str], told: str) -> None:
    ran = run("node", *words(tmp_path, **wrong))
    assert ran.code == 2
    assert told in ran.err
    assert KEY not in ran.err


def test_what_can_not_be_is_a_fault_of_the_line(tmp_path: Path, run: Run) -> None:
    assert run("node", *words(tmp_path, type="toaster")).code == 2
    assert run("node", *words(tmp_path, max_concurrent=0)).code == 2
    assert run("node", "--hub", "http://hub").code == 2
