"""The clock that reminders go by: due, missed, put forward and back; and what is begun then."""

from datetime import datetime
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from apexbridge_trio.errors import BadRequest, NotFound, ToolFailed, TooMany
from apexbridge_trio.identity import Principal
from apexbridge_trio.reminders import OwnReminders, book
from apexbridge_trio.store import ReminderRows, Store
from tests.reminders.place import ANNE, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_one_fires_when_it_is_due_and_once(place, autojump_clock):
    async with place.hub() as reminders:
        said = await place.add(reminders, "tea", **{"in": 600})
        assert (said["state"], said["next"]) == ("waiting", "2026-11-22T08:10:00+01:00")
        await trio.sleep(599.9)
        assert place.events == []
        await trio.sleep(0.2)
        assert place.fired() == ["11-22 08:10:00"]
        await trio.sleep(80_000)
        assert place.fired() == ["11-22 08:10:00"]
        after = OwnReminders(reminders, ANNE).find(said["id"])
        assert (after["state"], after["fired"], after["next"]) == ("ended", 1, None)
        assert OwnReminders(reminders, ANNE).waiting() == []
    assert place.owed() == [("due", "", "tea")]
    (event,) = place.events
    assert (event["text"], event["action"], event["late"]) == ("tea", "notify", False)
    assert place.told == [event["runId"]]


async def test_a_cron_line_fires_again_and_again_by_the_home_s_clock(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "door", cron="0 22 * * *")
        await place.add(reminders, "call", cron="30 9 * * mon-fri", timezone="America/New_York")
        await trio.sleep(3 * 86400)
    assert place.fired() == [
        "11-22 22:00:00", "11-23 15:30:00", "11-23 22:00:00", "11-24 15:30:00", "11-24 22:00:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("missed", "want"), [("run_once", ["11-22 09:00:00", "11-25 09:00:00"]), ("skip", ["11-25 09:00:00"])]
)
async def test_what_was_missed_while_there_was_no_hub(place, autojump_clock, missed, want):
    async with place.hub() as reminders:
        await place.add(reminders, "pill", cron="0 9 * * *", missed=missed)
    await trio.sleep(3 * 86400 - 3600)  # three were missed
    async with place.hub():
        await trio.sleep(3 * 3600)
    assert place.fired() == want
    assert [event["late"] for event in place.events] == [True, False][-len(want) :]
    assert place.told == [event["runId"] for event in place.events]


async def test_one_that_was_missed_and_is_skipped_has_ended(place, autojump_clock):
    async with place.hub() as reminders:
        said = await place.add(reminders, "tea", **{"in": 60}, missed="skip")
    await trio.sleep(3600)
    async with place.hub() as reminders:
        await trio.sleep(60)
        assert OwnReminders(reminders, ANNE).find(said["id"])["state"] == "ended"
    assert place.events == []


async def test_a_clock_that_is_put_forward_is_seen_within_a_minute(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "door", cron="0 22 * * *")
        place.clock.put(14 * 3600)
        await trio.sleep(60.1)
    assert place.fired() == ["11-22 22:00:00"]


async def test_a_clock_that_is_put_back_fires_nothing_twice(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "door", cron="0 22 * * *")
        await trio.sleep(14 * 3600 + 30)
        assert place.fired() == ["11-22 22:00:00"]
        place.clock.put(-3600)
        await trio.sleep(7200)
        assert place.fired() == ["11-22 22:00:00"]
        await trio.sleep(86400)
    assert place.fired() == ["11-22 22:00:00", "11-23 22:00:00"]


async def test_a_clock_that_was_wrong_by_a_year_for_a_while(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "door", cron="0 22 * * *")
        place.clock.put(365 * 86400)
        await trio.sleep(120)
        assert place.fired() == ["11-22 22:00:00"]
        place.clock.put(-365 * 86400)
        await trio.sleep(2 * 86400)
    # That of today was told too early; those after it come when they should.
    assert place.fired() == ["11-22 22:00:00", "11-23 22:00:00"]


@pytest.mark.parametrize("restarts", [False, True])
async def test_days_with_a_clock_in_years_to_come_leave_no_year_without_reminders(
    place, autojump_clock, restarts
):
    async with place.hub() as reminders:
        await place.add(reminders, "pill", cron="0 22 * * *")
        place.clock.put(365 * 86400)
        await trio.sleep(3 * 86400)
        early = place.fired()
        if not restarts:
            place.clock.put(-365 * 86400)
            await trio.sleep(2 * 86400)
    if restarts:
        place.clock.put(-365 * 86400)
        async with place.hub():
            await trio.sleep(2 * 86400)
    assert place.fired()[len(early) :] == ["11-25 22:00:00", "11-26 22:00:00"]


