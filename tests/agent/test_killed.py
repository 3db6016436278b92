"""An agent, cut before every scheduler step: no result that came about is lost, and no task is run twice."""

import json
from pathlib import Path

import msgspec
import pytest
import trio

from apexbridge_trio.agent import Kept
from apexbridge_trio.agent.kept import RESTARTED
from apexbridge_trio.protocol.frames import Heartbeat, NodeRegister, TaskResult
from tests.agent.node import Bell, open_node
from tests.fakes.nodes_hub import FakeHub, why
from tests.harness.kill import kill_at_every_step


class Runs:
    """The folder of each run, and what the hub has acknowledged in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.count = 0
        self.hub = FakeHub()
        self.ping = Bell("ping")

    @property
    def home(self) -> Path:
        return self.place / str(self.count)

    def begin(self, *, acks: bool) -> None:
        self.count += 1
        self.home.mkdir()
        self.hub = FakeHub(acks=acks)
        self.ping = Bell("ping")

    @property
    def acked(self) -> bool:
        return self.hub.acks and any(isinstance(said, TaskResult) for said in self.hub.heard)

    async def told_after_restart(self) -> list[TaskResult]:
        """What an agent that is started again has for the hub."""
        kept = Kept(self.home, threads=0)
        found = [await kept.load(task_id) for task_id in kept]
        return [result for result in found if result is not None]


@pytest.mark.parametrize("acks", [True, False], ids=["acknowledged", "not acknowledged"])
async def test_a_result_is_not_begun_or_on_disk_or_acknowledged(tmp_path, autojump_clock, acks):
    runs = Runs(tmp_path)

    async def scenario():
        runs.begin(acks=acks)
        hub, ping = runs.hub, runs.ping
        async with hub.open(), open_node(runs.home, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            await wire.assign("task_1", "ping")
            await wire.result_of("task_1")
            if acks:
                await node.kept.empty()

    async def check(whole):
        told = await runs.told_after_restart()
        assert len(told) <= 1
        if whole:
            assert len(told) == (0 if acks else 1)
        if told and not told[0].success:
            # It was cut while it ran; then nothing of it may be known as done.
            assert why(told[0]).code == RESTARTED
            assert not runs.acked
        if runs.ping.calls and not told:
            assert runs.acked

    cuts = await kill_at_every_step(scenario, check)
    assert cuts > 50


async def test_an_agent_leaves_in_order_or_leaves_its_results(tmp_path, autojump_clock):
    runs = Runs(tmp_path)

    async def scenario():
        runs.begin(acks=True)
        hub, ping = runs.hub, runs.ping
        async with hub.open(), open_node(runs.home, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            await wire.assign("task_1", "ping")
            await ping.called()
            await node.drain()

    async def check(whole):
        told = await runs.told_after_restart()
        if whole:
            assert runs.acked
            assert told == []
        if runs.ping.calls and not told:
            assert runs.acked

    await kill_at_every_step(scenario, check)


async def test_what_is_delivered_by_the_next_agent_ends_each_task_once(tmp_path, autojump_clock):
    """The first agent is cut at every step, and then a second one runs to the end."""
    runs = Runs(tmp_path)

    async def scenario():
        runs.begin(acks=True)
        hub, ping = runs.hub, runs.ping
        async with hub.open(), open_node(runs.home, hub, ping):
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            await wire.assign("task_1", "ping")
            await wire.result_of("task_1")

    async def check(whole):
        first = [said for said in runs.hub.heard if isinstance(said, TaskResult)]
        was_begun = bool(runs.ping.calls)
        hub = FakeHub()
        async with hub.open(), open_node(runs.home, hub, runs.ping) as node:
            await (await hub.wire()).hear(Heartbeat)
            await node.kept.empty()
        second = [said for said in hub.heard if isinstance(said, TaskResult)]
        assert len(runs.ping.calls) == was_begun
        if was_begun:
            assert first or second
        ends = {json.dumps(msgspec.to_builtins(said.success)) for said in (*first, *second)}
        assert len(ends) <= 1
        await trio.testing.wait_all_tasks_blocked()

    await kill_at_every_step(scenario, check)
