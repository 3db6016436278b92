"""What triggers wait for, and what they have still to hear, when the hub ends at any moment and starts again."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import trio
import trio.testing

from apexbridge_trio.nodes import HUB_ENDED, task_entry
from apexbridge_trio.notices import Notices
from apexbridge_trio.store import FILE, NodeRecord, NodeRows, NodeTaskRecord, Store, Tasks, WatchRows, row_of
from apexbridge_trio.triggers.firings import Firings
from apexbridge_trio.triggers.hearing import MOST_HEARD
from apexbridge_trio.triggers.lasting import COME_BACK_S
from apexbridge_trio.triggers.webhook import Answer
from tests.harness.kill import kill_at_every_step
from tests.triggers.place import ANNE, Place, Rooms
from tests.triggers.test_crashes import UNKNOWN
from tests.triggers.test_triggers import trigger

AWAY = trigger("away", on="node.status", when={"to": "offline"}, for_s=60, text="{nodeId}: {reason}")
GONE = "attic: the node has gone"


def now_ms(place: Place) -> int:
    return int(place.clock() * 1000)


def save_node(store: Store, place: Place, node: str = "attic", **fields: Any) -> None:
    record = NodeRecord(
        id=node,
        tenant_id="default",
        family_id=None,
        principal_id="anne",
        name=node,
        type="worker",
        version="1",
        capabilities="[]",
        tools="[]",
        instance_id=None,
        first_seen_ms=now_ms(place) - 90_000,
        **{"last_seen_ms": now_ms(place) - 90_000, **fields},
    )
    NodeRows(store).save_node(record)


def leave(rooms: Rooms, place: Place, node: str = "attic", reason: str = "the node has gone") -> None:
    """Have a node leave, as the nodes' room writes and tells it."""
    place.here.pop(node, None)
    rooms.journal.post(
        lambda: save_node(rooms.written, place, node, left_ms=now_ms(place), left_reason=reason)
    )
    said = {"nodeId": node, "from": "online", "to": "offline", "reason": reason}
    rooms.events.publish("node.status", ANNE, said)


def come(rooms: Rooms, place: Place, node: str = "attic") -> None:
    """Have a node come back."""
    place.here[node] = ("online", now_ms(place))
    rooms.journal.post(lambda: save_node(rooms.written, place, node, last_seen_ms=now_ms(place)))
    said = {"nodeId": node, "from": "offline", "to": "online", "reason": "it has registered"}
    rooms.events.publish("node.status", ANNE, said)


def task(state: str = "running", **fields: Any) -> NodeTaskRecord:
    made: dict[str, Any] = {"id": "t1", "tool": "echo", "args": b"{}", "timeout_ms": 1, "deadline_ms": 1}
    made |= {"created_ms": 1, "principal_id": "anne", "tenant_id": "default", "state": state}
    return NodeTaskRecord(**made | fields)


def write_task(rooms: Rooms, record: NodeTaskRecord) -> None:
    """Have a task written and then told, as the nodes' room does."""
    row = row_of(record)
    rooms.write(lambda store: NodeRows(store).add_task(row), "task.status", ANNE, task_entry(record))


def kept(place: Place) -> tuple[int, int, int]:
    """How much is on disk: holds, triggers that are off, what was not heard."""
    with Store(place.state) as store:
        rows = WatchRows(store)
        return len(rows.holds()), len(rows.off()), len(rows.unheard())


