"""A clock on the wall that is wrong: what it does to reminders, results and what is old."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.audit import HUB, Audit
from apexbridge_trio.clock import DOUBT_S, JUMP_S, KEEP_S, MADE, WallClock
from apexbridge_trio.composition import open_hub
from apexbridge_trio.config import Config
from apexbridge_trio.errors import ClockWrong, StorageFailed
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Keys
from apexbridge_trio.journal import Journal
from apexbridge_trio.keyring import Keyring
from apexbridge_trio.ledger import Ledger
from apexbridge_trio.openings import Openings
from apexbridge_trio.results import Results
from apexbridge_trio.store import RevisionRecord, RevisionRows, Store, Tasks
from tests.reminders.place import ANNE, START, Place

NOW = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
SOON: dict[str, Any] = {"in": 3600}
IN_TEN_MINUTES: dict[str, Any] = {"in": 600}
IN_TWO_HOURS: dict[str, Any] = {"in": 7200}


class Machine:
    """A machine: how long it is on, and what its clock says beyond that."""

    def __init__(self, wall: float, newest: float = 0.0) -> None:
        self.on, self.set_to = 1000.0, wall - 1000.0
        self.said: list[str] = []
        self.clock = WallClock(lambda: self.on + self.set_to, lambda: self.on, newest)
        self.clock.changed = self.said.append

    def later(self, seconds: float) -> str:
        self.on += seconds
        return self.clock.look()

    def put(self, wall: float) -> str:
        self.set_to = wall - self.on
        return self.clock.look()


def test_a_clock_that_is_right_says_nothing() -> None:
    machine = Machine(NOW, NOW - 86_400)
    assert [machine.later(hours * 3600) for hours in (1, 24, 2400)] == ["good"] * 3
    assert (machine.clock.fires, machine.clock.forgets, machine.said) == (True, True, [])


def test_a_new_hub_has_nothing_to_compare_with() -> None:
    assert Machine(NOW).clock.look() == "good"


def test_an_empty_battery_holds_all_until_the_clock_is_set() -> None:
    machine = Machine(5.0, NOW)
    assert machine.later(10 * 3600) == "impossible"
    assert (machine.clock.fires, machine.clock.forgets) == (False, False)
    assert "1970-01-01" in machine.said[0]
    # Set right is no jump to be doubted: it is known where it came from.
    assert machine.put(NOW + 60) == "good"
    assert (machine.clock.fires, machine.clock.forgets) == (True, True)
    assert len(machine.said) == 2


def test_a_clock_that_is_behind_is_believed_when_it_has_caught_up_or_after_an_hour() -> None:
    machine = Machine(NOW - 86_400, NOW)
    assert machine.later(60) == "behind"
    assert not machine.clock.fires
    assert machine.put(NOW) == "good"
    # What was on record may have been written by a clock that was wrong then.
    machine = Machine(NOW, NOW + 10 * 365 * 86_400)
    assert machine.later(DOUBT_S - 1) == "behind"
    assert machine.later(1) == "good"


def test_a_few_minutes_behind_are_nothing() -> None:
    assert Machine(NOW - 200, NOW).clock.look() == "good"


def test_a_jump_keeps_what_is_old_for_a_day() -> None:
    machine = Machine(NOW, NOW)
    assert machine.put(NOW + JUMP_S - 60) == "good"
    assert machine.put(NOW + 365 * 86_400) == "ahead"
    assert (machine.clock.fires, machine.clock.forgets) == (True, False)
    assert machine.later(KEEP_S - 1) == "ahead"
    assert machine.later(1) == "good"


def test_a_machine_that_slept_did_not_jump() -> None:
    """The steady clock goes on while a machine sleeps."""
    assert Machine(NOW, NOW).later(30 * 86_400) == "good"


def test_months_without_a_hub_are_doubted_for_a_day() -> None:
    machine = Machine(NOW, NOW - 200 * 86_400)
    assert machine.clock.look() == "ahead"
    assert machine.later(KEEP_S) == "good"


def test_put_back_while_it_runs_is_no_reason_to_wait() -> None:
    machine = Machine(NOW, NOW)
    machine.clock.look()
    assert machine.put(NOW - 86_400) == "good"


@pytest.mark.parametrize("wall", [-1e18, 0.0, MADE - 1, 1e18])
def test_any_time_can_be_shown(wall: float) -> None:
    machine = Machine(wall)
    machine.put(5.0)
    machine.put(wall)
    assert machine.clock.state == ("good" if wall > MADE else "impossible")


def test_the_newest_time_on_record(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.newest_ms() == 0
        ledger = Ledger(store, Results(tmp_path), now=lambda: NOW)
        ledger.open("a", plugin="suno", tool="sing", owner=ANNE, token_hash=b"a", expires_s=-1)
        ledger.sweep(1)
        assert store.newest_ms() == int(NOW * 1000)


@pytest.mark.parametrize("kind", ["audit", "revision", "task", "node task", "firing"])
def test_the_newest_time_on_record_is_of_any_table(tmp_path: Path, kind: str) -> None:
    with Store(tmp_path) as store:
        record(store, tmp_path, kind)
        assert store.newest_ms() == int(NOW * 1000)


def record(store: Store, state: Path, kind: str) -> None:
    """Have one thing on record, of now."""
    ms = int(NOW * 1000)
    if kind == "audit":
        Audit(store, store, Journal(store), now=lambda: NOW).note("config.changed", "x", HUB)
    elif kind == "revision":
        RevisionRows(store).add(RevisionRecord(1, "", ms, "start", "", "", "", "", "", ""))
    elif kind == "task":
        ledger = Ledger(store, Results(state), now=lambda: NOW)
        ledger.open("a", plugin="suno", tool="sing", owner=ANNE, token_hash=b"a", expires_s=60)
    else:
        table = kind.replace(" ", "_") + "s"
        columns = list(store.execute(f"PRAGMA table_info({table})"))
        values = {"INTEGER": 0, "TEXT": "", "BLOB": b""}
        row = [
            ms if name == "created_ms" else values[of] if needed or key else None
            for _, name, of, needed, _, key in columns
        ]
        store.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row))


def test_a_line_that_a_wrong_clock_has_dated_is_not_believed_for_ever(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        now = NOW + 10 * 365 * 86_400
        journal = Journal(store)
        audit = Audit(store, store, journal, now=lambda: now)
        rooms = Keys(store), Flights(), Openings(), audit, journal
        keyring = Keyring(*rooms, read=store, written=store, now=lambda: now)
        keyring.create(HUB, scopes=["chat"])[2].done()
        assert store.newest_ms() == int(now * 1000)
        now = NOW
        audit.note("config.changed", "x", HUB).done()
        assert store.newest_ms() == int(NOW * 1000)


async def test_an_hour_in_years_to_come_is_doubted_once_and_not_at_each_start(
    tmp_path: Path, autojump_clock: Any
) -> None:
    right, wrong = NOW, NOW + 70 * 365 * 86_400
    config, began = Config(), trio.current_time()

    def start(wall: float) -> Any:
        return open_hub(
            config, tmp_path, now=lambda: wall + trio.current_time() - began, steady=trio.current_time
        )

    with start(wrong) as hub:
        assert hub.clock.fires
        hub.notices.owe("alert", ANNE, "x")
    with start(right) as hub:
        assert hub.clock.look() == "behind"
        await trio.sleep(DOUBT_S)
        assert hub.clock.look() == "good"
    for _ in range(2):
        with start(right) as hub:
            assert hub.clock.look() == "good"
    with start(right - 86_400) as hub:
        assert hub.clock.look() == "behind", "the rest on record is believed as before"


def test_a_sweep_that_may_not_forget_ends_tasks_and_deletes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        now = NOW
        ledger = Ledger(store, Results(tmp_path), now=lambda: now)
        ledger.open("a", plugin="suno", tool="sing", owner=ANNE, token_hash=b"a", expires_s=1)
        now += 10 * 365 * 86_400
        assert [one.state for one in ledger.sweep(1, forgets=False).timed_out] == ["timed_out"]
        now += 10 * 365 * 86_400
        assert ledger.sweep(1, forgets=False).deleted == 0
        assert len(Tasks(store).notices()) == 1
        assert ledger.sweep(1).deleted == 1


async def test_a_daily_reminder_does_not_fire_for_a_day_of_1970(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Set in a right time, never fired, and the battery is empty at the next start."""
    place = Place(tmp_path)
    async with place.hub() as reminders:
        await place.add(reminders, "eggs", cron="0 8 * * *")
    place.clock.start = 0.0
    place.doubts = True
    async with place.hub() as reminders:
        await trio.sleep(30 * 3600)
        assert place.events == []
        with pytest.raises(ClockWrong):
            await place.add(reminders, "tea", **SOON)
        place.clock.put(START + 4 * 3600 - reminders.now())  # noon: eight o'clock has passed
        await trio.sleep(120)
        assert place.events == []
        await trio.sleep(20 * 3600)
        [fired] = place.events
        assert fired["dueAt"] == (START + 24 * 3600) * 1000


