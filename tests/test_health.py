"""What ``/health`` tells of what the hub stands on, and when it says that it can not serve."""

import errno
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from apexbridge_trio.clock import MADE, WallClock
from apexbridge_trio.health import JUMP_S, LOW_BYTES, STUCK_S, Health
from tests.harness.journal import broken
from tests.harness.node import joined
from tests.harness.world import World, open_world, say


class Stats(NamedTuple):
    f_bavail: int
    f_frsize: int
    f_blocks: int
    f_flag: int
    f_files: int = 0
    f_favail: int = 0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


class Clocks:
    """The wall's and the one that nobody sets."""

    def __init__(self) -> None:
        self.wall, self.steady = MADE + 1e6, 100.0

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def look(world: World, clocks: Clocks | None = None, newest: float = 0.0) -> Health:
    clocks = clocks or Clocks()
    clock = WallClock(lambda: clocks.wall, lambda: clocks.steady, newest)
    return Health(replace(world.hub, clock=clock), lambda: clocks.steady)


def part(health: Health, name: str) -> dict[str, Any]:
    (found,) = [one for one in health.dependencies() if one["name"] == name]
    return found


async def test_a_store_that_can_not_be_written_is_no_hub_that_serves(state, autojump_clock):
    async with open_world(state) as world:
        paths = ("/health", "/health/ready", "/health/live")
        assert [(await world.ask("GET", path)).status for path in paths] == [200, 200, 200]
        with broken(world):
            world.hub.journal.post(lambda: None)
            replies = [await world.ask("GET", path) for path in paths]
            assert [reply.status for reply in replies] == [503, 503, 200]
            assert {reply.json["status"] for reply in replies} == {"failing"}
            store = replies[0].json["dependencies"][0]
            assert (store["name"], store["state"]) == ("store", "failing")
            assert store["detail"] == "The disk is full."
            assert (await world.chat(say("x", "hello"))).status == 200, "who needs no disk goes on"
            async with world.client("192.0.2.7") as far:
                told = await far.ask("GET", "/health", None, "Host: hub.lan")
                assert (told.status, "dependencies" in told.json) == (503, False)


async def test_a_store_that_is_well_again_is_told(state, autojump_clock):
    async with open_world(state) as world:
        health, journal = look(world), world.hub.journal
        with broken(world):
            journal.post(lambda: None)
        assert health.store_fault, "it was not tried again"
        journal.post(lambda: None)
        assert part(health, "store")["state"] == "ok"


async def test_a_look_at_a_hub_that_is_well_writes_nothing(state, autojump_clock):
    async with open_world(state) as world:
        written = len(world.hub.journal.writes)
        for _ in range(20):
            await world.ask("GET", "/health")
        assert len(world.hub.journal.writes) == written


async def test_a_write_that_never_ends_is_told(state, autojump_clock):
    clocks = Clocks()
    async with open_world(state) as world:
        health = look(world, clocks)
        world.hub.journal.writing_since = clocks.steady
        assert part(health, "store")["state"] == "ok"
        clocks.pass_s(STUCK_S + 1)
        assert part(health, "store")["detail"] == "A write to the disk does not come to an end."


@pytest.mark.parametrize(
    ("free", "flag", "disk", "store"),
    [
        (10**12, 0, "ok", "ok"),
        (LOW_BYTES - 1, 0, "limited", "ok"),
        (0, 0, "failing", "ok"),
        (10**12, os.ST_RDONLY, "ok", "failing"),
    ],
)
async def test_the_disk_is_told(state, autojump_clock, monkeypatch, free, flag, disk, store):
    async with open_world(state) as world:
        monkeypatch.setattr(os, "statvfs", lambda _: Stats(free, 1, 2 * 10**12, flag))
        health = look(world)
        assert (part(health, "disk")["state"], part(health, "store")["state"]) == (disk, store)


async def test_a_disk_that_takes_no_more_files_is_told(state, autojump_clock, monkeypatch):
    async with open_world(state) as world:
        monkeypatch.setattr(os, "statvfs", lambda _: Stats(10**12, 1, 2 * 10**12, 0, 1000, 0))
        assert part(look(world), "disk")["state"] == "failing"


async def test_a_disk_that_can_not_be_looked_at_is_told_and_no_fault_of_health(
    state, autojump_clock, monkeypatch
):
    def dead(_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/srv/home/state")

    async with open_world(state) as world:
        monkeypatch.setattr(os, "statvfs", dead)
        reply = await world.ask("GET", "/health")
        assert reply.status == 503
        parts = {one["name"]: (one["state"], one["detail"]) for one in reply.json["dependencies"]}
        said = "can not be looked at: Input/output error."
        assert parts["disk"] == ("failing", f"It {said}")
        assert parts["store"] == ("failing", f"The state directory {said}")


async def test_a_clock_that_was_set_is_told(state, autojump_clock):
    clocks = Clocks()
    async with open_world(state) as world:
        health = look(world, clocks)
        clocks.pass_s(86_400)
        assert part(health, "clock")["state"] == "ok"
        clocks.wall += JUMP_S + 1
        assert part(health, "clock")["detail"] == "It was put forward by 3 s since the start."
        clocks.wall -= 3600
        assert part(health, "clock")["detail"] == "It was put back by 3597 s since the start."
        clocks.wall = 12.0
        assert part(health, "clock")["state"] == "failing"


async def test_a_clock_that_the_hub_does_not_believe_is_no_good_one_in_health(state, autojump_clock):
    async with open_world(state) as world:
        clocks = Clocks()
        behind = part(look(world, clocks, clocks.wall + 86_400), "clock")
        assert (behind["state"], "newest thing on record" in behind["detail"]) == ("failing", True)
        clocks.wall = MADE - 86_400
        assert part(look(world, clocks), "clock")["state"] == "failing", "no reminder fires"
        clocks.wall = MADE + 200 * 86_400
        ahead = part(look(world, clocks, MADE), "clock")
        assert (ahead["state"], "much later" in ahead["detail"]) == ("limited", True)


async def test_plugins_and_nodes_are_told_in_sum(state, autojump_clock):
    async with open_world(state) as world:
        health = look(world)
        assert part(health, "plugins")["state"] == "ok"
        assert part(health, "nodes") == {
            "kind": "hub", "name": "nodes", "state": "ok", "checkedAgeS": 0.0, "detail": ""
        }  # fmt: skip
        (tally, *_) = world.hub.plugins.tallies_of(world.hub.plugins.offer.plugins["clock"])
        tally.is_failing = True
        told = part(health, "plugins")
        assert (told["state"], told["detail"]) == ("limited", "failing: clock: ready")
        async with joined(world):
            assert part(health, "nodes")["detail"] == "1 online"
        told = part(health, "nodes")
        assert (told["state"], told["detail"]) == ("limited", "1 offline")
