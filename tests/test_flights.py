"""The live tree: interrupts with receipts, deadlines, tenants."""

import pytest
import trio
from msgspec.structs import replace

from apexbridge_trio.errors import DeadlinePassed, Draining, Interrupted, NotFound, RequestIdTaken
from apexbridge_trio.flights import REMEMBERED_RECEIPTS, Flights, tree_entry
from apexbridge_trio.identity import Principal
from tests.harness.kill import kill_at_every_step

ANNE = Principal(id="anne", tenant_id="a", scopes=frozenset({"chat"}))
BOB = Principal(id="bob", tenant_id="b", scopes=frozenset({"chat"}))
ROOT = Principal(id="root", scopes=frozenset({"admin"}))


async def fly(
    flights, request_id="req_1", owner=ANNE, *, task_status=trio.TASK_STATUS_IGNORED, work=trio.sleep_forever
):
    """Run a flight with a child that works, and note how it ended."""
    try:
        with (
            flights.open(request_id, "chat", owner) as flight,
            flight.child("round1/llm", "upstream") as child,
        ):
            task_status.started(child)
            await work()
    except (Interrupted, DeadlinePassed) as fault:
        return fault


async def test_an_interrupt_answers_when_all_is_gone(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:

        async def slow_to_go():
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.25)

        await nursery.start(lambda **kw: fly(flights, work=slow_to_go, **kw))
        receipt = await flights.interrupt("req_1", ANNE, "enough").receipt(5)
        assert receipt == {
            "success": True,
            "status": "success",
            "interrupted": True,
            "requestId": "req_1",
            "message": "Everything has stopped.",
            "state": "stopped",
            "tookMs": 250,
            "branches": [{"path": "req_1/round1/llm", "kind": "upstream", "state": "stopped", "ms": 250}],
            "notStopped": [],
        }
        assert len(flights) == 0


