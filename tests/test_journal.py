"""The one writer: in order, on disk before anybody hears of it, and each piece for itself.

On the real clock, since the virtual one does not wait for threads; nothing here sleeps.
"""

import pytest
import trio

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.journal import MOST_AT_ONCE, Journal
from apexbridge_trio.store import Store, TaskRecord, Tasks
from tests.harness.kill import kill_at_every_step


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as opened:
        yield opened


@pytest.fixture
def seen(tmp_path):
    """Another connection, that sees only what is committed."""
    with Store(tmp_path) as opened:
        yield Tasks(opened)


def adding(store, call_id):
    def add():
        Tasks(store).save(TaskRecord(call_id=call_id, plugin="p", tool="t", created_ms=1, expires_ms=2))
        return call_id

    return add


async def test_work_is_on_disk_before_anybody_hears_of_it(store, seen):
    journal = Journal(store)
    heard: list[tuple[str, bool]] = []

    def hear(call_id):
        heard.append((call_id, seen.of_call(call_id) is not None))

    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        names = [f"c{number}" for number in range(MOST_AT_ONCE * 2 + 1)]
        entries = [journal.post(adding(store, name), hear) for name in names]
        assert [await entry.wait() for entry in entries] == names
        assert heard == [(name, True) for name in names]
        nursery.cancel_scope.cancel(reason="done")


async def test_a_fault_is_the_fault_of_one(store, seen):
    journal = Journal(store)

    def fails():
        adding(store, "half")()
        raise KeyError("mine")

    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        entries = [journal.post(work) for work in (adding(store, "a"), fails, adding(store, "b"))]
        assert await entries[0].wait() == "a"
        assert await entries[2].wait() == "b"
        with pytest.raises(KeyError, match="mine"):
            await entries[1].wait()
        nursery.cancel_scope.cancel(reason="done")
    assert seen.of_call("a")
    assert seen.of_call("half") is None


async def test_a_transaction_that_fails_is_told_to_all_in_it(store, seen):
    journal = Journal(store)
    heard: list[object] = []

    def breaks():
        store.execute("COMMIT")  # as SQLite itself does when the disk is full

    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        entries = [journal.post(work, heard.append) for work in (breaks, adding(store, "a"))]
        for entry in entries:
            with pytest.raises(StoreUnusable, match="can not write"):
                await entry.wait()
        assert heard == []
        assert await journal.post(adding(store, "b")).wait() == "b"
        nursery.cancel_scope.cancel(reason="done")
    assert seen.of_call("b")


async def test_without_its_task_work_is_written_by_who_posts_it(store, seen):
    journal = Journal(store)
    entry = journal.post(adding(store, "before"))
    assert seen.of_call("before")
    assert await entry.wait() == "before"
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        journal.post(adding(store, "left"))
        nursery.cancel_scope.cancel(reason="over")
    assert seen.of_call("left")
    journal.post(adding(store, "after"))
    assert seen.of_call("after")


async def test_cut_at_every_step_nothing_that_was_told_is_lost(tmp_path, store, seen):
    run = 0
    told: list[str] = []
    posted: list[str] = []

    async def scenario():
        nonlocal run
        run += 1
        told.clear()
        posted.clear()
        journal = Journal(store)

        async def ask(name):
            posted.append(name)
            told.append(await journal.post(adding(store, name)).wait())

        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            async with trio.open_nursery() as askers:
                for number in range(3):
                    askers.start_soon(ask, f"{run}-{number}")
            nursery.cancel_scope.cancel(reason="done")

    async def check(whole):
        assert {name for name in posted if seen.of_call(name)} == set(posted)
        assert set(told) <= set(posted)
        if whole:
            assert len(told) == 3

    assert await kill_at_every_step(scenario, check) > 5
