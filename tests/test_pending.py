"""Who waits for tasks that answer later, with the writer's real thread, hence on the real clock."""

import json
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from apexbridge_trio.errors import Interrupted, StoreUnusable, TaskFailed, ToolTimeout
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.ledger import Ledger, Sender
from apexbridge_trio.log import capture
from apexbridge_trio.peer import PEER
from apexbridge_trio.pending import Pendings
from apexbridge_trio.pending.call import hash_of
from apexbridge_trio.plugins import Later, Pending
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.results import Results
from apexbridge_trio.serving.call import Inbox
from apexbridge_trio.store import Store, Tasks
from tests.harness.kill import kill_at_every_step
from tests.harness.world import Tool, open_world

ANNE = Principal("anne")
# A safety net: a scenario that is cut at every step is on a slow disk hundreds of times.
SAFETY_S = 600.0


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A disk that takes its time is waited for."""
    for name in ("call", "pendings"):
        monkeypatch.setattr(f"apexbridge_trio.pending.{name}.LEAVE_S", SAFETY_S)


def said(status="success", **fields):
    return read_callback(json.dumps({"status": status, **fields}).encode())


SONG = said(output="la la")


class Running(trio.abc.AsyncResource):
    """What still runs: closing it takes a while, and is done also when cancelled."""

    def __init__(self):
        self.ended = trio.Event()

    async def aclose(self):
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.ended.set()


class World:
    """The rooms below the toolbox, one plugin that answers when it is told to."""

    def __init__(self, state, store, written):
        self.now = 1000.0
        self.state = state
        self.ledger = Ledger(written, Results(state), now=lambda: self.now)
        self.journal = Journal(written)
        self.pendings = Pendings(
            store, self.journal, self.ledger, url="http://h/cb", expires_s=100.0, keep_s=1000.0
        )
        self.tasks = Tasks(store)
        self.flights = Flights()
        self.tool = Tool("sing", None, False)
        self.tool.plugin, self.tool.later = "suno", Later()
        self.token = ""
        self._news = trio.Event()
        write, loop = self.journal._write, trio.lowlevel.current_trio_token()

        def write_and_say(batch):
            write(batch)
            loop.run_sync_soon(self._say)

        self.journal._write = write_and_say  # type: ignore[method-assign]

    def _say(self):
        self._news.set()
        self._news = trio.Event()

    async def until(self, holds):
        """Wait for a transaction that makes it so; nobody has been told of that one yet."""
        while not holds():
            await self._news.wait()

    async def sing(self, flight, name="t", *, wait_s=SAFETY_S, running=None):
        """Call the tool as the toolbox does."""
        async with self.pendings.open_call(self.tool, flight) as call:
            self.token = call.address.token
            return await call.result(Pending(name, running), wait_s)

    async def bring(self, name="t", callback=SONG):
        task = self.pendings.task_of(self.token)
        assert task is not None
        return (await self.pendings.accept("suno", name, callback, Sender(call_id=task.call_id))).word

    def row(self, name="t") -> Any:
        return self.tasks.named("suno", name)


@asynccontextmanager
async def open_rooms(state):
    with trio.fail_after(SAFETY_S):
        with Store(state) as store, Store(state) as written:
            world = World(state, store, written)
            async with trio.open_nursery() as nursery:
                await nursery.start(world.pendings.run)
                yield world
                assert len(world.pendings) == 0
                nursery.cancel_scope.cancel(reason="the test is over")


async def until_waiting(world, name="t"):
    await world.until(lambda: (row := world.row(name)) is not None and row.state == "waiting_callback")
    await wait_all_tasks_blocked()


async def test_a_call_is_on_disk_before_its_plugin_is_told(tmp_path):
    async with open_rooms(tmp_path) as world:
        with world.flights.open("r", "chat", ANNE) as flight:
            async with world.pendings.open_call(world.tool, flight) as call:
                assert call.address.base_url == f"http://h/cb/~{call.address.token}"
                row = world.pendings.task_of(call.address.token)
                assert (row.state, row.tool, row.principal_id, row.task_id) == (
                    "running",
                    "sing",
                    "anne",
                    None,
                )
                assert row.expires_ms - row.created_ms == 100_000
                assert call.address.token.encode() not in (tmp_path / "hub.sqlite3-wal").read_bytes()
        with world.flights.open("r", "chat", ANNE) as flight:  # the record is dropped in its turn
            async with world.pendings.open_call(world.tool, flight):
                assert world.tasks.of_call(call.call_id) is None


async def test_who_waits_is_woken_and_what_runs_is_ended(tmp_path):
    async with open_rooms(tmp_path) as world:
        running, songs = Running(), []

        async def turn():
            with world.flights.open("r", "chat", ANNE) as flight:
                songs.append(await world.sing(flight, running=running))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            await until_waiting(world)
            assert await world.bring(callback=said("progress", progress=0.1)) == "progress"
            assert not running.ended.is_set()
            assert await world.bring() == "accepted"
        assert songs == ["la la"]
        assert running.ended.is_set()


async def test_progress_that_overtakes_the_answer_is_the_waits(tmp_path):
    async with open_rooms(tmp_path) as world:
        with world.flights.open("r", "chat", ANNE) as flight:
            async with world.pendings.open_call(world.tool, flight) as call, trio.open_nursery() as nursery:
                world.token = call.address.token
                assert await world.bring(callback=said("progress", progress=0.5)) == "progress"
                nursery.start_soon(call.result, Pending("t", None), SAFETY_S)
                while not flight.children:
                    await trio.lowlevel.checkpoint()
                (wait,) = flight.children.values()
                assert (wait.kind, wait.remarks["progress"]) == ("callback", 0.5)
                assert await world.bring() == "accepted"


async def test_what_nobody_waits_for_is_ended_by_its_callback(tmp_path):
    async with open_rooms(tmp_path) as world:
        running = Running()
        with world.flights.open("r", "chat", ANNE) as flight:
            assert isinstance(await world.sing(flight, wait_s=0, running=running), Pending)
        assert len(world.pendings) == 1
        assert not running.ended.is_set()
        assert await world.bring() == "accepted"
        await running.ended.wait()
        assert [json.loads(notice.body)["state"] for notice in world.tasks.notices()] == ["succeeded"]


@pytest.mark.parametrize("waits", [True, False])
async def test_the_sweep_ends_what_is_overdue(tmp_path, waits):
    async with open_rooms(tmp_path) as world:
        running = Running()

        async def turn():
            with world.flights.open("r", "chat", ANNE) as flight:
                if waits:
                    with pytest.raises(ToolTimeout, match="in time"):
                        await world.sing(flight, running=running)
                else:
                    await world.sing(flight, wait_s=0, running=running)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            await until_waiting(world)
            world.now += 100
            with capture() as lines:
                await world.pendings._sweep()
        await running.ended.wait()
        assert [(line["timed_out"], line["deleted"]) for line in lines if line["event"] == "tasks swept"] == [
            (1, 0)
        ]
        assert await world.bring() == "gone"


async def test_the_sweep_runs_at_the_start_and_then_by_the_clock(tmp_path, monkeypatch):
    with Store(tmp_path) as store:
        ledger = Ledger(store, Results(tmp_path), now=lambda: 1.0)
        ledger.open("c", plugin="suno", tool="sing", owner=ANNE, token_hash=b"", expires_s=1)
        ledger.open("d", plugin="suno", tool="sing", owner=ANNE, token_hash=b"d", expires_s=2000)
        ledger.open("e", plugin="suno", tool="sing", owner=ANNE, token_hash=b"e", expires_s=2)
    monkeypatch.setattr("apexbridge_trio.ledger.MOST_SWEPT", 1)
    monkeypatch.setattr("apexbridge_trio.pending.pendings.SWEEP_EVERY_S", 0.001)
    async with open_rooms(tmp_path) as world:
        assert {row.call_id for row in world.tasks.ended(10**15, 9)} == {"c", "e"}
        world.now += 1001
        await world.until(lambda: not {row.call_id for row in world.tasks.ended(10**15, 9)} >= {"c", "e"})


async def test_a_full_disk_stops_no_sweeper(tmp_path, monkeypatch):
    async with open_rooms(tmp_path) as world:

        def full(_keep_s, *, forgets):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(world.ledger, "sweep", full)
        with capture() as lines:
            await world.pendings._sweep()
        assert [line["room"] for line in lines] == ["journal", "pending"]


async def test_a_plugin_is_not_started_when_its_call_can_not_be_recorded(tmp_path, monkeypatch):
    async with open_rooms(tmp_path) as world:

        def broken(*_, **__):
            raise StoreUnusable("broken")

        monkeypatch.setattr(world.ledger, "open", broken)
        with world.flights.open("r", "chat", ANNE) as flight, pytest.raises(StoreUnusable):
            await world.sing(flight)


async def test_a_failed_task_raises_what_its_callback_says(tmp_path):
    async with open_rooms(tmp_path) as world:

        async def turn():
            with world.flights.open("r", "chat", ANNE) as flight:
                with pytest.raises(TaskFailed, match="hoarse"):
                    await world.sing(flight)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            await until_waiting(world)
            await world.bring(callback=said("failed", error="hoarse"))


async def test_an_interrupt_s_receipt_is_true_over_a_crash(tmp_path):
    """When it says stopped, the withdrawal is on disk and the processes have ended."""
    async with open_rooms(tmp_path) as world:
        running = Running()

        async def turn():
            with pytest.raises(Interrupted):
                with world.flights.open("r", "chat", ANNE) as flight:
                    await world.sing(flight, running=running)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            await until_waiting(world)
            receipt = await world.flights.interrupt("r", ANNE).receipt(SAFETY_S)
            assert receipt["state"] == "stopped"
            with Store(tmp_path) as after_the_crash:
                assert Tasks(after_the_crash).ended(10**15, 9)[0].state == "interrupted"
            assert running.ended.is_set()
        assert await world.bring() == "gone"


@pytest.mark.parametrize("interrupted", [True, False])
async def test_a_wait_cut_at_every_step_leaves_one_truth(tmp_path, interrupted):
    """A callback races with an interrupt, or with a cut from outside, at every step."""
    async with open_rooms(tmp_path) as world:
        run = 0
        heard: list[str] = []
        songs: list[str] = []

        async def turn(name, running):
            with world.flights.open("r", "chat", ANNE) as flight:
                songs.append(await world.sing(flight, name, running=running))

        async def scenario():
            nonlocal run
            run += 1
            heard.clear()
            songs.clear()
            world.token, name = "", f"t{run}"

            async def deliver():
                await world.until(lambda: world.row(name) is not None)
                heard.append(await world.bring(name))
                if interrupted and len(world.flights):
                    world.flights.interrupt("r", ANNE)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(deliver)
                with suppress(Interrupted):
                    await turn(name, Running())

        async def check(whole):
            assert len(world.flights) == 0
            await world.journal.post(lambda: None).wait()  # what was posted before is on disk now
            row, file = world.row(f"t{run}"), tmp_path / f"async_results/suno/t{run}.json"
            if heard == ["accepted"]:
                assert row.state == "succeeded"
            if row is not None and row.state == "succeeded":
                assert file.read_bytes() == SONG.body
                owed = row.call_id in {notice.id for notice in world.tasks.notices()}
                assert not (owed and songs), "told twice"
                assert owed or songs or interrupted, "told to nobody"
            if row is not None and row.state in {"waiting_callback", "running"}:
                assert heard == []
                assert await world.bring(f"t{run}") == "accepted"  # kept: it can be brought still
            await wait_all_tasks_blocked()
            assert len(world.pendings) == 0
            if whole:
                assert row.state == "succeeded"

        assert await kill_at_every_step(scenario, check) > 5


class Caller:
    """An ASGI server's side of one callback."""

    def __init__(self, path, body):
        self.body, self.sent = body, []
        headers = [(b"host", b"h"), (b"content-type", b"application/json")]
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": headers,
            "client": ("192.0.2.1", 1),
            "extensions": {PEER: Inbox("http")},
        }

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        self.sent.append(message)
        await trio.lowlevel.checkpoint()

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None