async def test_a_reminder_whose_time_passed_while_the_clock_was_wrong_goes_by_its_rule(
    tmp_path: Path, autojump_clock: object
) -> None:
    place = Place(tmp_path)
    async with place.hub() as reminders:
        await place.add(reminders, "once", **SOON)
        await place.add(reminders, "never", missed="skip", **SOON)
    place.clock.start = 0.0
    place.doubts = True
    async with place.hub() as reminders:
        await trio.sleep(60)
        place.clock.put(START + 7200 - reminders.now())
        await trio.sleep(120)
        assert [(event["text"], event["late"]) for event in place.events] == [("once", True)]


@pytest.mark.parametrize("hours", [-3, 3, 30, -30])
async def test_in_ten_minutes_stays_ten_minutes_when_the_clock_is_set(
    tmp_path: Path, autojump_clock: object, hours: int
) -> None:
    place = Place(tmp_path, doubts=True)
    async with place.hub() as reminders:
        began = trio.current_time()
        await place.add(reminders, "tea", missed="skip", **IN_TEN_MINUTES)
        noon = await place.add(reminders, "noon", at="2026-11-22T12:00")
        await trio.sleep(100)
        place.clock.put(hours * 3600)
        await place.add(reminders, "after", **IN_TEN_MINUTES)
        await trio.sleep(499)
        assert "tea" not in {event["text"] for event in place.events}
        await trio.sleep(2)
        assert [event["text"] for event in place.events if event["text"] != "noon"] == ["tea"]
        assert trio.current_time() - began < 602
        await trio.sleep(100)
        assert [event["text"] for event in place.events if event["text"] != "noon"] == ["tea", "after"]
        assert not any(event["late"] for event in place.events if event["text"] != "noon")
        kept = reminders.rows.find(noon["id"])
        assert kept is not None
        assert kept.at_ms == noon["nextAt"]
        assert len(reminders._spans) == 0


async def test_a_clock_that_is_set_while_the_disk_refuses_is_followed_later(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, doubts=True)
    async with place.hub() as reminders:
        await place.add(reminders, "tea", **IN_TEN_MINUTES)

        def refuse(*_: object) -> None:
            raise StorageFailed("full")

        with monkeypatch.context() as patched:
            patched.setattr(reminders._book, "shift", refuse)
            place.clock.put(-3 * 3600)
            await trio.sleep(120)
        await trio.sleep(481)
        assert [event["text"] for event in place.events] == ["tea"]


async def test_what_an_earlier_hub_was_told_comes_by_the_clock_on_the_wall(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Its clock was right; this start's is behind, and put right."""
    place = Place(tmp_path, doubts=True)
    async with place.hub() as reminders:
        await place.add(reminders, "oven", **IN_TWO_HOURS)
    place.clock.put(-5 * 3600)
    async with place.hub():
        await trio.sleep(60)
        place.clock.put(5 * 3600)
        await trio.sleep(7080)
        assert place.events == []
        await trio.sleep(120)
        assert [event["late"] for event in place.events] == [False]