async def test_a_receipt_names_what_has_not_stopped(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:
        hold = trio.Event()

        async def stubborn():
            with trio.CancelScope(shield=True):
                await hold.wait()

        await nursery.start(lambda **kw: fly(flights, work=stubborn, **kw))
        stop = flights.interrupt("req_1", ANNE)
        receipt = await stop.receipt(0.5)
        assert receipt["state"] == "stopping"
        assert receipt["tookMs"] == 500
        assert receipt["notStopped"] == ["req_1", "req_1/round1/llm"]
        assert receipt["branches"][0]["state"] == "stopping"
        assert [entry["state"] for entry in map(tree_entry, flights.roots(ANNE))] == ["stopping"]
        hold.set()
        assert (await stop.receipt(5))["state"] == "stopped"


async def test_a_second_interrupt_joins_the_first_and_gets_the_same_receipt(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: fly(flights, **kw))
        first, second = flights.interrupt("req_1", ANNE), flights.interrupt("req_1", ANNE, "again")
        assert first is second
        receipt = await first.receipt(5)
        assert await flights.interrupt("req_1", ANNE).receipt(5) == receipt


async def test_one_branch_is_stopped_and_the_rest_goes_on(autojump_clock):
    flights, told = Flights(), []
    async with trio.open_nursery() as nursery:

        async def turn(task_status):
            with flights.open("req_1", "chat", ANNE) as flight:
                try:
                    with flight.child("round1/agenda", "plugin"), flight.child("x", "plugin"):
                        task_status.started()
                        await trio.sleep_forever()
                except Interrupted as fault:
                    told.append(fault.message)
                await trio.sleep(1)
            told.append("whole")

        await nursery.start(turn)
        receipt = await flights.interrupt("req_1/round1/agenda", ANNE, "not that").receipt(5)
        assert [branch["path"] for branch in receipt["branches"]] == ["req_1/round1/agenda"]
    assert told == ["Interrupted: not that", "whole"]


async def test_what_ended_by_itself_is_not_called_interrupted(autojump_clock):
    flights = Flights()
    with flights.open("req_1", "chat", ANNE):
        stop = flights.interrupt("req_1", ANNE)
    receipt = await stop.receipt(1)
    assert (receipt["interrupted"], receipt["state"]) == (False, "stopped")
    assert "own end" in receipt["message"]


async def test_a_deadline_is_another_fault_than_an_interrupt(autojump_clock):
    flights = Flights()
    with (
        pytest.raises(DeadlinePassed),
        flights.open("r", "chat", ANNE, timeout_s=2) as flight,
        flight.child("tool", "plugin", timeout_s=9) as child,
    ):
        assert child.deadline == flight.deadline == trio.current_time() + 2
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(2)
    assert len(flights) == 0


async def test_an_id_is_one_flight_per_tenant(autojump_clock):
    flights = Flights()
    with flights.open("same", "chat", ANNE), flights.open("same", "chat", BOB):
        with pytest.raises(RequestIdTaken):
            flights.open("same", "chat", ANNE)
        assert flights.find("same", ANNE).owner is ANNE
        assert flights.find("same", BOB).owner is BOB
        assert len(flights.roots(ROOT)) == 2
    with flights.open("same", "chat", ANNE) as flight:
        assert len(flights) == 1
    assert flight.state == "stopped"


async def test_families_of_one_tenant_do_not_see_each_other(autojump_clock):
    flights = Flights()
    kids, parents = replace(ANNE, family_id="kids"), replace(ANNE, family_id="parents")
    with flights.open("req_1", "chat", kids):
        with pytest.raises(NotFound):
            flights.find("req_1", parents)
        assert flights.find("req_1", ANNE).owner is kids


async def test_other_tenants_and_unknown_ids_look_the_same(autojump_clock):
    flights = Flights()
    with flights.open("req_1", "chat", ANNE) as flight, flight.child("t", "plugin"):
        for path, who in [
            ("req_1", BOB),
            ("nothing", ANNE),
            ("req_1/no", ANNE),
            ("req_1/t/x", ANNE),
            ("", ANNE),
        ]:
            with pytest.raises(NotFound, match="in flight"):
                flights.interrupt(path, who)
        assert flights.find("req_1/t", ROOT).kind == "plugin"
        assert not flight.scope.cancel_called
    with pytest.raises(NotFound):
        flights.interrupt("req_1", ANNE)


async def test_a_receipt_of_an_earlier_request_is_not_given_for_its_id(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: fly(flights, **kw))
        await flights.interrupt("req_1/round1/llm", ANNE).receipt(1)
        await nursery.start(lambda **kw: fly(flights, **kw))
        await flights.interrupt("req_1", ANNE).receipt(1)
    await fly(flights, work=trio.lowlevel.checkpoint)
    for path in ("req_1", "req_1/round1/llm"):
        with pytest.raises(NotFound):
            flights.interrupt(path, ANNE)


async def test_receipts_of_others_are_not_repeated(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: fly(flights, **kw))
        await flights.interrupt("req_1", ANNE).receipt(1)
    with pytest.raises(NotFound):
        flights.interrupt("req_1", BOB)


async def test_the_receipts_kept_are_bounded(autojump_clock):
    flights = Flights()
    for number in range(REMEMBERED_RECEIPTS + 5):
        with flights.open(f"req_{number}", "chat", ANNE):
            flights.interrupt(f"req_{number}", ANNE)
    with pytest.raises(NotFound):
        flights.interrupt("req_0", ANNE)
    assert flights.interrupt(f"req_{REMEMBERED_RECEIPTS + 4}", ANNE)


async def test_the_tree_is_told_with_all_below(autojump_clock):
    flights = Flights()
    with flights.open("req_1", "chat", ANNE, timeout_s=10) as flight:
        await trio.sleep(1)
        with flight.child("round1/agenda", "plugin") as first, flight.child("round1/agenda", "plugin"):
            first.remarks["progress"] = 0.5
            entry = tree_entry(flight)
    assert (entry["id"], entry["kind"], entry["ageMs"], entry["deadlineInMs"], entry["tenantId"]) == (
        "req_1",
        "chat",
        1000,
        9000,
        "a",
    )
    assert [child["id"] for child in entry["children"]] == ["req_1/round1/agenda", "req_1/round1/agenda~2"]
    assert entry["children"][0]["progress"] == 0.5
    with flights.open("free", "chat", ANNE) as flight:
        assert tree_entry(flight)["deadlineInMs"] is None


async def test_a_drain_refuses_waits_and_interrupts(autojump_clock):
    flights = Flights()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: fly(flights, **kw))
        await nursery.start(lambda **kw: fly(flights, "req_2", BOB, **kw))
        flights.is_draining = True
        with pytest.raises(Draining):
            flights.open("req_3", "chat", ANNE)
        with trio.move_on_after(1) as waited:
            await flights.empty()
        assert waited.cancelled_caught
        stops = flights.interrupt_all("the end")
        await flights.empty()
        assert [stop.written()["state"] for stop in stops] == ["stopped", "stopped"]
    await flights.empty()


async def test_a_fault_inside_passes_and_the_tree_is_clean(autojump_clock):
    flights = Flights()
    with (
        pytest.raises(ValueError, match="x"),
        flights.open("r", "chat", ANNE) as flight,
        flight.child("c", "plugin"),
    ):
        raise ValueError("x")
    assert len(flights) == 0


async def test_killed_at_every_step_nothing_stays_in_the_tree(autojump_clock):
    flights = Flights()

    async def scenario():
        with flights.open("req_1", "chat", ANNE) as flight:
            async with trio.open_nursery() as nursery:
                for number in range(2):
                    nursery.start_soon(branch, flight, number)

    async def branch(flight, number):
        with flight.child(f"tool{number}", "plugin") as child, child.child("deep", "process"):
            await trio.sleep(number)

    async def check(whole):
        assert len(flights) == 0

    assert await kill_at_every_step(scenario, check) >= 5


async def test_an_id_of_the_hub_that_a_client_has_taken_gives_way():
    flights = Flights()
    with flights.open("rem_1-60", "chat", ANNE):
        with flights.open_as("rem_1-60", "reminder", ANNE, prefix="rem", timeout_s=5) as flight:
            assert flight.name.startswith("rem_")
            assert flight.name != "rem_1-60"
        with flights.open_as("rem_1-60", "reminder", BOB, prefix="rem", timeout_s=5) as flight:
            assert flight.name == "rem_1-60"
