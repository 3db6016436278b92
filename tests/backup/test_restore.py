"""A backup put in place: whole, over a crash at any step, and never under a hub that runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from apexbridge_trio.audit import HUB
from apexbridge_trio.backup import finish_restore, open_backup, restore_noted, stage
from apexbridge_trio.backup.restore import STAGED
from apexbridge_trio.cli import care
from apexbridge_trio.cli.care import finish_and_note
from apexbridge_trio.cli.keyring import the_user
from apexbridge_trio.errors import BackupUnusable
from apexbridge_trio.store import FILE, RESTORING, AuditRows, Store
from tests.backup.furnished import backed_up, check_whole, contents, furnish
from tests.e2e.test_killed_hub import Storm, record_tasks
from tests.harness import process
from tests.harness.house import NET_S


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    backed_up(furnish(tmp_path / "from", text="then"), tmp_path / "b")
    return tmp_path / "b"


def staged(backup: Path, state: Path, *, force: bool = True) -> None:
    with open_backup(backup) as opened:
        stage(opened, state, force=force)


def test_into_an_empty_directory(tmp_path: Path, backup: Path) -> None:
    state = tmp_path / "new"
    state.mkdir()
    staged(backup, state, force=False)
    finish_restore(state)
    restore_noted(state)
    assert contents(state) == contents(tmp_path / "from")
    assert len(check_whole(state, "then")) == 5
    assert {path.stat().st_mode & 0o077 for path in state.rglob("*")} == {0}


def test_what_was_there_is_kept_and_left_alone_until_then(tmp_path: Path, backup: Path) -> None:
    state = furnish(tmp_path / "state", results=2, text="now")
    before = contents(state)
    with pytest.raises(BackupUnusable, match="with --force it is moved aside"):
        staged(backup, state, force=False)
    staged(backup, state)
    check_whole(state, "now")
    plan = finish_restore(state)
    assert plan is not None
    check_whole(state, "then")
    assert contents(state / plan.kept) == before
    check_whole(state / plan.kept, "now")
    assert finish_restore(state) == plan, "until it is noted"
    restore_noted(state)
    assert finish_restore(state) is None
    # What is not the hub's to lose stays where it is.
    assert (state / "nodes/attic/instance").exists()


def test_cut_at_every_step_it_goes_on_where_it_stood(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cut in range(1, 100):
        state = furnish(tmp_path / f"state{cut}", results=2, text="now")
        with Store(state):  # a hub that was killed leaves a log beside its database
            (state / f"{FILE}-wal").write_bytes(b"of another time")
        before = contents(state)
        staged(backup, state)
        if not fails_at(cut, state, monkeypatch):
            break
        if (state / RESTORING).exists():
            with pytest.raises(Exception, match="a restore has begun"):
                Store(state)
        finish_restore(state)
        restore_noted(state)
        [kept] = state.glob("before-restore-*")
        assert contents(state) == contents(tmp_path / "from")
        assert (kept / f"{FILE}-wal").read_bytes() == b"of another time"
        assert not (state / f"{FILE}-wal").exists()
        check_whole(state, "then")
        assert contents(kept) == before
    assert cut > 10


def fails_at(
    cut: int,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    finish: Callable[[Path], object] = finish_restore,
) -> bool:
    """Have the `cut`-th change of a name fail, as if the hub had been killed just before it."""
    changes = iter(range(1, 1000))

    def over() -> bool:
        return next(changes) == cut

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "rmdir", "mkdir"):
            patch.setattr(Path, name, cutting(getattr(Path, name), over))

        try:
            finish(state)
        except (BackupUnusable, OSError):
            return True
    return False


def cutting(real, is_over):
    def change(*args, **options):
        if is_over():
            raise OSError(5, "cut")
        return real(*args, **options)

    return change


def staged_for(who: str, backup: Path, state: Path) -> None:
    state.mkdir()
    with open_backup(backup) as opened:
        stage(opened, state, force=False, by=who)


def test_cut_at_every_step_it_is_in_the_audit_once(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cut in range(1, 100):
        state = tmp_path / f"state{cut}"
        staged_for("cli:anne", backup, state)
        is_cut = fails_at(cut, state, monkeypatch, partial(finish_and_note, by=HUB))
        assert (finish_and_note(state, HUB) is not None) == is_cut
        assert restores_in(state) == ["cli:anne"]
        assert not list(state.glob("restore.*"))
        if not is_cut:
            break
    assert cut > 5


def test_a_kill_just_before_the_audit_is_told_loses_nothing(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    staged_for("", backup, state)
    with monkeypatch.context() as patch:
        patch.setattr(care, "_note", cutting(care._note, lambda: True))
        with pytest.raises(OSError, match="cut"):
            finish_and_note(state, HUB)
    check_whole(state, "then")
    assert restores_in(state) == []
    kept = finish_and_note(state, HUB)
    assert restores_in(state) == ["hub"]
    assert [kept] == list(state.glob("before-restore-*"))


def test_a_second_one_takes_the_place_of_one_that_was_staged(tmp_path: Path, backup: Path) -> None:
    state = furnish(tmp_path / "state", text="now")
    other = backed_up(state, tmp_path / "c").path
    staged(backup, state)
    staged(other, state)
    finish_restore(state)
    check_whole(state, "now")
    assert not (state / STAGED).exists()


async def test_the_commands_with_a_hub_that_runs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    words = ["--state", str(state)]
    archive = str(tmp_path / "b")
    async with process.hub(state) as running:
        await process.command("keys", "create", "--scope", "chat", *words)
        assert "checked" in await process.command("backup", archive, *words)
        await process.command("keys", "create", "--scope", "chat", *words)
        assert "whole" in await process.command("restore", "--check", archive, *words)
        said = await process.command("restore", "--force", archive, *words)
        assert f"process {running.process.pid}" in said
        assert "when that hub is started again" in said
        assert keys_in(state) == 2
    async with process.hub(state) as running:
        assert keys_in(state) == 1
    assert b"a backup was restored; what was there is kept in" in running.said
    assert restores_in(state) == [the_user().id], "who wanted it, and not the hub that has done it"
    await process.command("keys", "create", "--scope", "chat", *words)
    assert "what was there is kept" in await process.command("restore", "--force", archive, *words)
    assert keys_in(state) == 1
    assert restores_in(state) == [the_user().id], "the audit is the backup's, with this one line more"


def restores_in(state: Path) -> list[str]:
    """Return who wanted each restore that the audit tells of."""
    with Store(state) as store:
        return [line.principal_id for line in AuditRows(store).listed(limit=10, action="state.restored")]


def keys_in(state: Path) -> int:
    with Store(state) as store:
        return len(store.keys())


async def test_a_backup_of_a_hub_that_takes_results_is_of_one_moment(tmp_path: Path) -> None:
    """What was acknowledged before it began is in it, and what it knows of has its file."""
    state = tmp_path / "state"
    state.mkdir()
    storm = Storm(record_tasks(state, 300))
    async with process.hub(state) as running, trio.open_nursery() as nursery:
        nursery.start_soon(storm.blow, running, 1000)
        for number in range(3):
            with trio.fail_after(NET_S):
                while len(storm.answered) < number * 80:
                    await trio.sleep(0.01)
            acknowledged = set(storm.answered)
            archive, into = str(tmp_path / f"b{number}"), str(tmp_path / f"into{number}")
            await process.command("backup", archive, "--state", str(state))
            await process.command("restore", archive, "--state", into)
            with Store(Path(into)) as store:
                assert acknowledged <= {
                    name for (name,) in store.execute("SELECT task_id FROM tasks WHERE digest IS NOT NULL")
                }
            assert acknowledged <= set(check_results(Path(into)))


def check_results(state: Path) -> list[str]:
    return [path.stem for path in (state / "async_results/suno").glob("*")]