async def test_what_a_wrong_clock_has_told_is_told_again_when_it_comes(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "bins", cron="0 7 * * 2")
        place.clock.put(3 * 86400)
        await trio.sleep(120)
        with Store(place.state) as store:
            store.execute("UPDATE notices SET acked_ms = 1")
        assert place.owed() == []
        place.clock.put(-3 * 86400)
        await trio.sleep(2 * 86400)
    assert place.fired() == ["11-24 07:00:00", "11-24 07:00:00"]
    assert len(place.owed()) == 1


async def test_nothing_wakes_while_nothing_is_to_come(place, autojump_clock):
    async with place.hub() as reminders:
        said = await place.add(reminders, "tea", **{"in": 1e6})
        await OwnReminders(reminders, ANNE).remove(said["id"])
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
    assert place.events == []


async def test_nothing_fires_while_the_hub_drains(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "tea", **{"in": 10})
        reminders._flights.is_draining = True
        await trio.sleep(1000)
    assert place.events == []
    async with place.hub():
        await trio.sleep(1)
    assert place.fired() == ["11-22 08:00:10"]


async def test_a_chat_answers_in_a_notice(place, autojump_clock):
    async with place.hub() as reminders:
        await place.add(reminders, "weather", **{"in": 10}, action={"chat": "Will it rain?"})
        await trio.sleep(20)
        assert len(reminders) == 0
    assert place.owed() == [("answered", "weather", "The answer.")]
    assert place.runs() == 0


async def test_a_tool_that_succeeds_tells_nothing_and_one_that_fails_says_why(place, autojump_clock):
    async with place.hub() as reminders:
        place.actions.ends = ""
        await place.add(
            reminders, "lights", cron="* * * * *", action={"tool": "lights", "args": {"on": True}}
        )
        await trio.sleep(90)
        assert (len(place.actions.ran), place.owed()) == (1, [])
        place.actions.ends = ToolFailed("no bulb")
        await trio.sleep(60)
        place.actions.ends = ValueError("a defect")
        await trio.sleep(60)
    assert place.owed() == [
        ("failed", "lights", "no bulb"),
        ("failed", "lights", "The hub failed; its log says how."),
    ]


async def test_one_that_still_runs_is_not_begun_again(place, autojump_clock):
    place.actions.ends = None
    async with place.hub() as reminders:
        await place.add(reminders, "long", cron="* * * * *", action={"chat": "Write a book."})
        await trio.sleep(150)
        assert len(place.actions.ran) == 1
        stop = reminders._flights.interrupt(place.actions.ran[0], ANNE, "enough")
        assert (await stop.receipt(5))["state"] == "stopped"
        await trio.sleep(60)
        assert len(place.actions.ran) == 2
    assert [state for state, _, _ in place.owed()] == ["skipped", "interrupted"]


async def test_more_than_may_run_wait_their_turn(place, autojump_clock):
    place.actions.ends = None
    async with place.hub() as reminders:
        for number in range(40):
            owner = Principal("p", f"t{number % 5}", None, frozenset({"chat"}))
            await place.add(reminders, f"{number}", owner, **{"in": 10}, action={"chat": "?"})
        await place.add(reminders, "tea", **{"in": 20})
        await trio.sleep(30)
        assert len(place.actions.ran) == 32
        assert place.events[-1]["text"] == "tea"
        place.actions.ends = "Yes."
        reminders._flights.interrupt_all("enough")
        await trio.sleep(10)
        assert len(set(place.actions.ran)) == 40
    assert len(place.owed()) == 41


async def test_actions_of_one_tenant_without_end_leave_room_for_another_s(place, autojump_clock):
    hog = Principal("hog", "hogs", None, frozenset({"chat"}))
    async with place.hub() as reminders:
        place.actions.ends = None  # they hang
        for number in range(40):
            await place.add(reminders, str(number), hog, **{"in": 10}, action={"tool": "slow"})
        await place.add(reminders, "weather", **{"in": 60}, action={"chat": "Will it rain?"})
        await trio.sleep(30)
        assert len(reminders) == 8
        await trio.sleep(40)
        assert len(reminders) == 9