class TestWhatLasts:
    async def test_a_node_that_is_away_is_told_a_minute_after_it_left(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(30)
        await trio.sleep(10)
        async with place.hub() as rooms:
            await trio.sleep(19)
            assert (place.owed(), rooms.triggers.listed()[0]["held"]) == ([], 1)
            await trio.sleep(2)
            assert place.owed() == [GONE]

    async def test_it_is_told_once_over_all_hubs(self, tmp_path: Path, autojump_clock: Any) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(61)
        for _ in range(3):
            async with place.hub() as rooms:
                await trio.sleep(600)
        assert (place.owed(), kept(place)) == ([GONE], (1, 0, 0))
        async with place.hub() as rooms:
            come(rooms, place)
            await trio.sleep(100)
            assert kept(place) == (0, 0, 0)
            leave(rooms, place)
        async with place.hub() as rooms:
            await trio.sleep(61)
        assert place.owed() == [GONE] * 2

    async def test_one_that_comes_back_to_the_next_hub_is_not_told(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(30)
        await trio.sleep(3600)
        async with place.hub() as rooms:
            await trio.sleep(COME_BACK_S - 1)
            come(rooms, place)
            await trio.sleep(600)
        assert (place.owed(), kept(place)) == ([], (0, 0, 0))
        async with place.hub() as rooms:
            leave(rooms, place)
        await trio.sleep(3600)
        async with place.hub() as rooms:
            await trio.sleep(COME_BACK_S + 1)
            assert place.owed() == [GONE], "it had a moment"

    @pytest.mark.parametrize("is_drained", [True, False])
    async def test_one_that_was_here_when_the_hub_ended_is_away_since_the_start(
        self, tmp_path: Path, autojump_clock: Any, is_drained: bool
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            leave(rooms, place)
            await trio.sleep(100)
            come(rooms, place)
            await trio.sleep(100)
            if is_drained:
                leave(rooms, place, reason=HUB_ENDED)
        await trio.sleep(3600)
        async with place.hub() as rooms:
            await trio.sleep(59)
            assert place.owed() == [GONE]
            await trio.sleep(2)
            assert place.owed() == [GONE, "attic: the hub was started anew"]

    async def test_one_of_which_only_the_leaving_is_on_disk_begins_when_it_left(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        """The hub was killed in between, or had no such trigger."""
        place = Place(tmp_path, [AWAY])
        with Store(tmp_path) as store:
            save_node(store, place, left_ms=now_ms(place) - 20_000, left_reason="the node has gone")
        async with place.hub():
            await trio.sleep(39)
            assert place.owed() == []
            await trio.sleep(2)
            assert place.owed() == [GONE]

    async def test_what_a_clock_that_was_wrong_has_noted_lasts_no_longer_than_it_has_to(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        for seconds in (-1_700_000_000.0, 1_700_000_000.0):
            place = Place(tmp_path / str(seconds), [AWAY])
            place.state.mkdir()
            async with place.hub() as rooms:
                leave(rooms, place)
            place.clock.put(seconds)
            async with place.hub() as rooms:
                await trio.sleep(COME_BACK_S - 1)
                assert place.owed() == []
                await trio.sleep(60)
                assert place.owed() == [GONE]

    async def test_a_trigger_that_was_changed_or_is_gone_holds_nothing_any_more(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        busy = trigger("busy", on="node.status", when={"to": "busy"}, for_s=60)
        place = Place(tmp_path, [AWAY, busy, msgspec.structs.replace(AWAY, name="other", tenant="other")])
        async with place.hub() as rooms:
            leave(rooms, place)
            said = {"nodeId": "attic", "from": "online", "to": "busy", "reason": "it says so"}
            rooms.events.publish("node.status", ANNE, said)
            leave(rooms, place, "cellar")
            assert kept(place)[0] == 2, "attic is busy, the cellar away"
        place.triggers = [busy]
        async with place.hub() as rooms:
            await trio.sleep(600)
        assert (place.owed(), kept(place)) == ([], (0, 0, 0)), "nobody who is away is busy"

    async def test_how_a_node_came_to_be_away_is_not_asked_at_a_start(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [msgspec.structs.replace(AWAY, when={"to": "offline", "from": "busy"})])
        async with place.hub() as rooms:
            rooms.journal.post(
                lambda: save_node(
                    rooms.written, place, left_ms=now_ms(place), left_reason="the node has gone"
                )
            )
            said = {"nodeId": "attic", "from": "busy", "to": "offline", "reason": "x"}
            rooms.events.publish("node.status", ANNE, said)
        async with place.hub():
            await trio.sleep(61)
        assert place.owed() == [GONE]

    async def test_a_task_that_is_in_one_state_for_long(self, tmp_path: Path, autojump_clock: Any) -> None:
        stuck = trigger("stuck", on="task.status", when={"state": "running"}, for_s=60, text="{taskId}")
        place = Place(tmp_path, [stuck])
        async with place.hub() as rooms:
            for name in ("t1", "t2", "t3"):
                write_task(rooms, task(id=name))
            await trio.sleep(30)
        with Store(tmp_path) as store:
            NodeRows(store).add_task(row_of(task("lost", id="t2", ended_ms=now_ms(place))))
            NodeRows(store).delete_task("t3")
        async with place.hub() as rooms:
            await trio.sleep(31)
            assert place.owed() == ["t1"]
            write_task(rooms, task("succeeded", ended_ms=now_ms(place)))
            assert kept(place)[0] == 0

    async def test_a_task_that_has_ended_leaves_no_mark(self, tmp_path: Path, autojump_clock: Any) -> None:
        lost = trigger("lost", on="task.status", when={"state": "lost"}, for_s=60, text="{taskId}")
        place = Place(tmp_path, [lost])
        async with place.hub() as rooms:
            write_task(rooms, task("lost", ended_ms=now_ms(place)))
            await trio.sleep(30)
        for _ in range(2):
            async with place.hub():
                await trio.sleep(31)
            assert (place.owed(), kept(place)) == (["t1"], (0, 0, 0))

    async def test_a_hub_that_is_cut_before_each_step(self, tmp_path: Path, autojump_clock: Any) -> None:
        places: list[Place] = []
        left = False

        async def scenario() -> None:
            nonlocal left
            left = False
            place = Place(tmp_path / str(len(places)), [AWAY])
            place.state.mkdir()
            places.append(place)
            async with place.hub() as rooms:
                await trio.sleep(1)
                leave(rooms, place)
                left = True
                await trio.sleep(70)

        async def ended(_is_whole: bool) -> None:
            for _ in range(2):
                async with places[-1].hub():
                    await trio.sleep(100)
            assert places[-1].owed() == [GONE] * left

        assert await kill_at_every_step(scenario, ended) > 3


class Copied(Store):
    """A store of which a copy is kept after each transaction: what a hub leaves that is killed before the next."""

    place: ClassVar[Place]
    copies: ClassVar[list[Path]] = []
    # What had happened outside of the disk when the transaction after the copy began.
    ran: ClassVar[list[list[str]]] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        is_outermost = not self.is_in_transaction
        if is_outermost and Copied.copies:
            Copied.ran[-1] = [*Copied.place.actions.ran, *Copied.place.webhooks.took]
        with super().transaction():
            yield
        if is_outermost:
            copy = Copied.place.state.parent / f"copy{len(Copied.copies)}"
            copy.mkdir()
            for file in (FILE, f"{FILE}-wal"):
                shutil.copy(Copied.place.state / file, copy / file)
            Copied.copies.append(copy)
            Copied.ran.append([*Copied.place.actions.ran, *Copied.place.webhooks.took])


class TestWhatIsOnDisk:
    lost: ClassVar[dict[str, Any]] = {"on": "task.status", "when": {"state": "lost"}}
    triggers: ClassVar[list[Any]] = [
        trigger("say", **lost, text="{taskId} is lost"),
        trigger("act", **lost, do="tool", tool="lamp"),
        trigger("hook", **lost, do="webhook", url="https://hooks.test/"),
        trigger("note", on="alert", text="heard: {message}"),
        trigger("late", **lost, for_s=60, text="{taskId} is lost for a minute"),
    ]

    async def test_a_hub_that_is_killed_after_each_transaction(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Copied, "copies", [])
        monkeypatch.setattr(Copied, "ran", [])
        monkeypatch.setattr(
            Copied, "place", Place(tmp_path / "home", self.triggers, store_type=Copied), raising=False
        )
        Copied.place.state.mkdir()
        async with Copied.place.hub() as rooms:
            rooms.notices.owe("alert", ANNE, "fire!")
            write_task(rooms, task("lost", ended_ms=now_ms(Copied.place)))
            await trio.sleep(100)
        seen = set()
        for copy, ran in zip(Copied.copies, Copied.ran, strict=True):
            seen.add(await self.end_of(copy, ran))
        assert seen == {(False, False), (True, False), (True, True)}
        assert len(Copied.copies) > 8

    async def end_of(self, state: Path, before: list[str]) -> tuple[bool, bool]:
        """Begin the next hub on what the first has left; returns whether the alert and the task were there."""
        place = Place(state, self.triggers)
        is_alert = "fire!" in place.owed()
        with Store(state) as store:
            is_lost = NodeRows(store).task("t1") is not None
        for _ in range(2):
            async with place.hub():
                await trio.sleep(100)
        told = place.owed()
        ran = [*before, *place.actions.ran, *place.webhooks.took]
        acted = [one for one in told if one in {"done", UNKNOWN}]
        assert told.count("heard: fire!") == is_alert
        assert told.count("t1 is lost") == told.count("t1 is lost for a minute") == len(acted) == is_lost
        # The tool at most once, and told if it is not known; the webhook by one id, however often.
        assert len(set(ran)) == 2 * is_lost or (acted == [UNKNOWN] and len(set(ran)) == 1)
        assert len(place.actions.ran) + sum(one in before for one in Copied.place.actions.ran) <= 1
        assert (place.rows(), kept(place)) == (0, (0, 0, 0))
        return is_alert, is_lost

    async def test_without_a_trigger_that_waits_for_it_nothing_is_kept(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [AWAY])
        async with place.hub() as rooms:
            for number in range(3):
                rooms.notices.owe("alert", ANNE, "x")
                write_task(rooms, task("lost", id=f"t{number}", ended_ms=1))
            assert kept(place) == (0, 0, 0)
            rooms.triggers.replace([trigger("note", on="alert", when={"level": "error"})])
            for _ in range(MOST_HEARD - 1):
                rooms.notices.owe("alert", ANNE, "x")
            assert kept(place) == (0, 0, MOST_HEARD - 1), "noted together, as nothing comes of them"
            rooms.notices.owe("alert", ANNE, "x")
            assert kept(place) == (0, 0, 0)
            rooms.notices.owe("alert", ANNE, "x")
            rooms.triggers.replace([])
            assert kept(place) == (0, 0, 0)

    async def test_what_was_told_before_there_was_a_trigger_is_not_heard(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [trigger("note", on="alert", when={"level": "error"})])
        async with place.hub() as rooms:
            rooms.notices.owe("alert", ANNE, "x")
        place.triggers = [trigger("note", on="alert", text="heard")]
        async with place.hub() as rooms:
            await trio.sleep(1)
        assert place.owed() == ["x"]

    async def test_what_is_heard_while_the_hub_starts_is_heard_once(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An earlier hub's task may be ended, and told, in the transaction in which the start reads."""

        async def recover(firings: Firings) -> None:
            notices: Notices = firings._notified.__self__  # type: ignore[attr-defined]
            notices.owe("alert", ANNE, "fire!")
            await trio.lowlevel.checkpoint()

        def unheard(rows: WatchRows) -> list[tuple[str, str]]:
            return [("notice", one.id) for one in Tasks(rows._store).notices() if one.kind == "alert"]

        monkeypatch.setattr(Firings, "recover", recover)
        monkeypatch.setattr(WatchRows, "unheard", unheard)
        place = Place(tmp_path, [trigger("note", on="alert", text="heard")])
        async with place.hub():
            await trio.sleep(1)
        assert sorted(place.owed()) == ["fire!", "heard"]

    async def test_a_notice_that_was_taken_back_is_not_heard(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [trigger("note", on="notification", when={"state": "due"})])
        async with place.hub() as rooms:
            notice_id, _ = rooms.notices.owe("notification", ANNE, "x")
            rooms.written.execute("DELETE FROM notices WHERE id = ?", (notice_id,))
            assert kept(place)[2] == 0


def held_410(place: Place) -> tuple[trio.Event, trio.Event]:
    """Have a webhook answered with 410; returns what is set when it is asked, and what lets it answer."""
    asked, answer = trio.Event(), trio.Event()

    async def send(*_: Any) -> Answer:
        asked.set()
        await answer.wait()
        return Answer("gone", "hooks.test answered 410")

    place.webhooks.send = send  # type: ignore[method-assign,assignment]
    return asked, answer


class TestWhoWantsNoMore:
    hook = trigger("hook", on="task.status", when={"state": "lost"}, do="webhook", url="https://hooks.test/")

    async def gone(self, place: Place) -> None:
        async def send(*_: Any) -> Answer:
            await trio.lowlevel.checkpoint()
            return Answer("gone", "hooks.test answered 410")

        place.webhooks.send = send  # type: ignore[method-assign,assignment]
        async with place.hub() as rooms:
            rooms.lose("t1")
            await trio.sleep(1)
            assert rooms.triggers.listed()[0]["state"] == "disabled"
        del place.webhooks.send

    async def test_it_is_left_alone_by_the_next_hub_too(self, tmp_path: Path, autojump_clock: Any) -> None:
        place = Place(tmp_path, [self.hook])
        await self.gone(place)
        for _ in range(2):
            async with place.hub() as rooms:
                rooms.lose("t2")
                await trio.sleep(100)
                [shown] = rooms.triggers.listed()
                assert (shown["state"], shown["leftOut"], place.webhooks.sent) == ("disabled", 1, [])
                assert shown["reason"] == "hooks.test answered 410: it wants no more webhooks"
                assert b"whsec" not in (tmp_path / FILE).read_bytes()

    async def test_tried_out_it_is_on_again(self, tmp_path: Path, autojump_clock: Any) -> None:
        place = Place(tmp_path, [self.hook])
        await self.gone(place)
        async with place.hub() as rooms:
            rooms.triggers.try_out("hook")
            await trio.sleep(1)
            assert (len(place.webhooks.took), rooms.triggers.listed()[0]["state"]) == (1, "armed")
        async with place.hub() as rooms:
            assert (rooms.triggers.listed()[0]["state"], kept(place)) == ("armed", (0, 0, 0))

    @pytest.mark.parametrize("is_running", [True, False])
    async def test_changed_it_is_on_again(
        self, tmp_path: Path, autojump_clock: Any, is_running: bool
    ) -> None:
        place = Place(tmp_path, [self.hook])
        await self.gone(place)
        other = [msgspec.structs.replace(self.hook, url="https://hooks.test/new")]
        if is_running:
            async with place.hub() as rooms:
                rooms.triggers.replace(other)
                assert rooms.triggers.listed()[0]["state"] == "armed"
        else:
            place.triggers = other
            async with place.hub() as rooms:
                assert rooms.triggers.listed()[0]["state"] == "armed"
        place.triggers = [self.hook]
        async with place.hub() as rooms:
            assert (rooms.triggers.listed()[0]["state"], kept(place)[1]) == ("armed", 0)

    async def test_a_config_that_is_read_while_it_answers(self, tmp_path: Path, autojump_clock: Any) -> None:
        """What runs was begun by an earlier reading of the config; what becomes of it counts all the same."""
        place = Place(tmp_path, [self.hook])
        asked, answer = held_410(place)
        async with place.hub() as rooms:
            rooms.lose("t1")
            await asked.wait()
            rooms.triggers.replace([msgspec.structs.replace(self.hook), AWAY])
            answer.set()
            await trio.sleep(1)
            shown = rooms.triggers.listed()[0]
            assert (shown["state"], shown["failed"], kept(place)[1]) == ("disabled", 1, 1)

    async def test_a_trigger_that_is_changed_while_it_answers_stays_on(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        place = Place(tmp_path, [self.hook])
        asked, answer = held_410(place)
        async with place.hub() as rooms:
            rooms.lose("t1")
            await asked.wait()
            rooms.triggers.replace([msgspec.structs.replace(self.hook, url="https://hooks.test/new")])
            answer.set()
            await trio.sleep(1)
            assert (rooms.triggers.listed()[0]["state"], kept(place)[1]) == ("armed", 0)
        assert place.owed() == [
            "hooks.test answered 410: it wants no more webhooks. The trigger was changed since, and stays on."
        ]
