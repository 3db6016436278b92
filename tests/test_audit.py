"""Every change has its line, in the change's own transaction; nobody alters a line."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbridge_trio.audit import FILE, HUB, Actor, Audit, entry_of
from apexbridge_trio.errors import NotFound, StoreUnusable
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import KeyRecord, Store

ANNE = Actor.of(Principal("anne", "home", "kids"), "10.0.0.7", "req_1")


class Place:
    def __init__(self, state: Path) -> None:
        self.read, self.written = Store(state), Store(state)
        self.journal = Journal(self.written)
        self.audit = Audit(self.read, self.written, self.journal, now=lambda: 5.0)

    def lines(self) -> list[dict[str, object]]:
        said: list[dict[str, object]] = json.loads(
            encode([entry_of(one) for one in self.audit.rows.listed(limit=1000)])
        )
        return said


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.read.close()
    made.written.close()


def test_a_line_says_who_what_when_and_from_where(place: Place) -> None:
    place.audit.note(
        "config.changed", "chat.timeout_s", ANNE, before={"timeout_s": 300}, after={"timeout_s": 60}
    )
    place.audit.note("key.expired", "k1", HUB)
    assert place.lines() == [
        {"seq": 2, "at": 5000, "action": "key.expired", "target": "k1", "from": "hub", "requestId": None,
         "by": {"principal": "hub", "tenantId": None, "familyId": None}, "before": None, "after": None},
        {"seq": 1, "at": 5000, "action": "config.changed", "target": "chat.timeout_s", "from": "10.0.0.7",
         "requestId": "req_1", "by": {"principal": "anne", "tenantId": "home", "familyId": "kids"},
         "before": {"timeout_s": 300}, "after": {"timeout_s": 60}},
    ]  # fmt: skip


def test_a_change_and_its_line_are_one(place: Place) -> None:
    record = KeyRecord("k", b"", "", "default", None, frozenset({"chat"}), 1)
    heard: list[None] = []
    place.audit.change("key.created", "k", ANNE, lambda: place.written.add_key(record), heard.append)
    assert place.read.key("k") == record
    assert heard == [None]

    def refuse() -> None:
        place.written.revoke_key("k", 7)
        raise NotFound("no")

    place.audit.change("key.revoked", "k", ANNE, refuse, heard.append)
    assert place.read.key("k") == record
    assert [line["action"] for line in place.lines()] == ["key.created"]
    assert heard == [None]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET principal_id = 'nobody'",
        "UPDATE OR REPLACE audit SET seq = 7",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT seq, 0, '', '', '', '', '', '', '', '', '' FROM audit",
        "REPLACE INTO audit (seq, at_ms, action, target, principal_id, origin) VALUES (1, 0, '', '', '', '')",
    ],
)
def test_a_line_is_neither_altered_nor_removed(place: Place, sql: str) -> None:
    place.audit.note("config.changed", "x", FILE)
    before = place.lines()
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        place.written._db.execute(sql)
    assert place.lines() == before


def test_numbers_are_not_used_twice(place: Place) -> None:
    for number in range(3):
        place.audit.note("config.changed", str(number), FILE)
    assert [line["seq"] for line in place.lines()] == [3, 2, 1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: f"x\n2026-11-26 key.revoked by root{text}",
        lambda text: f"\x1b[2J{text}",
        lambda text: f"\u202e{text}\u2028\x00",
        lambda text: text * 10_000,
        lambda text: f"\ud800{text}",
    ],
    ids=["a line of its own", "a terminal's command", "turned around", "huge", "half a character"],
)
def test_what_is_written_commands_nothing_and_is_bounded(place: Place, spoil: Callable[[str], str]) -> None:
    hostile = spoil("name")
    by = Actor(hostile, hostile)
    place.audit.note("key.created", hostile, by, before={hostile: hostile}, after={"name": [hostile] * 100})
    (line,) = place.audit.rows.listed(limit=1)
    for text in (line.target, line.principal_id, line.origin):
        assert text.isprintable()
        assert len(text) <= 200
    for summary in (line.before, line.after):
        assert summary is not None
        assert len(summary) <= 4096
        assert summary.isprintable()
    json.loads(encode(entry_of(line)))


def test_secrets_are_not_written(place: Place, tmp_path: Path) -> None:
    key = f"apx_{'0' * 16}_{'s' * 43}"
    after = {"api_key": "hush-hush", "headers": {"Authorization": f"Bearer {key}"}, "note": f"was {key}",
             "max_tokens": 5, "list": [{"password": "hush-hush"}], "key": "hush-hush", "api_key_file": ""}  # fmt: skip
    place.audit.note("config.changed", f"upstream {key}", ANNE, after=after)
    (line,) = place.lines()
    assert line["target"] == "upstream apx_***"
    assert line["after"] == {
        "api_key": "***", "headers": {"Authorization": "***"}, "note": "was apx_***", "max_tokens": 5,
        "list": [{"password": "***"}], "key": "***", "api_key_file": "",
    }  # fmt: skip
    for path in tmp_path.iterdir():
        assert b"hush-hush" not in path.read_bytes()
        assert b"s" * 43 not in path.read_bytes()


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=[])),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_summary_can_be_written_and_read(place: Place, value: object) -> None:
    place.audit.note("config.changed", "x", FILE, before={"was": value})
    (line,) = place.audit.rows.listed(limit=1)
    assert line.before is not None
    json.loads(line.before)


def test_pages_and_filters(place: Place) -> None:
    for number in range(10):
        place.audit.note("key.created" if number % 2 else "node.drained", str(number), ANNE)
    rows = place.audit.rows
    assert [one.seq for one in rows.listed(limit=3)] == [10, 9, 8]
    assert [one.seq for one in rows.listed(limit=3, before=8)] == [7, 6, 5]
    assert [one.seq for one in rows.listed(limit=100, before=1)] == []
    assert [one.target for one in rows.listed(limit=2, action="key")] == ["9", "7"]
    assert [one.target for one in rows.listed(limit=2, action="node.drained")] == ["8", "6"]
    for action in ("ke", "%", "key.", "key' OR 1=1 --", "*"):
        assert rows.listed(limit=2, action=action) == []


DAY_MS = 86_400_000
# Of lines: 2030-01-01, in milliseconds.
THEN_MS = 1_893_456_000_000


class Years:
    """An audit of years."""

    def __init__(self, place: Place) -> None:
        self.audit, self.journal, self.at_s = place.audit, place.journal, THEN_MS / 1000
        self.audit._now = lambda: self.at_s

    def note(self, *days: float) -> None:
        for day in days:
            self.at_s = THEN_MS / 1000 + day * 86_400
            self.audit.note("config.changed", f"day {day}", FILE)

    async def forget(self, on_day: float, keep_days: float = 100) -> list[str]:
        """Forget, and return what is left, oldest first."""
        self.at_s = THEN_MS / 1000 + on_day * 86_400
        while await self.journal.post(partial(self.audit.forget_some, keep_days * 86_400)).wait():
            pass
        return [one.target for one in reversed(self.audit.rows.listed(limit=1000))]


async def test_lines_are_let_go_by_age_below_a_line_that_says_so(place: Place) -> None:
    years = Years(place)
    years.note(0, 1, 50, 150)
    assert await years.forget(99) == ["day 0", "day 1", "day 50", "day 150"]
    assert await years.forget(140) == ["day 50", "day 150", "2"]
    newest = place.lines()[0]
    assert (newest["action"], newest["by"], newest["at"]) == (
        "audit.forgotten",
        {"principal": "hub", "tenantId": None, "familyId": None},
        THEN_MS + 140 * DAY_MS,
    )
    assert newest["before"] == {"first": 1, "lines": 2, "firstAt": THEN_MS, "lastAt": THEN_MS + DAY_MS}
    assert await years.forget(140) == ["day 50", "day 150", "2"]
    assert await years.forget(1000) == ["5"]  # that of before goes, too, and the new one stays
    assert [line["seq"] for line in place.lines()] == [6]


async def test_more_lines_than_a_transaction_takes_are_let_go_in_several(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apexbridge_trio.audit._MOST_LET_GO", 3)
    years = Years(place)
    years.note(*range(7), 150)
    assert await years.forget(200) == ["day 150", "3", "6", "7"]


@pytest.mark.parametrize("wrong", [-365.25 * 60, 365 * 60], ids=["1970", "2090"])
async def test_a_line_of_a_clock_that_was_wrong_is_as_old_as_the_next(wrong: float, place: Place) -> None:
    """What was done today, on a machine that began at 1970, must not be forgotten tomorrow."""
    years = Years(place)
    years.note(0, wrong)
    assert await years.forget(150) == [f"day {wrong}", "1"]
    years.note(150)
    assert await years.forget(240) == [f"day {wrong}", "1", "day 150"]
    assert await years.forget(260) == ["4"]


async def test_what_is_let_go_is_not_more_than_its_line_says(place: Place) -> None:
    years = Years(place)
    years.note(0, 1, 150, 151)
    assert await years.forget(140) == ["day 150", "day 151", "2"]
    for sql in (
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq >= 3",
        "INSERT INTO audit (seq, at_ms, action, target, principal_id, origin) VALUES (1, 0, 'a', '', '', '')",
    ):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            place.written._db.execute(sql)
    assert [line["seq"] for line in place.lines()] == [5, 4, 3]


async def test_a_disk_that_refuses_lets_nothing_go(place: Place) -> None:
    years = Years(place)
    years.note(0, 150)
    place.written._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnusable):
        await years.forget(140)
    place.written._db.execute("PRAGMA query_only = OFF")
    assert len(place.lines()) == 2
