"""A call of a node's tool, cut, interrupted, and bereft of its node before every scheduler step."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.flights import Stop
from apexbridge_trio.protocol.frames import NodeRegistered
from apexbridge_trio.store import NodeTaskRecord
from tests.harness.kill import kill_at_every_step
from tests.harness.node import connected, joined, key_for
from tests.harness.world import World, open_world, say
from tests.nodes.robot import Robot
from tests.nodes.test_calls import QUIET, settled
from tests.test_killed import Caller, check_agreement

FINAL = {"succeeded", "failed", "interrupted", "timed_out", "lost"}


def tasks_of(world: World) -> list[NodeTaskRecord]:
    return world.hub.nodes.rows.list_tasks(None, None, None)


def check_each_ended_once(world: World, robot: Robot) -> None:
    for record in tasks_of(world):
        assert record.state in FINAL, record
        states = [step["state"] for step in json.loads(record.history)]
        assert [state in FINAL for state in states].count(True) == 1, states
        assert robot.runs.get(record.id, 0) <= 1, record


async def call(world: World, callers: list[Any], **fields: Any) -> None:
    callers.append(caller := Caller(say("echo", "hands", **fields)))
    await world.front(caller.scope, caller.receive, caller.send)


async def test_a_call_cut_at_every_step(tmp_path: Path, autojump_clock: object) -> None:
    robot, callers = Robot(), list[Any]()
    async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
        nursery.start_soon(robot.serve, node)

        async def check(whole: bool) -> None:
            await settled(lambda: world.look() == QUIET)
            check_each_ended_once(world, robot)
            if whole:
                assert tasks_of(world)[0].state == "succeeded"
                assert b"did task_" in callers[-1].whole

        cuts = await kill_at_every_step(lambda: call(world, callers), check)
        assert cuts > 20
        nursery.cancel_scope.cancel()


class _Before(trio.abc.Instrument):
    """Do something just before step `cut`."""

    def __init__(self, cut: int, act: Any) -> None:
        self.cut, self.act, self.steps = cut, act, 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.cut:
            self.act()


async def test_an_interrupt_at_every_step_has_a_true_receipt(tmp_path: Path, autojump_clock: object) -> None:
    robot = Robot(work_s=3.0)
    async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
        nursery.start_soon(robot.serve, node)
        for cut in range(1, 400):
            stops: list[Stop] = []

            def interrupt(stops: list[Stop] = stops) -> None:
                for flight in list(world.hub.flights._roots.values()):
                    stops.append(world.hub.flights.interrupt("r1", flight.owner, "cut"))

            callers: list[Any] = []
            instrument = _Before(cut, interrupt)
            trio.lowlevel.add_instrument(instrument)
            try:
                await call(world, callers, requestId="r1")
            finally:
                trio.lowlevel.remove_instrument(instrument)
            assert not robot.running, "stopped means that nothing runs at the node"
            check_agreement(callers[0], stops)
            await settled(lambda: world.look() == QUIET)
            check_each_ended_once(world, robot)
            if instrument.steps < cut:
                break
        else:
            raise AssertionError("not finished after 400 cuts")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.prove)])
async def test_a_node_that_is_lost_at_every_step(stride: int, tmp_path: Path, autojump_clock: object) -> None:
    """Its connection ends before step k and it comes back with what it has: each task ends once."""
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        for cut in range(1, 400, stride):
            robot, callers = Robot(), list[Any]()
            async with trio.open_nursery() as nursery:
                async with connected(world, key) as first:
                    await first.register()
                    nursery.start_soon(robot.serve, first)
                    instrument = _Before(cut, first.stream.close)  # type: ignore[attr-defined]
                    nursery.start_soon(call, world, callers)
                    trio.lowlevel.add_instrument(instrument)
                    await trio.sleep(1)
                    trio.lowlevel.remove_instrument(instrument)
                async with connected(world, key) as again:
                    said = await again.register(active_tasks=robot.active)
                    assert isinstance(said, NodeRegistered)
                    for task_id in list(robot.kept):
                        await again.answer(task_id, robot.kept[task_id])
                    nursery.start_soon(robot.serve, again)
                    await settled(lambda callers=callers: bool(callers) and bool(callers[0].sent))  # type: ignore[misc]
                    await settled(lambda: world.look() == QUIET)
                    await settled(lambda robot=robot: not robot.kept)  # type: ignore[misc]
                    nursery.cancel_scope.cancel()
            check_each_ended_once(world, robot)
            if instrument.steps < cut:
                return
        raise AssertionError("not finished after 400 cuts")
