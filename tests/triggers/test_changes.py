"""Triggers that wait for something to last, and are added, changed or removed while the hub runs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from apexbridge_trio.nodes import HUB_ENDED
from apexbridge_trio.protocol.frames import Heartbeat
from apexbridge_trio.store import Store, WatchRows
from tests.harness.kill import kill_at_every_step
from tests.harness.node import joined
from tests.triggers.place import Place
from tests.triggers.test_restarts import AWAY, GONE, come, kept, leave, now_ms, save_node, task, write_task
from tests.triggers.test_triggers import told, trigger, watched

replace = msgspec.structs.replace


def held(place: Place) -> list[tuple[str, str, bool]]:
    """Return the trigger and the subject of each row, and whether that has fired."""
    with Store(place.state) as store:
        return [(one.trigger, one.subject, one.fired) for one in WatchRows(store).holds()]


class TestOneThatIsNew:
    async def test_it_counts_since_the_node_went(self, tmp_path: Path, autojump_clock: Any) -> None:
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(40)
            rooms.triggers.replace([AWAY])
            await trio.sleep(19)
            assert (place.owed(), held(place)) == ([], [("away", "attic", False)])
            await trio.sleep(2)
            assert place.owed() == [GONE]

    async def test_what_has_lasted_for_longer_is_told_at_once_and_once_over_hubs(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(3600)
            rooms.triggers.replace([AWAY])
            await trio.testing.wait_all_tasks_blocked()
            assert (place.owed(), held(place)) == ([GONE], [("away", "attic", True)])
            rooms.triggers.replace([AWAY])
            await trio.sleep(600)
        place.triggers = [AWAY]
        async with place.hub() as rooms:
            await trio.sleep(600)
            assert place.owed() == [GONE]

    async def test_a_hub_that_ends_in_between_is_followed_by_one_that_goes_on(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(20)
            rooms.triggers.replace([AWAY])
            await trio.sleep(10)
        place.triggers = [AWAY]
        async with place.hub() as rooms:
            await trio.sleep(29)
            assert place.owed() == []
            await trio.sleep(2)
            assert place.owed() == [GONE]

    async def test_one_that_is_here_or_another_households_is_not_told(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            come(rooms, place, "cellar")
            leave(rooms, place)
            rooms.triggers.replace(
                [replace(AWAY, tenant="next-door"), replace(AWAY, name="b", when={"to": "busy"})]
            )
            await trio.sleep(600)
            assert (place.owed(), kept(place)) == ([], (0, 0, 0))

    async def test_one_that_never_came_to_this_hub_is_away_since_its_start(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [])
        with Store(tmp_path) as store:
            save_node(store, place, "here-when-it-was-killed")
            save_node(store, place, "drained", left_ms=1_780_000_000_000, left_reason=HUB_ENDED)
        async with place.hub() as rooms:
            await trio.sleep(30)
            rooms.triggers.replace([AWAY])
            await trio.sleep(29)
            assert place.owed() == []
            await trio.sleep(2)
            assert len(place.owed()) == 2

    async def test_a_node_that_is_in_a_state_is_so_since_that_was_told(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            come(rooms, place)
            await trio.sleep(40)
            rooms.triggers.replace([replace(AWAY, when={"to": "online"}, text="{nodeId} {to}")])
            await trio.sleep(19)
            assert place.owed() == []
            await trio.sleep(2)
            assert place.owed() == ["attic online"]

    async def test_a_task_that_is_in_a_state(self, tmp_path: Path, autojump_clock: Any) -> None:
        stuck = trigger("stuck", on="task.status", when={"state": "running"}, for_s=60, text="{taskId}")
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            write_task(rooms, task(created_ms=int(place.clock() * 1000)))
            await trio.sleep(40)
            rooms.triggers.replace([stuck])
            await trio.sleep(19)
            assert place.owed() == []
            await trio.sleep(2)
            assert place.owed() == ["t1"]

    async def test_there_is_room_for_so_many(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.triggers.holds.MOST_HELD", 1)
        place = Place(tmp_path, [])
        async with place.hub() as rooms:
            leave(rooms, place)
            leave(rooms, place, "cellar")
            rooms.triggers.replace([AWAY])
            [shown] = rooms.triggers.listed()
            assert (shown["held"], shown["leftOut"]) == (1, 1)


async def test_real_nodes_stand_as_was_told_last(tmp_path: Path, autojump_clock: Any) -> None:
    async with watched(tmp_path) as world:
        registry = world.hub.nodes.registry
        async with joined(world) as node:
            world.hub.triggers.replace([AWAY])
            assert world.hub.triggers.listed()[0]["held"] == 0
            await node.tell(Heartbeat(status="busy"))
            await trio.testing.wait_all_tasks_blocked()
            [(_, status, told_ms)] = registry.told()
            assert (status, told_ms is not None) == ("busy", True)
            world.hub.triggers.replace([replace(AWAY, when={"to": "busy"})])
            assert world.hub.triggers.listed()[0]["held"] == 1
            world.hub.triggers.replace([])
        await trio.testing.wait_all_tasks_blocked()
        world.hub.triggers.replace([AWAY])
        assert world.hub.triggers.listed()[0]["held"] == 1
        await trio.sleep(61)
        [(_, _, message)] = told(world)
        assert message.startswith("attic: ")
        assert "started anew" not in message


async def test_one_that_is_being_let_in_does_not_stand_yet(tmp_path: Path, autojump_clock: Any) -> None:
    async with watched(tmp_path) as world, joined(world):
        [node] = world.hub.nodes.registry
        node.is_ready = False
        assert list(world.hub.nodes.registry.told()) == []
        node.is_ready = True
        assert len(list(world.hub.nodes.registry.told())) == 1


class TestOneThatIsChanged:
    @pytest.mark.parametrize(
        "change", [{"text": "new"}, {"do": "alert", "text": "new"}, {"max_per_hour": 5, "text": "new"}]
    )
    async def test_in_what_it_does_goes_on(self, tmp_path: Path, autojump_clock: Any, change: Any) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(40)
            rooms.triggers.replace([replace(AWAY, **change)])
            await trio.sleep(19)
            assert place.owed() == []
            await trio.sleep(2)
            assert place.owed() == ["new"]
            rooms.triggers.replace([replace(AWAY, text="newer")])
            await trio.sleep(600)
            assert place.owed() == ["new"], "it was told, and nothing else happened"

    @pytest.mark.parametrize(("for_s", "after_s"), [(120, 80), (50, 10), (30, 0)])
    async def test_in_how_long_counts_since_it_began(
        self, tmp_path: Path, autojump_clock: Any, for_s: float, after_s: float
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(40)
            rooms.triggers.replace([replace(AWAY, for_s=for_s)])
            await trio.sleep(max(after_s - 1, 0))
            await trio.testing.wait_all_tasks_blocked()
            assert place.owed() == ([] if after_s else [GONE])
            await trio.sleep(2)
            assert place.owed() == [GONE]

    async def test_in_what_it_waits_for_begins_with_what_is_so(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            leave(rooms, place, "cellar")
            await trio.sleep(40)
            rooms.triggers.replace([replace(AWAY, when={"to": "offline", "nodeId": "cellar"})])
            assert held(place) == [("away", "cellar", False)]
            await trio.sleep(21)
            assert place.owed() == ["cellar: the node has gone"]
            rooms.triggers.replace([replace(AWAY, for_s=0)])
            await trio.sleep(600)
            assert (len(place.owed()), held(place)) == (1, [])

    async def test_one_that_is_removed_holds_nothing(self, tmp_path: Path, autojump_clock: Any) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(40)
            rooms.triggers.replace([])
            await trio.sleep(600)
            assert (place.owed(), held(place)) == ([], [])

    async def test_only_in_its_name_it_goes_on_and_has_told_what_it_has_told(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        other = replace(AWAY, name="other")
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(61)
            leave(rooms, place, "cellar")
            await trio.sleep(40)
            rooms.triggers.replace([other])
            assert held(place) == [("other", "attic", True), ("other", "cellar", False)]
            await trio.sleep(19)
            assert place.owed() == [GONE]
            await trio.sleep(600)
        place.triggers = [other]
        async with place.hub() as rooms:
            await trio.sleep(600)
        assert sorted(place.owed()) == [GONE, "cellar: the node has gone"]

    async def test_one_takes_the_name_of_another(self, tmp_path: Path, autojump_clock: Any) -> None:
        """What the name stood for before is gone, on disk too."""
        other = replace(AWAY, name="other", when={"to": ["offline", "busy"]})
        place = Place(tmp_path, [AWAY, other])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(61)
            assert len(place.owed()) == 2
            rooms.triggers.replace([replace(AWAY, name="other")])
            await trio.sleep(600)
            assert (len(place.owed()), held(place)) == (2, [("other", "attic", True)])

    async def test_a_hub_that_is_cut_before_each_step(self, tmp_path: Path, autojump_clock: Any) -> None:
        places: list[Place] = []

        async def scenario() -> None:
            place = Place(tmp_path / str(len(places)), [])
            place.state.mkdir()
            places.append(place)
            with Store(place.state) as store:
                save_node(store, place, left_ms=now_ms(place) - 80_000, left_reason="the node has gone")
            async with place.hub() as rooms:
                await trio.sleep(1)
                rooms.triggers.replace([AWAY])
                await trio.sleep(1)

        async def ended(_is_whole: bool) -> None:
            place = places[-1]
            place.triggers = [AWAY]
            for _ in range(2):
                async with place.hub():
                    await trio.sleep(100)
            assert place.owed() == [GONE]

        assert await kill_at_every_step(scenario, ended) > 3
