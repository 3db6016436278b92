"""Triggers in a whole hub, on the virtual clock."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from apexbridge_trio.config import Secret, Trigger
from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.identity import Principal
from tests.harness.world import World, open_world, say
from tests.triggers.place import Wall

HOME = Principal("someone", "default", None, frozenset({"chat"}))
THEM = Principal("they", "others", None, frozenset({"chat"}))


def trigger(name: str = "t", /, **fields: Any) -> Trigger:
    made = msgspec.convert({"name": name, "do": "notify", **fields}, Trigger)
    return msgspec.structs.replace(made, secret=Secret("whsec_c2VjcmV0LW9mLXRlc3Q=")) if made.url else made


@asynccontextmanager
async def watched(state: Path, *triggers: Trigger) -> AsyncIterator[World]:
    """Run a hub with these triggers."""
    async with open_world(state, now=Wall()) as world:
        world.hub.triggers.replace(triggers)
        yield world
        await trio.testing.wait_all_tasks_blocked()
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


def node(world: World, to: str, was: str = "online", name: str = "attic", owner: Principal = HOME) -> None:
    said = {"nodeId": name, "from": was, "to": to, "reason": "it left"}
    world.hub.events.publish("node.status", owner, said)


def told(world: World, reader: Principal = HOME) -> list[tuple[str, str, str]]:
    """What a tenant is owed: kind, title, message."""
    notices = world.hub.notices.pending(reader)
    return [(one.kind, one.title, json.loads(one.body)["message"]) for one in notices]


def entry(world: World, name: str = "t") -> dict[str, Any]:
    return next(one for one in world.hub.triggers.listed() if one["name"] == name)


class TestWhatFits:
    async def test_an_event_that_fits_is_told_with_its_values(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        away = trigger(
            on="node.status", when={"to": ["offline", "draining"]}, text="{nodeId}: {from} > {to}{{x}}"
        )
        async with watched(tmp_path, away) as world:
            node(world, "busy")
            node(world, "offline")
            assert told(world) == [("notification", "", "attic: online > offline{{x}}")]
            assert (entry(world)["fired"], entry(world)["state"]) == (1, "armed")

    async def test_an_alert_with_title_and_level(self, tmp_path: Path, autojump_clock: Any) -> None:
        loud = trigger(
            on="task.status", do="alert", when={"state": "lost"}, title="{toolName}", level="error"
        )
        async with watched(tmp_path, loud) as world:
            for state in ("running", "lost"):
                world.hub.events.publish(
                    "task.status", HOME, {"taskId": "t1", "toolName": "echo", "state": state}
                )
            assert told(world) == [("alert", "echo", "t: task.status")]
            [notice] = world.hub.notices.pending(HOME)
            assert (notice.level, notice.principal_id) == ("error", "trigger:1:t")

    async def test_nested_fields_numbers_and_flags(self, tmp_path: Path, autojump_clock: Any) -> None:
        wanted = {"error.code": "node_lost", "attempts": 2, "idempotent": True}
        async with watched(tmp_path, trigger(on="task.status", when=wanted)) as world:
            said = {
                "taskId": "x",
                "attempts": 2,
                "idempotent": True,
                "error": msgspec.Raw(b'{"code":"node_lost"}'),
            }
            world.hub.events.publish("task.status", HOME, said)
            world.hub.events.publish("task.status", HOME, said | {"attempts": 1})
            world.hub.events.publish("task.status", HOME, said | {"error": None})
            assert len(told(world)) == 1

    async def test_a_tenant_only_sees_its_own(self, tmp_path: Path, autojump_clock: Any) -> None:
        theirs = trigger("theirs", on="node.status", tenant="others", text="{nodeId}")
        family = trigger("family", on="node.status", tenant="others", family="f", text="{nodeId} of f")
        async with watched(tmp_path, theirs, family) as world:
            node(world, "offline", name="ours")
            node(world, "offline", name="yours", owner=THEM)
            member = Principal("m", "others", "f")
            node(world, "offline", name="hers", owner=member)
            assert told(world) == []
            assert [said for *_, said in told(world, THEM)] == ["yours", "hers", "hers of f"]
            assert [said for *_, said in told(world, member)] == ["hers of f"]


class TestWhatLasts:
    away = trigger(on="node.status", when={"to": "offline"}, for_s=60, text="{nodeId} is gone")

    async def test_it_fires_when_it_has_lasted(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with watched(tmp_path, self.away) as world:
            node(world, "offline")
            await trio.sleep(59)
            assert (told(world), entry(world)["held"]) == ([], 1)
            await trio.sleep(2)
            assert told(world) == [("notification", "", "attic is gone")]
            await trio.sleep(600)
            assert (len(told(world)), entry(world)["held"]) == (1, 0)

    async def test_coming_back_takes_it_back(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with watched(tmp_path, self.away) as world:
            node(world, "offline")
            node(world, "offline", name="cellar")
            await trio.sleep(30)
            node(world, "online", was="offline")
            await trio.sleep(600)
            assert told(world) == [("notification", "", "cellar is gone")]

    async def test_going_again_counts_anew_and_saying_it_again_does_not(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with watched(tmp_path, self.away) as world:
            node(world, "offline")
            await trio.sleep(50)
            node(world, "offline", was="draining")
            await trio.sleep(11)
            assert len(told(world)) == 1
            node(world, "online")
            node(world, "offline")
            await trio.sleep(50)
            node(world, "online")
            node(world, "offline")
            await trio.sleep(50)
            assert len(told(world)) == 1
            await trio.sleep(11)
            assert len(told(world)) == 2

    async def test_a_trigger_that_waits_for_something_else_holds_nothing_any_more_and_another_does(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        other = msgspec.structs.replace(self.away, name="other", text="other")
        async with watched(tmp_path, self.away, other) as world:
            node(world, "offline")
            world.hub.triggers.replace([msgspec.structs.replace(self.away, when={"to": "busy"}), other])
            await trio.sleep(600)
            assert told(world) == [("notification", "", "other")]
            world.hub.triggers.replace([])
            node(world, "offline")
            await trio.sleep(600)
            assert len(told(world)) == 1

    async def test_more_than_can_be_held_is_left_out(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.triggers.holds.MOST_HELD", 3)
        async with watched(tmp_path, self.away) as world:
            for number in range(5):
                node(world, "offline", name=f"n{number}")
            assert (entry(world)["held"], entry(world)["leftOut"]) == (3, 2)
            await trio.sleep(61)
            assert len(told(world)) == 3
            node(world, "offline", name="n9")
            assert (entry(world)["held"], entry(world)["leftOut"]) == (1, 2), "what has fired takes no room"

    async def test_one_that_fills_its_room_leaves_room_for_the_others(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.triggers.holds.MOST_HELD", 3)
        theirs = msgspec.structs.replace(self.away, name="theirs", tenant="others")
        async with watched(tmp_path, theirs, self.away) as world:
            for number in range(5):
                node(world, "offline", name=f"n{number}", owner=THEM)
            node(world, "offline")
            await trio.sleep(61)
            assert (len(told(world)), len(told(world, THEM))) == (1, 3)

    async def test_what_has_fired_is_not_told_again_before_it_was_otherwise(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        gone = msgspec.structs.replace(self.away, when={"to": ["offline", "draining"]})
        async with watched(tmp_path, gone) as world:
            node(world, "draining")
            await trio.sleep(61)
            node(world, "offline", was="draining")
            await trio.sleep(600)
            assert len(told(world)) == 1
            node(world, "online", was="offline")
            node(world, "offline")
            await trio.sleep(61)
            assert len(told(world)) == 2


class TestWhatIsDone:
    async def test_a_tool_is_run_in_the_tenants_name(self, tmp_path: Path, autojump_clock: Any) -> None:
        lamp = trigger(
            on="node.status",
            do="tool",
            tool="lamp",
            args={"of": "{nodeId}", "all": ["{to}!", 1]},
            timeout_s=5,
        )
        async with watched(tmp_path, lamp) as world:
            tool = world.add_tool("lamp")
            asked: list[Any] = []

            async def call(arguments: dict[str, Any], context: Any) -> Any:
                asked.append((arguments, context.flight.owner, context.flight.parent.kind))
                await trio.lowlevel.checkpoint()
                return {}

            tool.call = call  # type: ignore[method-assign]
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            [(arguments, owner, kind)] = asked
            assert arguments == {"of": "attic", "all": ["offline!", 1]}
            assert (owner.tenant_id, owner.scopes, kind) == ("default", {"chat"}, "trigger")
            assert told(world) == []
            assert world.hub.triggers.firings.rows.count() == 0

    async def test_it_can_be_seen_and_stopped(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with watched(tmp_path, trigger(on="node.status", do="tool", tool="slow")) as world:
            tool = world.add_tool("slow", hold=True)
            node(world, "offline")
            await tool.started.wait()
            [flight] = world.hub.flights.roots(HOME)
            assert (flight.kind, flight.owner.tenant_id) == ("trigger", "default")
            assert world.hub.flights.roots(THEM) == []
            receipt = await world.hub.flights.interrupt(flight.path, HOME, "enough").receipt(10)
            assert (receipt["state"], receipt["notStopped"]) == ("stopped", [])
            await trio.testing.wait_all_tasks_blocked()
            assert told(world) == [("notification", "t", "Interrupted: enough")]

    async def test_it_has_a_deadline(self, tmp_path: Path, autojump_clock: Any) -> None:
        slow = trigger(on="node.status", do="tool", tool="slow", timeout_s=7)
        async with watched(tmp_path, slow) as world:
            world.add_tool("slow", hold=True)
            node(world, "offline")
            await trio.sleep(6)
            assert len(world.hub.flights) == 1
            await trio.sleep(2)
            assert told(world) == [("notification", "t", "The deadline of the request has passed.")]
            assert entry(world)["failed"] == 1

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (ToolFailed("no bulb"), "no bulb"),
            (ValueError("a defect"), "The hub failed; its log says how."),
        ],
    )
    async def test_what_fails_is_told_and_the_hub_goes_on(
        self, tmp_path: Path, autojump_clock: Any, fault: Exception, message: str
    ) -> None:
        async with watched(tmp_path, trigger(on="node.status", do="tool", tool="lamp")) as world:
            world.add_tool("lamp", fault)
            for _ in range(2):
                node(world, "offline")
                await trio.testing.wait_all_tasks_blocked()
            assert told(world) == [("notification", "t", message)] * 2
            assert world.hub.triggers.firings.rows.count() == 0
            assert (await world.chat(say("hello", "hello"))).status == 200

    async def test_a_tool_that_is_not_there(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with watched(tmp_path, trigger(on="node.status", do="tool", tool="pong")) as world:
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            assert told(world) == [("notification", "t", "There is no tool 'pong' now; near are ping.")]

    async def test_a_chat_is_answered_and_told(self, tmp_path: Path, autojump_clock: Any) -> None:
        asked = trigger(on="plugin.failed", do="chat", prompt="{plugin} {what} {message}{code}")
        async with open_world(tmp_path, now=Wall(), chat={"default_model": "echo"}) as world:
            world.hub.triggers.replace([asked])
            said = {"plugin": "suno", "what": "down", "message": 'it "left"'}
            world.hub.events.publish("plugin.failed", HOME, said)
            await trio.testing.wait_all_tasks_blocked()
            assert told(world) == [("notification", "t", 'suno down it "left"')]

    async def test_only_so_many_at_a_time_and_the_others_wait(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        slow = trigger(on="node.status", do="tool", tool="slow", timeout_s=10)
        async with watched(tmp_path, slow) as world:
            world.add_tool("slow", hold=True)
            for number in range(10):
                node(world, "offline", name=f"n{number}")
            await trio.testing.wait_all_tasks_blocked()
            assert (len(world.hub.triggers), world.hub.triggers.firings.rows.count()) == (4, 10)
            await trio.sleep(15)
            assert (len(world.hub.triggers), world.hub.triggers.firings.rows.count()) == (4, 6)
            await trio.sleep(30)
            assert (len(world.hub.triggers), world.hub.triggers.firings.rows.count()) == (0, 0)
            assert entry(world)["failed"] == 10

    async def test_what_hangs_for_one_holds_up_no_other(self, tmp_path: Path, autojump_clock: Any) -> None:
        """A trigger whose actions hang has 4 of 16 places, and all of a tenant's have 8."""
        bad = [trigger(f"b{n}", on="node.status", do="tool", tool="slow", tenant="others") for n in range(5)]
        good = trigger("good", on="node.status", do="tool", tool="quick")
        async with watched(tmp_path, *bad, good) as world:
            world.add_tool("slow", hold=True)
            quick = world.add_tool("quick")
            for number in range(10):
                node(world, "offline", name=f"n{number}", owner=THEM)
            await trio.testing.wait_all_tasks_blocked()
            assert (len(world.hub.triggers), world.hub.triggers.firings.rows.count()) == (8, 50)
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            assert quick.started.is_set()
            assert (len(world.hub.triggers), world.hub.triggers.firings.rows.count()) == (8, 50)
            world.hub.triggers.replace([])
            for flight in world.hub.flights.roots(THEM):
                world.hub.flights.interrupt(flight.path, THEM, "enough")

    async def test_what_one_has_waiting_leaves_out_no_other(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.triggers.effects.MOST_WAITING", 6)
        bad = trigger("bad", on="node.status", do="tool", tool="slow", tenant="others", timeout_s=5)
        good = trigger("good", on="node.status", do="tool", tool="quick")
        async with watched(tmp_path, bad, good) as world:
            world.add_tool("slow", hold=True)
            quick = world.add_tool("quick")
            for number in range(10):
                node(world, "offline", name=f"n{number}", owner=THEM)
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            assert (entry(world, "bad")["leftOut"], quick.started.is_set()) == (4, True)
            await trio.sleep(20)


class TestGuards:
    async def test_a_flood_of_events(self, tmp_path: Path, autojump_clock: Any) -> None:
        many = trigger(on="node.status", text="{nodeId}", max_per_hour=5)
        async with watched(tmp_path, many) as world:
            for number in range(5000):
                node(world, "offline", name=f"n{number}")
            assert len(told(world)) == 6
            kind, title, said = told(world)[-1]
            assert (kind, title) == ("notification", "t")
            assert said.startswith("It has fired 5 times within an hour")
            assert (entry(world)["state"], entry(world)["fired"], entry(world)["leftOut"]) == (
                "muted",
                5,
                4995,
            )
            await trio.sleep(3601)
            node(world, "offline")
            assert (len(told(world)), entry(world)["state"]) == (7, "armed")

    async def test_a_loop_of_two_triggers_ends(self, tmp_path: Path, autojump_clock: Any) -> None:
        one = trigger("one", on="notification", do="alert", text="alert {trigger}")
        two = trigger("two", on="alert", do="notify", text="note {trigger}")
        async with watched(tmp_path, one, two) as world:
            world.hub.notices.owe("notification", HOME, "begin")
            assert [kind for kind, *_ in told(world)] == ["notification", "alert", "notification", "alert"]
            assert entry(world, "two")["looped"] == 1
            await trio.sleep(4000)
            assert len(told(world)) == 4

    async def test_a_loop_through_chats_ends(self, tmp_path: Path, autojump_clock: Any) -> None:
        again = trigger(on="chat.completed", do="chat", prompt="again")
        async with watched(tmp_path, again) as world:
            assert (await world.chat(say("hello", "hello"))).status == 200
            await trio.sleep(100)
            assert (entry(world)["fired"], entry(world)["looped"]) == (3, 1)

    async def test_a_trigger_on_its_own_faults_ends(self, tmp_path: Path, autojump_clock: Any) -> None:
        own = trigger(on="notification", do="tool", tool="none")
        async with watched(tmp_path, own) as world:
            world.hub.notices.owe("notification", HOME, "begin")
            await trio.sleep(100)
            assert (entry(world)["fired"], entry(world)["failed"], len(told(world))) == (3, 3, 4)

    async def test_only_the_newest_of_what_has_ended_is_owed(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What nobody takes for weeks must not fill the inbox of the tenant, or the disk."""
        monkeypatch.setattr("apexbridge_trio.triggers.firings.MOST_OWED", 3)
        own = trigger(on="node.status", do="tool", tool="none")
        theirs = trigger("u", on="node.status", do="tool", tool="none", tenant="others")
        async with watched(tmp_path, own, theirs) as world:
            node(world, "offline", owner=THEM)
            for _ in range(6):
                node(world, "offline")
                await trio.sleep(1)
            assert (entry(world)["failed"], len(told(world)), len(told(world, THEM))) == (6, 3, 1)

    async def test_muting_tells_nobody_who_would_be_muted_again(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        both = [trigger(name, on="notification", max_per_hour=2) for name in ("one", "two")]
        async with watched(tmp_path, *both) as world:
            for _ in range(10):
                world.hub.notices.owe("notification", HOME, "x")
            assert sum("within an hour" in said for *_, said in told(world)) == 2

    async def test_a_fault_of_one_trigger_reaches_neither_the_other_nor_who_publishes(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.notices.MOST_OWED", 0)
        both = [trigger(on="node.status"), trigger("tool", on="node.status", do="tool", tool="ping")]
        async with watched(tmp_path, *both) as world:
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            assert (entry(world)["failed"], entry(world, "tool")["fired"]) == (1, 1)


class TestRoom:
    async def test_what_finds_no_room_is_left_out(
        self, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.triggers.effects.MOST_WAITING", 3)
        async with watched(tmp_path, trigger(on="node.status", do="tool", tool="slow", timeout_s=5)) as world:
            world.add_tool("slow", hold=True)
            for number in range(5):
                node(world, "offline", name=f"n{number}")
            assert (entry(world)["fired"], entry(world)["leftOut"]) == (3, 2)
            await trio.sleep(6)
            node(world, "offline")
            assert entry(world)["fired"] == 4
            await trio.sleep(6)


class TestReplace:
    async def test_what_is_being_done_goes_on_and_counts_stay(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        slow = trigger(on="node.status", do="tool", tool="slow", timeout_s=10)
        async with watched(tmp_path, slow) as world:
            world.add_tool("slow", hold=True)
            node(world, "offline")
            await trio.testing.wait_all_tasks_blocked()
            world.hub.triggers.replace([msgspec.structs.replace(slow, on="alert")])
            assert (len(world.hub.flights), entry(world)["fired"]) == (1, 1)
            node(world, "offline")
            assert entry(world)["fired"] == 1
            await trio.sleep(11)
            assert len(world.hub.flights) == 0


class TestOverHttp:
    async def test_they_are_listed_and_tried_out_by_an_administrator(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        away = trigger("away", on="node.status", when={"to": ["offline"]}, for_s=60, text="{nodeId} {to}")
        async with watched(tmp_path, away) as world:
            key, other = (
                f"Authorization: Bearer {world.hub.keys.create(scopes=[scope])[0]}"
                for scope in ("admin", "chat")
            )
            [shown] = (await world.ask("GET", "/v1/triggers", None, key)).json
            assert (shown["name"], shown["fired"], shown["lastFiredAt"]) == ("away", 0, None)
            for method, path in (("GET", "/v1/triggers"), ("POST", "/v1/triggers/away/test")):
                assert (await world.ask(method, path, None)).status == 401
                assert (await world.ask(method, path, None, other)).status == 403
            tried = await world.ask("POST", "/v1/triggers/away/test", None, key)
            assert (tried.status, tried.json["data"]["to"]) == (202, "offline")
            assert told(world) == [("notification", "", "a nodeId offline")]
            assert (await world.ask("POST", "/v1/triggers/x/test", None, key)).status == 404
            (line,) = (await world.ask("GET", "/v1/audit", None, key)).json["entries"]
            assert (line["action"], line["target"], line["from"]) == ("trigger.tested", "away", "127.0.0.1")
