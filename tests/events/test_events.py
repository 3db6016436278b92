"""Publish, drop, resume: each reader has what was published, in order, or is told that it has not."""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import BadRequest, Draining
from apexbridge_trio.events import KINDS, Bounds, Events, Listener, kinds_of
from apexbridge_trio.identity import Principal

HOUSE = Principal("house", "t")
ANNE = Principal("anne", "t", "anne")
BERT = Principal("bert", "t", "bert")
OTHER = Principal("other", "u")
SMALL = Bounds(events=6, bytes=4000, chat_bytes=2500)


def keeping(heard):
    def post(event):
        heard.append(event.seq)
        return True

    return post


def test_another_bound_counts_from_the_next_event_on():
    events = Events(bounds=Bounds(events=5))
    for number in range(5):
        events.publish("alert", HOUSE, {"message": str(number)})
    events.keep(2)
    last = events.publish("alert", HOUSE, {"message": "last"})
    kept = events.history("t").kept()
    assert [event.seq for event in kept] == [last.seq - 1, last.seq]
    assert events.history("t").after(1) is None
    assert len(events.history("t").after(last.seq - 2) or ()) == 2
    events.publish("alert", OTHER, {})
    assert events.history("u").bounds.events == 2


def read(event):
    return json.loads(event.frame)


@dataclass
class Reader:
    """A client: what it has had, and where it stands."""

    events: Events
    who: Principal
    room: int = 1000
    got: list[Any] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    position: tuple[str, int] = ("", 0)
    subscription: Any = None

    def post(self, event):
        if self.room == 0:
            return False
        self.room -= 1
        frame = read(event)
        assert frame["epoch"] == self.events.epoch
        assert frame["seq"] > self.position[1] or self.position[0] != frame["epoch"]
        self.position = frame["epoch"], frame["seq"]
        self.take(frame["type"], frame["data"])
        return True

    def take(self, kind, data):
        if kind == "chat.chunk":
            self.texts[data["chat"]] = self.texts.get(data["chat"], "") + data["delta"]
        elif kind == "chat.completed":
            self.texts[data["chat"]] = data["content"]
        else:
            self.got.append(data)

    def come(self):
        """Connect; resume if there is a position. True: nothing was lost."""
        self.leave()
        self.room = 1000
        self.subscription = self.events.subscribe(self.who, self.post)
        if not self.position[0]:
            self.position = self.events.epoch, self.subscription.seq
            return True
        missed = self.subscription.missed(*self.position)
        if missed is None:
            self.position = self.events.epoch, self.subscription.seq
            return False
        for event in missed:
            self.post(event)
        return True

    def leave(self):
        if self.subscription is not None:
            self.subscription.close()
        self.subscription = None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("notify"), st.sampled_from([HOUSE, ANNE, BERT, OTHER])),
        st.tuples(st.just("piece"), st.sampled_from([HOUSE, ANNE, BERT]), st.sampled_from("xy")),
        st.tuples(st.just("end"), st.sampled_from("xy")),
        st.tuples(st.sampled_from(["drop", "come", "stall"]), st.sampled_from([0, 1, 2])),
    ),
    max_size=60,
)


@given(STEPS)
def test_any_interleaving_gives_each_reader_all_of_it_or_an_honest_no(steps):
    events = Events(bounds=SMALL)
    readers = [Reader(events, who) for who in (HOUSE, ANNE, BERT)]
    oracles = [Reader(events, who) for who in (HOUSE, ANNE, BERT)]
    for reader in readers:
        reader.come()
    live: dict[str, Any] = {}

    def publish(owner, kind, data, **named):
        events.publish(kind, owner, data, **named)
        if owner.tenant_id == "t":
            for oracle in oracles:
                if oracle.who.family_id in {None, owner.family_id}:
                    oracle.take(kind, data)

    rest: Any
    for number, (what, *rest) in enumerate(steps):
        if what == "notify":
            publish(rest[0], "notification", {"number": number, "text": "x" * (number % 200)})
        elif what == "piece":
            owner, text = live.setdefault(rest[1], (rest[0], []))
            text.append(str(number))
            publish(owner, "chat.chunk", {"chat": rest[1], "delta": str(number)}, chat=rest[1])
        elif what == "end" and rest[0] in live:
            owner, text = live.pop(rest[0])
            said = {"chat": rest[0], "content": "".join(text)}
            publish(owner, "chat.completed", said, ends=rest[0])
        elif what == "drop":
            readers[rest[0]].leave()
        elif what == "stall":
            readers[rest[0]].room = 0
        elif what == "come" and not readers[rest[0]].come():
            copy(oracles[rest[0]], readers[rest[0]])
    for reader, oracle in zip(readers, oracles, strict=True):
        if not reader.come():
            copy(oracle, reader)
        assert reader.got == oracle.got
        assert reader.texts == oracle.texts
    assert len(events) == 3


def after(reader, seq):
    found = reader.missed(reader._events.epoch, seq)
    assert found is not None
    return found


def copy(oracle, reader):
    """What a client does that was told "not recovered": it loads anew."""
    reader.got, reader.texts = list(oracle.got), dict(oracle.texts)


@pytest.mark.parametrize(
    "position",
    [("ep_of_another_hub", 1), ("", 1), (None, 6), (None, 10**18), (None, -1)],
    ids=["another epoch", "no epoch", "the next one", "the future", "before the first"],
)
def test_a_position_that_can_not_be_is_not_recovered(position):
    events = Events()
    for number in range(5):
        events.publish("notification", HOUSE, {"number": number})
    reader = events.subscribe(HOUSE, lambda _: True)
    epoch = events.epoch if position[0] is None else position[0]
    assert reader.missed(epoch, position[1]) is None
    assert reader.missed(events.epoch, 5) == []
    assert len(after(reader, 0)) == 5


