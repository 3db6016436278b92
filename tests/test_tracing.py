"""The live tree in a collector: a real one over HTTP, with spans that say how each flight ended."""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from apexbridge_trio import tracing
from apexbridge_trio.config import Tracing
from apexbridge_trio.errors import ConfigInvalid, DeadlinePassed, Interrupted, UpstreamBroken
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.installation import remedy
from apexbridge_trio.tracing import traced
from tests.fakes.collector import Collector, facts
from tests.harness.world import events, open_world, say

ME = Principal("me", "home")
TRACE = "0af7651916cd43dd8448eb211c80319c"
ABOVE = "b7ad6b7169203331"
NET_S = 60.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread sends on the real clock, which on a busy machine takes what it takes."""
    monkeypatch.setattr(tracing, "SEND_S", NET_S)
    monkeypatch.setattr(tracing, "CLOSE_S", NET_S)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


def ended(span: Span) -> tuple[int, str, str]:
    return span.status.code, span.status.message, facts(span).get("error.type", "")


async def test_a_chat_is_a_tree_of_spans(state, autojump_clock, collector):
    async with open_world(state, tracing={"endpoint": collector.url}) as world:
        asked = say('ping {"secret": "of-the-user"}', "hands", requestId="r1", stream=True)
        assert events(await world.chat(asked))
        key = world.hub.keys.create(scopes=["chat"])[0]
        await world.chat(say("secret words", "hello", requestId="r2"), f"Authorization: Bearer {key}")
    root, first, tool, second, other, _ = collector.spans
    assert {path for path, _ in collector.bodies} == {"/v1/traces"}
    assert [span.name for span in (root, first, tool, second)] == [
        "chat",
        "chat tools",
        "execute_tool ping",
        "chat tools",
    ]
    assert {span.parent_span_id for span in (first, tool, second)} == {root.span_id}
    assert len({span.trace_id for span in (root, first, tool, second)}) == 1
    assert root.parent_span_id == b""
    assert other.trace_id != root.trace_id
    assert facts(root)["apex.request_id"] == "r1"
    told = facts(first)
    assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "up")
    assert (told["gen_ai.request.model"], told["apex.path"]) == ("tools", "r1/round1/llm")
    assert facts(tool)["apex.plugin"] == "test"
    assert {ended(span) for span in collector.spans} == {(Status.STATUS_CODE_OK, "", "")}
    everything = b"".join(body for _, body in collector.bodies)
    for secret in (b"of-the-user", b"secret words", b"pong", key.encode()):
        assert secret not in everything


async def test_each_end_is_said(autojump_clock, collector):
    """A span that was cancelled has no status of its own: the library sets one for exceptions only."""
    flights = Flights()
    with traced(Tracing(collector.url), flights):
        with pytest.raises(Interrupted), flights.open("r1", "chat", ME) as root:
            flights.interrupt("r1", ME, "words of the user")
            with root.child("llm", "upstream"):
                await trio.sleep_forever()
        with pytest.raises(DeadlinePassed), flights.open("r2", "chat", ME, timeout_s=1):
            await trio.sleep_forever()
        with pytest.raises(UpstreamBroken), flights.open("r3", "chat", ME):
            raise UpstreamBroken("The words of a provider.")
        with pytest.raises(LookupError), flights.open("r4", "chat", ME):
            raise LookupError("a defect")
        with trio.CancelScope() as left, flights.open("r5", "chat", ME) as flight:
            flight.is_unconfirmed = True
            left.cancel(reason="the client has gone")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
    found = {facts(span)["apex.path"]: span for span in collector.spans}
    error = Status.STATUS_CODE_ERROR
    assert {path: ended(span) for path, span in found.items()} == {
        "r1": (error, "interrupted", "interrupted"),
        "r1/llm": (error, "cancelled", "cancelled"),
        "r2": (error, "timeout", "timeout"),
        "r3": (error, "upstream_broken", "upstream_broken"),
        "r4": (error, "internal_error", "internal_error"),
        "r5": (error, "cancelled", "cancelled"),
    }
    assert facts(found["r5"])["apex.confirmed"] is False
    assert not any(span.events for span in collector.spans), "no words of anybody"
    assert not flights.watchers


async def test_a_request_is_a_part_of_its_senders_trace(state, autojump_clock, collector):
    async with open_world(state, tracing={"endpoint": collector.url}) as world:
        await world.chat(say("x", "hello"), f"Traceparent: 00-{TRACE}-{ABOVE}-01")
        async with world.client() as client:  # on one connection: the next one is not
            await client.chat(say("x", "hello", requestId="r2"), f"traceparent: 00-{TRACE}-{ABOVE}-01")
            await client.reply()
            await client.chat(say("x", "hello", requestId="r3"))
            await client.reply()
        later = say("x", "hello", requestId="r4", apex={"background": True})
        await world.chat(later, f"Traceparent: 00-{TRACE}-{ABOVE}-01")
        await trio.testing.wait_all_tasks_blocked()
    roots = [span for span in collector.spans if span.name == "chat"]
    came = [(span.trace_id.hex() == TRACE, span.parent_span_id.hex()) for span in roots]
    assert came == [(True, ABOVE), (True, ABOVE), (False, ""), (True, ABOVE)]


async def test_a_trace_that_its_sender_does_not_record_is_not(state, autojump_clock, collector):
    async with open_world(state, tracing={"endpoint": collector.url}) as world:
        assert (await world.chat(say("x", "hello"), f"Traceparent: 00-{TRACE}-{ABOVE}-00")).status == 200
    assert collector.spans == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{ABOVE}",
        f"00-{'0' * 32}-{ABOVE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{ABOVE}-01",
        f"00-{TRACE}-{ABOVE}-zz",
        "00-" + "a" * 4000,
        "\xff\xfe",
    ],
)
async def test_what_is_no_traceparent_is_none(state, autojump_clock, collector, value):
    async with open_world(state, tracing={"endpoint": collector.url}) as world:
        assert (await world.chat(say("x", "hello"), f"Traceparent: {value}")).status == 200
    root, _ = collector.spans
    assert (root.parent_span_id, root.trace_id.hex() == TRACE) == (b"", False)


async def test_a_collector_that_never_answers_holds_nobody(state, autojump_clock, monkeypatch):
    monkeypatch.setattr(tracing, "CLOSE_S", 0.05)
    with Collector(holds=True) as collector:
        async with open_world(state, tracing={"endpoint": collector.url}) as world:
            for _ in range(5):
                assert (await world.chat(say("x", "hello"))).status == 200
            assert world.hub.tracer is not None
            assert not world.hub.tracer._spans
        (ending,) = [one for one in threading.enumerate() if one.name == "last spans"]  # and the hub is gone
        assert collector.came.wait(NET_S)
    ending.join(NET_S)


async def test_without_an_endpoint_nothing_is_made(state, autojump_clock):
    async with open_world(state) as world:
        assert (world.hub.tracer, len(world.hub.flights.watchers)) == (None, 1)


def test_without_the_library_the_hub_says_what_to_do(monkeypatch):
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(ConfigInvalid, match=re.escape(remedy("otel"))),
        traced(Tracing("http://127.0.0.1:4318"), Flights()),
    ):
        pass


async def test_an_address_with_the_path_is_taken_as_it_is(autojump_clock, collector):
    flights = Flights()
    with traced(Tracing(f"{collector.url}/v1/traces"), flights), flights.open("r1", "chat", ME):
        pass
    assert [path for path, _ in collector.bodies] == ["/v1/traces"]