async def test_an_action_that_drains_before_it_begins_is_due_again(place, autojump_clock):
    async with place.hub() as reminders:
        said = await place.add(reminders, "weather", **{"in": 10}, action={"chat": "Will it rain?"})

        def drain(*_event):
            reminders._flights.is_draining = True

        reminders.fired = drain
        await trio.sleep(100)
        assert OwnReminders(reminders, ANNE).find(said["id"])["fired"] == 0
    assert (place.actions.ran, place.owed(), place.runs()) == ([], [], 0)
    async with place.hub():
        await trio.sleep(1)
    assert place.owed() == [("answered", "weather", "The answer.")]


async def test_a_firing_whose_id_is_in_flight_already_is_made_all_the_same(place, autojump_clock):
    """Whoever is of the tenant may give a chat the id that the next firing will have."""
    async with place.hub() as reminders:
        said = await place.add(reminders, "weather", **{"in": 60}, action={"chat": "Will it rain?"})
        with place.flights.open(f"{said['id']}-{said['nextAt']}", "chat", ANNE):
            await trio.sleep(70)
        await place.add(reminders, "tea", **{"in": 60})
        await trio.sleep(70)
    assert sorted(place.owed()) == [("answered", "weather", "The answer."), ("due", "", "tea")]
    assert place.runs() == 0


async def test_only_the_newest_notices_of_one_reminder_are_kept(place, autojump_clock, monkeypatch):
    monkeypatch.setattr(book, "MOST_OWED", 3)
    async with place.hub() as reminders:
        await place.add(reminders, "often", cron="* * * * *")
        await trio.sleep(605)
    assert len(place.told) == 10
    assert len(place.owed()) == 3


async def test_only_the_newest_notices_of_one_tenant_are_kept(place, autojump_clock, monkeypatch):
    """500 reminders of every minute: what is owed is looked at by the loop that streams to others."""
    monkeypatch.setattr(book, "MOST_OWED_OF_TENANT", 5)
    async with place.hub() as reminders:
        for text in "abc":
            await place.add(reminders, text, cron="* * * * *")
        await place.add(reminders, "theirs", Principal("x", "other"), **{"in": 1})
        await trio.sleep(10 * 60)
    owed = [message for *_, message in place.owed()]
    assert len(owed) == 6
    assert owed[0] == "theirs"
    assert set(owed[-3:]) == {"a", "b", "c"}


async def test_a_tenant_has_so_many_and_the_ended_ones_make_room(place, autojump_clock, monkeypatch):
    monkeypatch.setattr(book, "MOST_KEPT", 3)
    other = Principal("bob", "next-door")
    async with place.hub() as reminders:
        for number in range(3):
            await place.add(reminders, f"{number}", **{"in": 10})
        with pytest.raises(TooMany, match="3 reminders"):
            await place.add(reminders, "one more", **{"in": 10})
        await place.add(reminders, "theirs", other, **{"in": 10})
        for _ in range(3):
            await trio.sleep(20)
            for number in range(3):
                await place.add(reminders, f"{number}", **{"in": 10})
        with Store(place.state) as store:
            assert sum(1 for _ in store.execute("SELECT 1 FROM reminders WHERE tenant_id = 'home'")) == 6


async def test_who_sees_what(place, autojump_clock):
    mother, child = replace(ANNE, family_id="mother"), replace(ANNE, family_id="child")
    admin = Principal("root", "other", None, frozenset({"admin", "chat"}))
    async with place.hub() as reminders:
        said = await place.add(reminders, "secret", mother, **{"in": 10})
        for who, sees in ((mother, 1), (ANNE, 1), (child, 0), (admin, 0)):
            own = OwnReminders(reminders, who)
            assert len(own.waiting()) == sees
            if not sees:
                with pytest.raises(NotFound):
                    own.find(said["id"])
                with pytest.raises(NotFound):
                    await own.remove(said["id"])
        await OwnReminders(reminders, ANNE).remove(said["id"])
        with pytest.raises(NotFound):
            await OwnReminders(reminders, ANNE).remove(said["id"])


async def test_a_row_that_can_not_be_fired_does_not_hold_up_the_others(place, autojump_clock, caplog):
    async with place.hub() as reminders:
        bad = await place.add(reminders, "bad", **{"in": 10})
        await place.add(reminders, "good", **{"in": 20})
        with Store(place.state) as store:
            store.execute("UPDATE reminders SET action = '{' WHERE id = ?", (bad["id"],))
        await trio.sleep(300)
    assert [event["text"] for event in place.events] == ["good"]