def test_another_tenants_position_shows_nothing_of_it():
    events = Events()
    for _ in range(5):
        events.publish("alert", HOUSE, {"secret": 1})
    reader = events.subscribe(OTHER, lambda _: True)
    assert reader.missed(events.epoch, 3) is None
    assert reader.missed(events.epoch, 0) == []
    assert reader.kept() == reader.running() == []


def test_a_family_sees_its_own_and_the_tenant_all():
    events = Events()
    heard: dict[str, list[int]] = {who.id: [] for who in (HOUSE, ANNE, BERT, OTHER)}
    admin = Principal("root", "u", None, frozenset({"admin"}))
    for who in (HOUSE, ANNE, BERT, OTHER, admin):
        events.subscribe(who, keeping(heard.setdefault(who.id, [])))
    for owner in (HOUSE, ANNE, BERT):
        events.publish("notification", owner, {})
    assert heard == {"house": [1, 2, 3], "anne": [2], "bert": [3], "other": [], "root": []}


def test_a_reader_that_does_not_take_an_event_is_cut_and_the_others_are_told():
    events = Events()
    heard: list[int] = []
    events.subscribe(HOUSE, lambda _: False)
    events.subscribe(HOUSE, keeping(heard))
    events.publish("notification", HOUSE, {})
    events.publish("notification", HOUSE, {})
    assert heard == [1, 2]
    assert len(events) == 1


def test_a_reader_may_leave_and_another_be_closed_while_one_is_told():
    events = Events()
    heard: list[int] = []

    def leave(_):
        first.close()
        second.close()
        return True

    first = events.subscribe(HOUSE, leave)
    second = events.subscribe(HOUSE, keeping(heard))
    events.publish("notification", HOUSE, {})
    events.publish("notification", HOUSE, {})
    first.close()
    assert heard in ([], [1])
    assert len(events) == 0


def test_the_pieces_of_a_chat_go_with_its_end():
    events = Events()
    for number in range(3):
        events.publish("chat.chunk", ANNE, {"delta": number}, chat="one")
        events.publish("chat.chunk", ANNE, {"delta": number}, chat="two")
    reader = events.subscribe(ANNE, lambda _: True)
    assert len(reader.running()) == 6
    events.publish("chat.completed", ANNE, {"content": "012"}, ends="one")
    assert len(reader.running()) == 3
    assert [read(event)["type"] for event in after(reader, 5)] == [
        "chat.chunk",
        "chat.completed",
    ]
    assert events.history("t").chats == 1


def test_a_chat_that_says_more_than_is_kept_is_not_shown_in_part():
    events = Events(bounds=Bounds(chat_bytes=2000))
    for number in range(20):
        events.publish("chat.chunk", ANNE, {"delta": number}, chat="long")
    reader = events.subscribe(ANNE, lambda _: True)
    assert reader.running() == []
    assert reader.missed(events.epoch, 2) is None
    assert len(after(reader, 18)) == 2
    events.publish("chat.completed", ANNE, {}, ends="long")
    assert events.history("t")._pieces_bytes == 0
    assert len(after(reader, 18)) == 1


def test_one_event_larger_than_the_history_is_told_and_not_kept():
    events = Events(bounds=SMALL)
    heard: list[int] = []
    reader = events.subscribe(HOUSE, keeping(heard))
    events.publish("notification", HOUSE, {"text": "x" * 5000})
    assert len(heard) == 1
    assert reader.missed(events.epoch, 0) is None
    assert reader.kept() == []


def test_topics():
    assert kinds_of(None) == set(KINDS)
    assert kinds_of(["chat"]) == kinds_of(["chat.*"]) == {kind for kind in KINDS if kind.startswith("chat.")}
    assert kinds_of(["alert", "chat.chunk"]) == {"alert", "chat.chunk"}
    assert kinds_of([]) == set()
    with pytest.raises(BadRequest, match="no topic"):
        kinds_of(["cha"])


def test_closed_it_tells_its_readers_and_takes_no_more():
    events = Events()
    told: list[str] = []
    events.subscribe(HOUSE, lambda _: True, on_close=partial(told.append, "closed"))
    events.subscribe(OTHER, lambda _: True)
    events.close()
    assert told == ["closed"]
    assert len(events) == 0
    with pytest.raises(Draining):
        events.subscribe(HOUSE, lambda _: True)


def test_as_server_sent_event():
    event = Events().publish("alert", HOUSE, {"message": "水"})
    head, kind, data = event.as_sse().decode().rstrip("\n").split("\n")
    assert head == f"id: {event.epoch}:1"
    assert kind == "event: alert"
    frame = json.loads(data.removeprefix("data: "))
    assert frame["data"] == {"message": "水"}
    assert frame["seq"] == 1


def test_the_hubs_own_ear_hears_of_all_tenants_what_it_listens_for() -> None:
    events, heard = Events(), []
    listener = Listener(lambda kind, owner, data: heard.append((kind, owner.tenant_id, data)))
    events.listen(listener)
    events.publish("node.status", Principal("a", "t1"), {"to": "offline"})
    listener.kinds = frozenset({"node.status", "chat.completed"})
    events.publish("node.status", Principal("a", "t1"), {"to": "online"})
    events.publish("task.status", Principal("a", "t1"), {})
    events.note("chat.completed", Principal("b", "t2"), {"requestId": "r"})
    assert heard == [("node.status", "t1", {"to": "online"}), ("chat.completed", "t2", {"requestId": "r"})]
    assert events.history("t2").seq == 0, "what is only noted is told to nobody"
