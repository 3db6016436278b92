"""The rules of tasks that answer later, without a clock and without Trio: `now` is a number."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.identity import Principal
from apexbridge_trio.ledger import MOST_SWEPT, Ledger, Sender
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.protocol.signature import Signed
from apexbridge_trio.results import Results
from apexbridge_trio.store import Store, Tasks

ANNE = Principal("anne", scopes=frozenset({"callback"}))
BOB = Principal("bob", tenant_id="b", scopes=frozenset({"callback"}))
KEEP_S = 1000.0


def said(status="success", **fields):
    return read_callback(json.dumps({"status": status, **fields}).encode())


SONG = said(output="la la")
OTHER = said(output="lo lo")
HALF = said("progress", progress=0.5)


class World:
    def __init__(self, state):
        self.now = 1000.0
        self.store = Store(state)
        self.tasks = Tasks(self.store)
        self.results = Results(state)
        self.ledger = Ledger(self.store, self.results, now=lambda: self.now)

    def open(self, call_id, *, plugin="suno", owner=ANNE, expires_s=100.0):
        token = call_id.encode()
        self.ledger.open(
            call_id, plugin=plugin, tool="sing", owner=owner, token_hash=token, expires_s=expires_s
        )
        return Sender(call_id=call_id)

    def send(self, sender, task_id="t", callback=SONG, plugin="suno"):
        return self.ledger.accept(plugin, task_id, callback, sender).word

    def state(self, call_id="c"):
        record = self.tasks.of_call(call_id)
        return record and record.state


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_a_task_takes_one_result_and_its_owner_is_owed_a_notice(world):
    sender = world.open("c")
    assert world.ledger.name("c", "t")[1] is None
    assert world.send(sender, callback=HALF) == "progress"
    assert world.state() == "waiting_callback"
    assert [world.send(sender), world.send(sender), world.send(sender, callback=OTHER)] == [
        "accepted", "duplicate", "conflict"
    ]  # fmt: skip
    assert world.send(sender, callback=HALF) == "overtaken"
    assert world.state() == "succeeded"
    assert world.results.find("suno", "t") == SONG.body
    (notice,) = world.tasks.notices()
    assert (notice.id, notice.tenant_id, notice.level) == ("c", "default", "info")
    assert json.loads(notice.body)["taskId"] == "t"
    world.ledger.taken("c")
    assert world.tasks.notices() == []


def test_a_failure_is_a_result_and_a_warning(world):
    sender = world.open("c")
    assert world.send(sender, callback=said("failed", error="no voice")) == "accepted"
    assert world.state() == "failed"
    (notice,) = world.tasks.notices()
    assert (notice.level, json.loads(notice.body)["message"]) == ("warning", "no voice")


@pytest.mark.parametrize("named", [True, False])
def test_a_withdrawn_task_takes_nothing_and_counts_what_comes(world, named):
    sender = world.open("c")
    if named:
        world.ledger.name("c", "t")
    assert world.ledger.withdraw("c") is True
    assert world.ledger.withdraw("c") is False
    assert [world.send(sender), world.send(sender, callback=HALF)] == ["gone", "gone"]
    record = world.tasks.of_call("c")
    assert (record.state, record.late, record.task_id) == ("interrupted", 2, "t")
    assert world.results.find("suno", "t") is None
    assert world.tasks.notices() == []
    assert world.ledger.withdraw("unknown") is False


def test_a_result_that_was_first_is_not_withdrawn(world):
    sender = world.open("c")
    world.send(sender)
    assert world.ledger.withdraw("c") is False
    assert world.state() == "succeeded"


@pytest.mark.parametrize("swept", [True, False])
def test_a_task_whose_time_is_over_ends_by_the_sweep_or_by_what_comes_too_late(world, swept):
    sender = world.open("c")
    world.ledger.name("c", "t")
    world.now += 100
    if swept:
        assert [record.call_id for record in world.ledger.sweep(KEEP_S).timed_out] == ["c"]
    assert world.send(sender) == "gone"
    assert world.state() == "timed_out"
    (notice,) = world.tasks.notices()
    assert notice.level == "warning"


def test_the_sweep_forgets_what_ended_long_ago(world):
    for number in range(MOST_SWEPT + 1):
        assert world.send(world.open(f"c{number}"), f"t{number}") == "accepted"
    world.now += KEEP_S
    assert world.ledger.sweep(KEEP_S).deleted == 0
    world.now += 1
    first, second = world.ledger.sweep(KEEP_S), world.ledger.sweep(KEEP_S)
    assert (first.deleted, first.is_all, second.deleted, second.is_all) == (MOST_SWEPT, False, 1, True)
    assert world.tasks.notices() == []
    assert world.results.find("suno", "t0") is None
    assert world.send(Sender(principal=ANNE), "t0") == "unknown"


def test_a_call_that_answered_by_itself_is_forgotten(world):
    sender = world.open("c")
    world.send(sender, callback=HALF)
    world.ledger.close("c")
    assert world.state() is None
    assert world.send(sender) == "unknown"
    world.ledger.close("c")


def test_a_result_that_came_early_is_kept_when_the_call_answers_by_itself(world):
    sender = world.open("c")
    world.send(sender)
    world.ledger.close("c")
    assert world.state() == "succeeded"


class TestEarly:
    def test_with_the_call_s_own_token(self, world):
        sender = world.open("c")
        assert world.send(sender) == "accepted"
        record, body = world.ledger.name("c", "t")
        assert (record.state, body) == ("succeeded", SONG.body)

    def test_progress_names_the_task_too(self, world):
        sender = world.open("c")
        assert world.send(sender, callback=HALF) == "progress"
        assert world.ledger.name("c", "t")[0].state == "waiting_callback"
        assert world.send(sender) == "accepted"

    @pytest.mark.parametrize("sender", [Sender(principal=ANNE), Sender(signed=Signed("m1"))])
    @pytest.mark.parametrize("first", [SONG, HALF])
    def test_with_a_key_or_a_signature_it_waits_for_the_call_that_names_it(self, world, sender, first):
        world.open("a")
        world.open("c")
        assert world.send(sender, callback=first) in {"accepted", "progress"}
        assert world.send(sender, callback=SONG) in {"accepted", "duplicate"}
        record, body = world.ledger.name("c", "t")
        assert (record.state, record.principal_id, body) == ("succeeded", "anne", SONG.body)
        assert [notice.id for notice in world.tasks.notices()] == ["c"]
        assert world.state("a") == "running"
        assert world.send(sender) == "duplicate"

    @pytest.mark.parametrize("end", ["interrupted", "timed_out"])
    def test_what_waits_under_a_name_does_not_undo_an_end(self, world, end):
        world.open("a", expires_s=1000.0)
        assert world.send(Sender(principal=ANNE)) == "accepted"
        sender = world.open("c")
        if end == "interrupted":
            assert world.ledger.withdraw("c")
        else:
            world.now += 100
            world.ledger.sweep(KEEP_S)
        assert world.ledger.name("c", "t")[1] is None
        assert world.state("c") == end
        assert world.send(sender) == "unknown"
        assert world.state("c") == end
        assert world.results.find("suno", "t") == SONG.body
        assert world.ledger.name("a", "t")[1] == SONG.body

    def test_a_key_of_another_tenant_names_nothing(self, world):
        world.open("c")
        assert world.send(Sender(principal=BOB)) == "unknown"
        world.open("d", owner=BOB)
        assert world.send(Sender(principal=BOB)) == "accepted"
        with pytest.raises(ToolFailed):
            world.ledger.name("c", "t")
        assert world.ledger.name("d", "t")[1] == SONG.body

    def test_without_a_running_call_of_the_plugin_a_task_is_unknown(self, world):
        assert world.send(Sender(principal=ANNE)) == "unknown"
        world.open("c")
        assert world.send(Sender(principal=ANNE), plugin="other") == "unknown"
        assert world.send(Sender(call_id="c"), plugin="other") == "unknown"
        assert world.send(Sender(call_id="nobody")) == "unknown"


def test_a_token_is_good_for_one_task(world):
    sender = world.open("c")
    world.ledger.name("c", "t")
    other = world.open("d")
    world.ledger.name("d", "u")
    assert world.send(sender, "u") == "unknown"
    assert world.send(sender, "v") == "unknown"
    assert world.send(other, "u") == "accepted"
    assert world.state("c") == "waiting_callback"


@pytest.mark.parametrize("task_id", ["..", "", "a/b", "taken"])
def test_a_plugin_may_not_choose_that_name(world, task_id):
    world.open("first")
    world.ledger.name("first", "taken")
    world.open("c")
    with pytest.raises(ToolFailed, match="name"):
        world.ledger.name("c", task_id)


def test_a_plugin_names_its_task_once(world):
    world.open("c")
    assert world.ledger.name("c", "t")[0] == world.ledger.name("c", "t")[0]
    with pytest.raises(ToolFailed):
        world.ledger.name("c", "u")


def test_a_signed_message_is_for_the_task_it_was_first_brought_to(world):
    for call_id in ("c", "d"):
        world.open(call_id)
        world.ledger.name(call_id, call_id)
    sender = Sender(signed=Signed("m1"))
    assert [world.send(sender, "c"), world.send(sender, "d"), world.send(sender, "c")] == [
        "accepted", "replayed", "duplicate"
    ]  # fmt: skip
    world.now += 601
    world.ledger.sweep(KEEP_S)
    assert world.send(Sender(signed=Signed("m1")), "d") == "gone"


FINAL = {"succeeded", "failed", "interrupted", "timed_out"}


class AnyOrder(RuleBasedStateMachine):
    """Settle, interrupt, expire, name and close in any order: one final state, and it stays."""

    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.ended = {}
        self.accepted = {}
        self.names = {}
        self.closed = set()

    @rule(target=calls, owner=st.sampled_from([ANNE, BOB]), expires_s=st.sampled_from([1.0, 50.0]))
    def open(self, owner, expires_s):
        call_id = f"c{len(self.names)}"
        self.names[call_id] = None
        self.world.open(call_id, owner=owner, expires_s=expires_s)
        return call_id

    @rule(call_id=calls, task_id=st.sampled_from("tuv"))
    def name(self, call_id, task_id):
        if call_id not in self.closed:
            with suppress(ToolFailed):  # the name is another's
                self.world.ledger.name(call_id, task_id)

    @rule(call_id=calls, task_id=st.sampled_from("tuv"), callback=st.sampled_from([SONG, OTHER, HALF]))
    def call_back(self, call_id, task_id, callback):
        self._note(task_id, callback, self.world.send(Sender(call_id=call_id), task_id, callback))

    @rule(
        by=st.sampled_from([Sender(principal=ANNE), Sender(principal=BOB), Sender(signed=Signed("m"))]),
        task_id=st.sampled_from("tuv"),
        callback=st.sampled_from([SONG, OTHER, HALF]),
    )
    def call_back_with_a_key(self, by, task_id, callback):
        self._note(task_id, callback, self.world.send(by, task_id, callback))

    def _note(self, task_id, callback, word):
        if word == "accepted":
            assert task_id not in self.accepted, "settled twice"
            self.accepted[task_id] = callback
        if word == "duplicate":
            assert self.accepted[task_id].digest == callback.digest
        if word == "conflict":
            assert self.accepted[task_id].digest != callback.digest

    @rule(call_id=calls)
    def interrupt(self, call_id):
        self.world.ledger.withdraw(call_id)

    @rule(call_id=calls)
    def close(self, call_id):
        self.world.ledger.close(call_id)
        if self.world.state(call_id) is None:
            self.closed.add(call_id)

    @rule(seconds=st.sampled_from([0.5, 10.0]))
    def wait(self, seconds):
        self.world.now += seconds

    @rule()
    def sweep(self):
        self.world.ledger.sweep(1_000_000)

    @invariant()
    def what_has_ended_stays_as_it_ended(self):
        for call_id in self.names:
            record = self.world.tasks.of_call(call_id)
            if record is not None and record.ended_ms is not None:
                assert record.state in FINAL
                assert self.ended.setdefault(call_id, record.state) == record.state

    @invariant()
    def what_was_accepted_is_on_disk_and_nothing_else_is(self):
        files = {path.stem: path.read_bytes() for path in Path(self.folder.name).glob("async_results/*/*")}
        assert files == {task_id: callback.body for task_id, callback in self.accepted.items()}

    def teardown(self):
        self.world.store.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
