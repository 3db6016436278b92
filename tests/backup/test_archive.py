"""What is in a backup, and how its file comes to be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apexbridge_trio.backup import open_backup, write_backup
from apexbridge_trio.backup.contents import is_safe
from apexbridge_trio.errors import BackupUnusable, StoreUnusable
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE, RESTORING
from tests.backup.furnished import backed_up, furnish


def test_what_is_in_it_and_what_is_not(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state", results=3)
    written = backed_up(state, tmp_path / "b")
    assert {file.path for file in written.manifest.files} == {
        FILE,
        *(f"{FOLDER}/suno/task-{number}.json" for number in range(3)),
        "config.toml",
        "up.key",
        "hook.key",
        "secrets/suno",
        "plugins/household/笔记.md",
        "plugins/agenda/agenda.ics",
    }
    assert written.manifest.left_out == ["/etc/far.key"]
    assert (written.manifest.config, written.manifest.missing) == ("", 0)
    assert written.size == (tmp_path / "b").stat().st_size
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "state"]


def test_a_config_that_is_elsewhere_goes_elsewhere(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state")
    config = tmp_path / "etc.toml"
    config.write_text("[chat]\n")
    written = write_backup(state, tmp_path / "b", config=config, env={})
    assert written.manifest.config == str(config)
    assert "elsewhere/config.toml" in {file.path for file in written.manifest.files}
    config.write_text("not = [toml")
    assert write_backup(state, tmp_path / "c", config=config, env={}).manifest.left_out == []


def test_a_file_that_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state")
    target = tmp_path / "b"
    target.write_text("precious")
    with pytest.raises(BackupUnusable, match="is there already"):
        backed_up(state, target)
    assert target.read_text() == "precious"
    write_backup(state, target, config=None, env={}, force=True)
    with open_backup(target) as again:
        again.verify()


def test_a_result_without_its_file_is_counted(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state")
    (state / FOLDER / "suno/task-1.json").unlink()
    assert backed_up(state, tmp_path / "b").manifest.missing == 1


def test_what_can_not_be_backed_up_is_said(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state")
    with pytest.raises(BackupUnusable, match="can not write"):
        backed_up(state, tmp_path / "nowhere" / "b")
    with pytest.raises(StoreUnusable, match="there is no store"):
        write_backup(tmp_path, tmp_path / "b", config=None, env={})
    with (state / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreUnusable, match="damaged"):
        backed_up(state, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_in_the_middle_of_a_restore_nothing_is_of_one_moment(tmp_path: Path) -> None:
    state = furnish(tmp_path / "state")
    (state / RESTORING).mkdir()
    with pytest.raises(BackupUnusable, match="a restore has begun"):
        backed_up(state, tmp_path / "b")


KILLED = """
import os, signal, sys
from pathlib import Path
from apexbridge_trio.backup import archive, write_backup
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(archive, sys.argv[3], die)
write_backup(Path(sys.argv[1]), Path(sys.argv[2]), config=None, env={})
"""


@pytest.mark.parametrize("step", ["check_copy", "plugin_files", "open_backup", "_put"])
def test_a_kill_leaves_no_backup_that_is_not_whole(tmp_path: Path, step: str) -> None:
    state = furnish(tmp_path / "state")
    command = [sys.executable, "-c", KILLED, str(state), str(tmp_path / "b"), step]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    backed_up(state, tmp_path / "b")


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\b", "a\0b", "a\nb", "x" * 256,
     "a/" * 20 + "b", "hub.lock", "hub.sqlite3-wal", "restore.applying/x", "before-restore-1/x", ".plan.json",
     "nodes/attic/key", "manifest.json", "plugins/\ud800"],
)  # fmt: skip
def test_a_name_that_may_not_be(name: str) -> None:
    assert not is_safe(name)


@pytest.mark.parametrize(
    "name", [FILE, "config.toml", "plugins/a/b/.hidden", "secrets/suno", "plugins/家/笔记.md"]
)
def test_a_name_that_may_be(name: str) -> None:
    assert is_safe(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_what_it_restores_to_the_owner_of_the_state(tmp_path: Path) -> None:
    from apexbridge_trio.backup import finish_restore, stage
    from apexbridge_trio.store import hold_state

    backed_up(furnish(tmp_path / "state"), tmp_path / "b")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    os.chown(other, 1234, 1234)
    with open_backup(tmp_path / "b") as opened, hold_state(other):
        stage(opened, other, force=False)
        finish_restore(other)
    assert {path.stat().st_uid for path in other.rglob("*")} == {1234}