async def test_a_zone_that_is_gone_fires_one_last_time(place, autojump_clock):
    async with place.hub() as reminders:
        said = await place.add(reminders, "there", cron="0 9 * * *", timezone="Europe/Paris")
    with Store(place.state) as store:
        store.execute("UPDATE reminders SET timezone = 'Europe/Atlantis'")
    async with place.hub() as reminders:
        # It can still be seen, and it hides none of the others.
        [listed] = OwnReminders(reminders, ANNE).waiting()
        assert (listed["timezone"], listed["next"]) == ("Europe/Atlantis", "2026-11-22T09:00:00+01:00")
        await trio.sleep(2 * 86400)
    assert place.fired() == ["11-22 09:00:00"]
    with Store(place.state) as store:
        kept = ReminderRows(store).find(said["id"])
        assert kept is not None
        assert kept.ended_ms is not None


@pytest.mark.parametrize(
    ("wanted", "param", "match"),
    [
        ({}, "at", "one of at, in and cron"),
        ({"in": 5, "cron": "* * * * *"}, "cron", "not in and cron together"),
        ({"at": "2026-11-22T07:00"}, "at", r"is past; it is now 2026-11-22T08:00:00\+01:00"),
        ({"at": "2026-11-22T07:58:59"}, "at", "is past"),
        ({"at": "2026-11-22"}, "at", "no time of day"),
        ({"at": "tomorrow"}, "at", "ISO 8601"),
        ({"at": "9999-12-31T23:59"}, "at", "fifty years"),
        ({"at": "0001-01-01T00:00+23:59"}, "at", "past|ISO"),
        ({"at": "2026-13-01T00:00"}, "at", "ISO 8601"),
        ({"cron": "0 0 31 2 *"}, "cron", "never falls due"),
        ({"cron": "whenever"}, "cron", "five fields"),
        ({"cron": "* * * * * *"}, "cron", "five fields"),
        ({"cron": "0 9 * * *", "timezone": "Europe/Berln"}, "timezone", "Europe/Berlin"),
        ({"in": 5, "timezone": "Moon/Base"}, "timezone", "no time zone"),
        ({"in": 0}, "in", ">"),
        ({"in": -5}, "in", ">"),
        ({"in": 1e300}, "in", "<"),
        ({"in": "5"}, "in", "float"),
        ({"in": 5, "missed": "maybe"}, "missed", "enum"),
        ({"in": 5, "action": {"chat": "a", "tool": "b"}}, "action", "not chat and tool"),
        ({"in": 5, "action": {"args": {}}}, "action.args", "none is named"),
        ({"in": 5, "action": {"tool": "b", "args": {"a": "x" * 20_000}}}, "action.args", "over"),
        ({"in": 5, "action": {"shout": True}}, "action", "unknown"),
    ],
)
async def test_what_can_not_be_is_refused_in_words(place, autojump_clock, wanted, param, match):
    async with place.hub() as reminders:
        with pytest.raises(BadRequest, match=match) as refused:
            await place.add(reminders, "tea", **wanted)
        assert OwnReminders(reminders, ANNE).waiting() == []
    assert (refused.value.param or "").startswith(param)


@pytest.mark.parametrize("text", ["", "   ", "x" * 1001])
async def test_a_text_that_is_none(place, autojump_clock, text):
    async with place.hub() as reminders:
        with pytest.raises(BadRequest):
            await place.add(reminders, text, **{"in": 5})


async def test_at_is_in_its_zone_and_so_lately_past_is_now(place, autojump_clock):
    async with place.hub() as reminders:
        there = await place.add(reminders, "call", at="2026-11-22T09:00", timezone="America/New_York")
        assert there["next"] == "2026-11-22T09:00:00-05:00"
        assert (await place.add(reminders, "z", at="2026-11-22T09:00:00Z"))[
            "next"
        ] == "2026-11-22T10:00:00+01:00"
        await place.add(reminders, "now", at="2026-11-22T07:59:30")
        await trio.sleep(1)
    assert place.fired() == ["11-22 07:59:30"]


async def test_in_the_second_pass_of_a_fold_at_is_not_past(place, autojump_clock):
    place.clock.start = datetime.fromisoformat("2026-10-25T02:15:00+01:00").timestamp()
    async with place.hub() as reminders:
        said = await place.add(reminders, "tea", at="2026-10-25T02:30")
        assert said["next"] == "2026-10-25T02:30:00+01:00"
        await place.add(reminders, "now", at="2026-10-25T02:14:30")
        await trio.sleep(901)
    assert len(place.events) == 2