async def test_a_callback_cut_at_every_step_is_on_disk_or_can_be_sent_again(tmp_path):
    async with open_world(tmp_path) as world:
        await world.nursery.start(world.hub.pendings.run)
        with Store(tmp_path) as store:
            ledger, results, run = Ledger(store, Results(tmp_path)), Results(tmp_path), 0

            async def send():
                caller = Caller(f"/plugin-callback/~token{run}/suno/t{run}", SONG.body)
                callers.append(caller)
                await world.front(caller.scope, caller.receive, caller.send)

            async def scenario():
                nonlocal run
                run += 1
                token_hash = hash_of(f"token{run}")
                ledger.open(
                    f"c{run}", plugin="suno", tool="s", owner=ANNE, token_hash=token_hash, expires_s=1e6
                )
                ledger.name(f"c{run}", f"t{run}")
                await send()

            async def check(whole):
                first = callers[-1].status if callers else None
                assert first in {None, 200}
                row = Tasks(store).of_call(f"c{run}")
                assert row is not None
                if first == 200:
                    assert results.find("suno", f"t{run}") == SONG.body
                    assert row.state == "succeeded"
                await send()
                assert callers[-1].status == 200
                assert results.find("suno", f"t{run}") == SONG.body
                assert row.late == 0
                callers.clear()
                assert not whole or first == 200

            callers: list[Caller] = []
            assert await kill_at_every_step(scenario, check) > 3
            assert len(list(tmp_path.glob("async_results/suno/*"))) == run
