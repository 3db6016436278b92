"""Files are found in the order that is documented."""

from pathlib import Path

import pytest

from apexbridge_trio.config import config_path, places, shipped, state_directory
from apexbridge_trio.errors import ConfigInvalid

ROOT = Path(__file__).parents[2]


def test_what_is_shipped_is_at_the_root_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped("config.toml") == ROOT / "config.toml"
    assert shipped("plugins").is_dir()
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "config.toml").touch()
    monkeypatch.setattr(places, "_PACKAGE", tmp_path)
    assert shipped("config.toml") == tmp_path / "shipped" / "config.toml"


def test_the_first_config_that_exists_is_used(tmp_path: Path) -> None:
    state, etc = tmp_path / "state", tmp_path / "etc"
    state.mkdir()
    etc.mkdir()
    assert config_path(None, state, etc=etc) == shipped("config.toml")
    (etc / "config.toml").touch()
    assert config_path(None, state, etc=etc) == etc / "config.toml"
    (state / "config.toml").touch()
    assert config_path(None, state, etc=etc) == state / "config.toml"
    assert config_path(tmp_path / "mine.toml", state, etc=etc) == tmp_path / "mine.toml"


def test_the_state_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    xdg = home | {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    systemd = xdg | {"STATE_DIRECTORY": f"{tmp_path}/var:/somewhere/else"}
    assert state_directory(tmp_path / "option", systemd) == tmp_path / "option"
    assert state_directory(None, systemd) == tmp_path / "var"
    assert state_directory(None, xdg) == tmp_path / "xdg" / "apexbridge"
    made = state_directory(None, home | {"XDG_STATE_HOME": "relative"})
    assert made == tmp_path / ".local" / "state" / "apexbridge"
    assert made.stat().st_mode & 0o777 == 0o700
    assert state_directory(None, home) == made


def test_a_state_directory_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match="can not make the state directory"):
        state_directory(tmp_path / "file" / "state", {})
