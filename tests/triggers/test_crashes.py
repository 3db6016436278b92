"""A hub that ends at any moment of a firing, and the next one on the same state directory."""

from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from apexbridge_trio.store import Store
from apexbridge_trio.triggers.firings import LOOK_S, MOST_OF_TRIGGER
from tests.harness.kill import kill_at_every_step
from tests.triggers.place import ANNE, Place
from tests.triggers.test_triggers import trigger

LOST = {"on": "task.status", "when": {"state": "lost"}}
ALL = [
    trigger("say", **LOST, do="alert", text="{taskId} is lost"),
    trigger("act", **LOST, do="tool", tool="lamp"),
    trigger("ask", **LOST, do="chat", prompt="what now?"),
    trigger("hook", **LOST, do="webhook", url="https://hooks.test/"),
]
UNKNOWN = "The hub ended while this ran; it may have run, in part or as a whole, and is not run again."


async def test_a_webhook_that_was_not_taken_is_sent_by_the_next_hub_with_the_same_id(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(10)
    assert (len(place.webhooks.sent), place.rows()) == (2, 1)
    place.webhooks.is_up = True
    async with place.hub():
        await trio.sleep(100)
    assert len(place.webhooks.took) == 1
    assert set(place.webhooks.sent) == set(place.webhooks.took)
    assert (place.rows(), place.owed()) == (0, [])


async def test_an_attempt_whose_id_is_in_flight_already_is_made_all_the_same(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """The id of a webhook is in the live tree from its first attempt on; a chat may be given any id."""
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
        place.webhooks.is_up = True
        with rooms.flights.open(place.webhooks.sent[0], "chat", ANNE):
            await trio.sleep(10)
    assert (len(place.webhooks.took), place.rows(), place.owed()) == (1, 0, [])


async def test_a_clock_that_is_put_back_does_not_hold_up_a_webhook(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """As when a machine boots with a wrong clock and no network, and then the network tells the time."""
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
        place.clock.put(-86_400)
        await trio.sleep(70)
        # It is sent at once, and then again at its usual pace: not without a pause.
        assert len(place.webhooks.sent) in {2, 3}
        place.webhooks.is_up = True
        await trio.sleep(400)
    assert (len(place.webhooks.took), place.rows()) == (1, 0)


async def test_what_a_tenant_had_coming_is_not_sent_by_the_trigger_of_another(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
        place.webhooks.is_up = True
        rooms.triggers.replace([trigger("hook", **LOST, do="webhook", url="https://x.test/", tenant="other")])
        await trio.sleep(10)
    assert (place.webhooks.took, place.rows()) == ([], 0)
    assert place.owed() == ["It was taken out of the config before this was done."]


async def test_what_ran_when_the_hub_was_gone_is_told_and_not_run_again(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path, ALL[1:3])
    place.actions.holds = True
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
    assert (len(place.actions.ran), place.rows()) == (2, 2)
    for _ in range(2):
        async with place.hub():
            await trio.sleep(100)
        assert (len(place.actions.ran), place.rows(), place.owed()) == (2, 0, [UNKNOWN] * 2)


async def test_what_had_not_begun_is_done_by_the_next_hub(tmp_path: Path, autojump_clock: Any) -> None:
    place = Place(tmp_path, ALL[1:2])
    place.actions.holds = True
    async with place.hub() as rooms:
        for number in range(20):
            rooms.lose(f"t{number}")
        await trio.sleep(1)
    assert (len(place.actions.ran), place.rows()) == (MOST_OF_TRIGGER, 20)
    place.actions.holds = False
    async with place.hub():
        await trio.sleep(1)
    assert (len(set(place.actions.ran)), len(place.actions.ran), place.rows()) == (20, 20, 0)


async def test_a_drain_keeps_a_webhook_and_ends_what_runs(tmp_path: Path, autojump_clock: Any) -> None:
    place = Place(tmp_path, ALL[1:])
    place.actions.holds = True
    async with place.hub() as rooms:
        rooms.flights.is_draining = True
        rooms.lose("t1")
        await trio.sleep(100)
        assert (place.actions.ran, place.webhooks.sent) == ([], []), "nothing is begun"
    assert place.rows() == 3
    place.actions.holds = False
    async with place.hub():
        await trio.sleep(1)
    assert (len(place.actions.ran), len(place.webhooks.took), place.rows()) == (2, 1, 0)


async def test_a_hub_that_is_cut_before_each_step(tmp_path: Path, autojump_clock: Any) -> None:
    places: list[Place] = []
    fired = 0

    async def scenario() -> None:
        nonlocal fired
        fired = 0
        place = Place(tmp_path / str(len(places)), ALL)
        place.state.mkdir()
        places.append(place)
        async with place.hub() as rooms:
            rooms.lose("t1")
            fired = 1
            await trio.sleep(20)

    async def ended(_is_whole: bool) -> None:
        place = places[-1]
        async with place.hub():
            await trio.sleep(100)
        assert place.rows() == 0
        assert len(place.actions.ran) == len(set(place.actions.ran)), "begun at most once"
        assert len(set(place.webhooks.took)) == fired, "taken at least once, by its id exactly once"
        told = place.owed()
        assert told.count("t1 is lost") == fired
        assert told.count("done") + told.count(UNKNOWN) == 1 + fired if fired else not told
        assert len(told) <= 3

    assert await kill_at_every_step(scenario, ended) > 5


class Broken(Store):
    """A store whose `fails_at`th write from now raises, and all after it: the hub is gone."""

    fails_at = 10**9

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        if not sql.lstrip().startswith(("SELECT", "PRAGMA")):
            Broken.fails_at -= 1
        if Broken.fails_at < 0:
            raise apsw.IOError("the disk is gone")
        return super().execute(sql, values)


@pytest.mark.parametrize("fails_at", range(12))
async def test_a_disk_that_is_gone_before_each_write(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    place = Place(tmp_path, ALL[1:], store_type=Broken)
    monkeypatch.setattr(Broken, "fails_at", 10**9)
    async with place.hub() as rooms:
        Broken.fails_at = fails_at
        rooms.lose("t1")
        await trio.sleep(20)
    Broken.fails_at = 10**9
    async with place.hub():
        await trio.sleep(100)
    assert place.rows() == 0
    assert len(place.actions.ran) == len(set(place.actions.ran))
    assert len(set(place.webhooks.took)) <= 1
    assert len(place.owed()) <= 2
    if fails_at >= 4:  # all three were on disk, and that they were heard
        assert (len(place.owed()), len(set(place.webhooks.took))) == (2, 1)


async def test_what_a_drain_interrupts_is_sent_by_the_next_hub_or_told(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path, [ALL[1], ALL[3]])
    place.actions.holds = place.webhooks.holds = True
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
        rooms.flights.is_draining = True
        rooms.flights.interrupt_all("the hub is about to end")
        await rooms.flights.empty()
        await trio.sleep(100)
        assert (len(place.webhooks.sent), place.rows()) == (1, 1)
    place.webhooks.holds = False
    async with place.hub():
        await trio.sleep(1)
    assert (len(place.webhooks.took), len(place.actions.ran), place.rows()) == (1, 1, 0)
    assert place.webhooks.sent == place.webhooks.took * 2
    assert place.owed() == ["Interrupted: the hub is about to end"]


async def test_what_can_not_be_written_is_counted_and_logged(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, ALL, store_type=Broken)
    monkeypatch.setattr(Broken, "fails_at", 10**9)
    async with place.hub() as rooms:
        Broken.fails_at = 0
        rooms.lose("t1")
        await trio.sleep(1)
        assert [one["failed"] for one in rooms.triggers.listed()] == [1, 1, 1, 1]
        Broken.fails_at = 10**9
        rooms.lose("t2")
        await trio.sleep(1)
    assert "t2 is lost" in place.owed()
    assert (len(place.actions.ran), len(place.webhooks.took)) == (2, 1)


async def test_a_webhook_of_a_clock_that_was_put_back_does_not_wait_for_years(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    right = place.clock.start
    place.clock.start += 5 * 365 * 86_400.0
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
        place.webhooks.is_up = True
        place.clock.start = right
        await trio.sleep(2 * LOOK_S)
    assert (len(place.webhooks.took), place.rows()) == (1, 0)


async def test_a_webhook_waits_for_a_clock_that_is_behind(tmp_path: Path, autojump_clock: Any) -> None:
    place = Place(tmp_path, ALL[-1:])
    place.webhooks.is_up = False
    async with place.hub() as rooms:
        rooms.lose("t1")
        await trio.sleep(1)
    place.webhooks.is_up = True
    place.doubts = True
    right, place.clock.start = place.clock.start, 5.0
    async with place.hub():
        await trio.sleep(7200)
        assert not place.webhooks.took, "its signature would be refused"
        place.clock.start = right
        await trio.sleep(2 * LOOK_S)
    assert (len(place.webhooks.took), place.rows()) == (1, 0)
