"""Results stay until they are acknowledged, over any end of the agent."""

import msgspec
import pytest
import trio
from msgspec import Raw

from apexbridge_trio import log
from apexbridge_trio.agent import kept as room
from apexbridge_trio.agent.kept import RESTARTED, Kept
from apexbridge_trio.protocol.frames import TaskResult
from tests.fakes.nodes_hub import why


def result(task_id: str, value: object = 1) -> TaskResult:
    return TaskResult(task_id, result=Raw(msgspec.json.encode(value)), execution_time=1.5)


async def loaded(kept: Kept, task_id: str) -> TaskResult:
    found = await kept.load(task_id)
    assert found is not None
    return found


def open_kept(home) -> Kept:
    return Kept(home, threads=0)


async def test_results_are_there_in_order_after_a_restart(tmp_path):
    kept = open_kept(tmp_path)
    for name in ("b", "a", "c:1"):
        await kept.keep(result(name, {"name": name}))
    kept.drop("a")
    again = open_kept(tmp_path)
    assert list(again) == ["b", "c:1"]
    assert await again.load("b") == await kept.load("b")
    assert (await loaded(again, "c:1")).execution_time == 1.5
    await again.keep(result("d"))
    assert list(open_kept(tmp_path)) == ["b", "c:1", "d"]


async def test_large_results_are_read_when_they_are_sent(tmp_path):
    kept = Kept(tmp_path)
    await kept.keep(result("big", "x" * 1_000_000))
    assert kept._entries["big"].result is None
    assert len(bytes((await loaded(kept, "big")).result)) == 1_000_002
    kept.drop("big")
    assert await kept.load("big") is None
    assert list((tmp_path / "results").iterdir()) == []


async def test_what_had_begun_is_answered_for(tmp_path):
    kept = open_kept(tmp_path)
    for name in ("ran", "done", "cancelled"):
        kept.begin(name)
    await kept.keep(result("done"))
    kept.end("cancelled")
    again = open_kept(tmp_path)
    assert list(again) == ["done", "ran"]
    assert why(await loaded(again, "ran")).code == RESTARTED
    assert (await loaded(again, "done")).success
    assert list((tmp_path / "begun").iterdir()) == []
    assert list(open_kept(tmp_path)) == ["done", "ran"]


async def test_a_result_in_place_of_another(tmp_path):
    kept = open_kept(tmp_path)
    await kept.keep(result("a", "first"))
    await kept.keep(result("b"))
    await kept.keep(result("a", "second"))
    assert list(kept) == list(open_kept(tmp_path)) == ["b", "a"]
    assert bytes((await loaded(open_kept(tmp_path), "a")).result) == b'"second"'


async def test_what_a_crash_leaves(tmp_path):
    kept = open_kept(tmp_path)
    await kept.keep(result("a", "first"))
    folder = tmp_path / "results"
    (folder / "000000000002.half.tmp").write_text('{"taskId": "ha')
    (folder / "000000000003.a.json").write_bytes(msgspec.json.encode(result("a", "second")))
    (folder / "notes.txt").write_text("of somebody")
    (tmp_path / "begun/no id").touch()
    again = open_kept(tmp_path)
    assert list(again) == ["a"]
    assert bytes((await loaded(again, "a")).result) == b'"second"'
    assert [path.name for path in folder.iterdir()] == ["000000000003.a.json"]
    (folder / "000000000003.a.json").write_text("{")
    with log.capture() as lines:
        assert await again.load("a") is None
        (folder / "000000000003.a.json").unlink()
        assert await again.load("a") is None
    assert [line["event"] for line in lines] == ["a kept result is broken", "a kept result can not be read"]


async def test_a_disk_that_takes_nothing(tmp_path, monkeypatch):
    kept = open_kept(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "_write", full)
    with log.capture() as lines:
        await kept.keep(result("a"))
    assert [line["reason"] for line in lines] == ["No space left on device"]
    assert (await loaded(kept, "a")).success
    kept.drop("a")
    assert len(kept) == 0


@pytest.mark.parametrize("threads", [0, 2])
async def test_done_work_is_never_pushed_out_by_new(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(room, "MOST", 2)
    kept = Kept(tmp_path, threads=threads)
    await kept.keep(result("a"))
    assert not kept.is_full
    await kept.keep(result("b"))
    assert kept.is_full
    kept.drop("a")
    monkeypatch.setattr(room, "MOST_BYTES", kept.size - 1)
    assert kept.is_full
    assert "b" in kept


async def test_empty_is_waited_for(tmp_path, autojump_clock):
    kept = open_kept(tmp_path)
    await kept.empty()
    await kept.keep(result("a"))
    await kept.keep(result("b"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.empty)
        await trio.testing.wait_all_tasks_blocked()
        kept.drop("a")
        kept.drop("unknown")
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        kept.drop("b")


async def test_marks_on_a_folder_that_is_gone_are_only_logged(tmp_path):
    kept = open_kept(tmp_path)
    (tmp_path / "begun").rmdir()
    with log.capture() as lines:
        kept.begin("a")
        kept.end("a")
    assert [line["log_level"] for line in lines] == ["error"]
