import json
from pathlib import Path
from typing import Any

import pytest

from apexbridge_trio import daemon
from apexbridge_trio.config import Config
from tests.cli.conftest import Run

CONFIG = """[log]
level = "warning"
[[upstreams]]
name = "a"
base_url = "http://127.0.0.1:1/v1"
api_key_env = "LOCAL_KEY"
"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []

    def run(config: Config, **rest: Any) -> int:
        seen.append({"config": config, **rest})
        return 7

    monkeypatch.setattr(daemon, "run", run)
    return seen


def test_serve_hands_over_what_is_in_force(runs: list[dict[str, Any]], tmp_path: Path, run: Run) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "config.toml").write_text('[server]\nbind = "127.0.0.1:1"')
    ran = run("serve", "--state", str(state), "--bind", "127.0.0.1:0")
    assert ran.code == 7
    (seen,) = runs
    assert seen["config"].server.bind == "127.0.0.1:1"
    assert (seen["source"].path, seen["state"], seen["bind"]) == (state / "config.toml", state, "127.0.0.1:0")


def test_serve_does_not_start_with_what_is_wrong(
    runs: list[dict[str, Any]], tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[chat]\nmax_round = 3\ntimeout_s = 0\n")
    ran = run("serve", "--config", str(path))
    assert ran.code == 2
    assert ran.err == (
        "apexbridge: mine.toml:2: chat.max_round: unknown key; did you mean max_rounds?\n"
        "apexbridge: mine.toml:3: chat.timeout_s: expected a number > 0.0\n"
    )
    assert run("serve", "--bind", "8088").code == 2
    assert runs == []
    assert run("serve").code == 7
    assert runs[0]["bind"] is None


def test_check_shows_what_is_in_force_without_secrets(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(CONFIG)
    assert run("check", "--config", str(path)).code == 2
    monkeypatch.setenv("LOCAL_KEY", "sk-of-this-test")
    ran = run("check", "--config", str(path), "--state", str(tmp_path))
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[:2] == [f"config  {path}", f"state   {tmp_path}"]
    assert {'log.level = "warning"', 'upstreams[0].api_key = "***"', "models = []"} <= set(lines)
    told = json.loads(run("check", "--config", str(path), "--json").out)
    assert (told["path"], told["config"]["upstreams"][0]["api_key"]) == (str(path), "***")
    assert "sk-of-this-test" not in ran.out


def test_check_says_what_this_machine_lacks(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[server]\nbind = "192.0.2.1:8088"\n')
    ran = run("check", "--config", str(path))
    assert ran.code == 2
    assert ran.err.startswith("apexbridge: mine.toml:2: server.bind: this machine can not listen there: ")


def test_check_of_the_shipped_config(run: Run) -> None:
    assert run("check").code == 0
