"""The leak matrix: every phase of a chat, in every form, ended in every way; nothing is left.

After each: no flight, no slot, no task more than before, the provider has seen its connection end by
the hub's hand, and the hub still answers. The table in docs/leaks.md is this test's own output:
`UPDATE_DOCS=1 make test ARGS=tests/test_leaks.py` writes it anew.
"""

import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from apexbridge_trio.audit import HUB
from apexbridge_trio.plugins import Later, Pending
from apexbridge_trio.protocol.frames import LlmRequest, LlmResponseStream, TaskAssign, TaskCancel
from apexbridge_trio.settings import Origin
from apexbridge_trio.settings.change import Plan
from tests.harness.node import joined
from tests.harness.world import events, open_world, say

TABLE = Path(__file__).parents[1] / "docs" / "leaks.md"
FORMS = ["stream", "JSON", "background"]
ENDS = ["disconnect", "interrupt", "deadline", "drain", "key revoked", "config change"]
NODE_DEATH = "node death"
NODE_PHASES = ["on a node", "in a node's own model call"]
# Under the silence after which a node is gone: those here say nothing.
DEADLINE_S = 25.0


class Phases:
    """Holds a chat in one phase until it is ended from outside; `reached` tells that it is there."""

    def __init__(self, world):
        self.world = world
        self.reached = trio.Event()
        self.asked = 0
        world.provider.scripts["tools"] = self.answer

    async def hold(self):
        self.reached.set()
        await trio.sleep_forever()

    async def arrange(self, phase):
        self.phase = phase
        if phase == "connect":
            self.world.hub.models.upstreams["up"]._relay._route._connect = self.connect
        if phase == "in tool":
            self.world.add_tool("held", hold=True).call = self.call
        if phase == "callback wait":
            held = self.world.add_tool("held")
            held.later, held.call = Later(wait_s=900.0), self.answer_later

    async def be_node(self, node):
        """Hold what the node is given, and stop it when told to."""
        while (said := await node.hear()) is not None:
            if isinstance(said, TaskCancel):
                await node.confirm(said.task_id)
            if isinstance(said, TaskAssign) and self.phase == "on a node":
                self.reached.set()
            if isinstance(said, TaskAssign) and self.phase == "in a node's own model call":
                messages = [{"role": "user", "content": "x"}]
                asked = LlmRequest(
                    request_id=said.task_id,
                    messages=messages,
                    model="endless:50",
                    options={"stream": True},
                    task_id=said.task_id,
                )
                await node.tell(asked)
            if isinstance(said, LlmResponseStream):
                self.reached.set()

    def release(self):
        self.world.hub.models.upstreams["up"]._relay._route._connect = self.world.provider.connect

    async def connect(self, host, port):
        await self.hold()

    async def call(self, arguments, context):
        await self.hold()

    async def answer_later(self, arguments, context):
        self.reached.set()
        await trio.lowlevel.checkpoint()
        return Pending("task-1")

    async def answer(self, call):
        self.asked += 1
        if self.phase == "headers":
            await self.hold()
        if self.phase == "before the first token":
            await (
                call.begin()
                if call.request.is_stream
                else call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            )
            await self.hold()
        if self.phase == "mid-stream":
            await call.words(["one "]) if call.request.is_stream else await call.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
            )
            await self.hold()
        if self.phase == "between rounds" and self.asked == 2:
            await self.hold()
        name = "held" if self.phase in {"in tool", "callback wait", *NODE_PHASES} else "ping"
        function = {"name": name, "arguments": "{}"}
        tools = [{"index": 0, "id": "a", "type": "function", "function": function}]
        if call.request.is_stream:
            await call.begin()
            await call.delta(role="assistant", tool_calls=tools)
            await call.delta("tool_calls")
            await call.done()
            await call.end()
        else:
            await call.whole(call.document(None, "tool_calls", tool_calls=tools))


PHASES = [
    "connect",
    "headers",
    "before the first token",
    "mid-stream",
    "in tool",
    "between rounds",
    "callback wait",
    *NODE_PHASES,
]


async def settled(world):
    """Wait until nothing moves: on the virtual clock a sleep ends only when all else is waiting."""
    await trio.sleep(0.001)


async def run_case(state, form, phase, end):
    """Bring a chat into the phase, end it, and say what the client saw."""
    upstream = {"idle_timeout_s": 900.0, "connect_timeout_s": 900.0}
    async with open_world(state, upstream=upstream) as world, AsyncExitStack() as stack:
        phases, node = Phases(world), None
        if phase in NODE_PHASES:
            node = await stack.enter_async_context(joined(world, tools=["held"]))
            world.nursery.start_soon(phases.be_node, node)
        await phases.arrange(phase)
        apex = {"background": form == "background"} | ({"timeoutS": DEADLINE_S} if end == "deadline" else {})
        body = say("x", "hands", stream=form == "stream", requestId="r1", apex=apex)
        key, record = world.hub.keys.create(scopes=["chat"])
        tasks = trio.lowlevel.current_statistics().tasks_living
        seen = ""
        async with world.client() as client:
            await client.chat(body, *([f"Authorization: Bearer {key}"] if end == "key revoked" else []))
            await phases.reached.wait()
            await settled(world)
            if end == "disconnect":
                seen = "gone"
            if node and end == NODE_DEATH:
                await node.stream.aclose()
            if form == "background":
                assert (await client.reply()).status == 202
            if end == "key revoked":
                world.hub.keyring.revoke(record.id, HUB)
                await world.hub.flights.empty()
            if end == "config change":
                change_provider(world)
                assert len(world.hub.flights) == 1, "what runs goes on with what it began with"
            if end in {"interrupt", "config change"}:
                receipt = (await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})).json
                seen = f"receipt: {receipt.get('state', receipt.get('reason'))}"
            if end == "drain":
                world.hub.flights.is_draining = True
                world.hub.flights.interrupt_all("the hub is about to end")
                await world.hub.flights.empty()
            if form != "background" and end != "disconnect":
                seen = shown(await client.reply())
            if form == "background" and end == "deadline":
                await trio.sleep(DEADLINE_S + 1)
            if form == "background" and end == NODE_DEATH:
                await world.hub.flights.empty()
        if form == "background" and end == "disconnect":
            assert len(world.hub.flights) == 1, "a background chat goes on"
            seen = "goes on"
            world.hub.flights.interrupt_all("the test has seen enough")
            await world.hub.flights.empty()
        await settled(world)
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
        await check_background(world, form, end, seen)
        for number in range(len(world.provider.connections)):
            await check_provider(world, number, is_replaced=end == "config change")
        await settled(world)
        kept = len(world.hub.backgrounds)
        providers = sum(not one.closed_by for one in world.provider.connections) * 3
        assert trio.lowlevel.current_statistics().tasks_living <= tasks + kept + providers
        world.hub.flights.is_draining = False
        phases.release()
        assert (await world.chat(say("x", "hello"))).status == 200
        return seen


def change_provider(world):
    """Put a config in force in which the provider is another one: the step of a change that nothing waits in."""
    settings = world.hub.settings
    before, config = settings.current, settings.current.config
    entry = replace(config.upstreams[0], max_concurrency=7)
    plan = Plan(before.source, replace(config, upstreams=[entry]), before.source.text)
    settings._exchange(before, plan, settings._successor(before, plan), Origin("api"))


async def check_provider(world, number, *, is_replaced):
    """The provider's connection was closed by the hub, or is idle in the pool, whole; not that of one that is no more."""
    connection = world.provider.connections[number]
    idle = world.hub.models.upstreams["up"]._relay._idle
    if not connection.closed_by:
        assert not is_replaced
        assert len(idle) >= 1
    else:
        assert connection.closed_by == "peer"


async def check_background(world, form, end, seen):
    if form != "background":
        assert len(world.hub.backgrounds) == 0
        return
    (chat,) = world.hub.backgrounds._kept.values()
    assert chat.status != "running"


def shown(reply):
    if reply.status != 200:
        return f"{reply.status} {reply.json['error']['code']}"
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return "200"
    last = events(reply)[-1]
    return f"event {last['error']['code']}" if "error" in last else f"event {last.get('apex', 'stop')}"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("form", FORMS)
async def test_nothing_is_left(tmp_path, autojump_clock, form, phase, end):
    seen = await run_case(tmp_path, form, phase, end)
    assert seen == expected(form, phase, end)


@pytest.mark.parametrize("phase", NODE_PHASES)
@pytest.mark.parametrize("form", FORMS)
async def test_nothing_is_left_of_a_node_that_has_died(tmp_path, autojump_clock, form, phase):
    seen = await run_case(tmp_path, form, phase, NODE_DEATH)
    assert seen == expected(form, phase, NODE_DEATH)


def expected(form, phase, end):
    """What the client sees; the matrix in the docs is this."""
    if form == "background":
        stopped = dict.fromkeys(["interrupt", "config change"], "receipt: stopped")
        return {"disconnect": "goes on", **stopped}.get(end, "")
    if end == NODE_DEATH:
        return "event stop" if form == "stream" else "200"
    if end == "disconnect":
        return "gone"
    begun = phase in {"mid-stream", "in tool", "callback wait", "between rounds", *NODE_PHASES}
    if form == "stream" and (begun or end == "deadline"):
        # At the deadline, 30 s of silence have begun the reply with a sign of life.
        return "event timeout" if end == "deadline" else "event {'interrupted': True}"
    return "504 timeout" if end == "deadline" else "499 interrupted"


@pytest.mark.parametrize("stream", [True, False])
async def test_after_done_nothing_is_left(tmp_path, autojump_clock, stream):
    async with open_world(tmp_path) as world:
        reply = await world.chat(say("x", "hold-open", stream=stream))
        assert reply.status == 200
        assert (await world.provider.closed(0)).closed_by == "peer"
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


def matrix():
    ends = [*ENDS, NODE_DEATH]
    rows = ["| form | phase | " + " | ".join(ends) + " |", "|---" * (len(ends) + 2) + "|"]
    for form in FORMS:
        for phase in PHASES:
            cells = [expected(form, phase, end) or "kept as failed or interrupted" for end in ENDS]
            is_there = phase in NODE_PHASES
            cells.append((expected(form, phase, NODE_DEATH) or "completed") if is_there else "–")
            rows.append(f"| {form} | {phase} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def test_the_docs_show_the_matrix():
    head = (
        "# The leak matrix\n\nWritten by `tests/test_leaks.py`. Each cell was run: a chat in that form, held in that\n"
        "phase, ended that way. The cell says what the client sees. After each one the hub holds no flight, no slot\n"
        "and no task more than before, the provider's connection is closed by the hub or back in its pool, and the\n"
        "next chat is answered. A config change that replaces the provider ends nothing: the chat goes on with the one it\n"
        "began with, and is then interrupted.\n\n"
    )
    if os.environ.get("UPDATE_DOCS"):
        TABLE.write_text(head + matrix(), encoding="utf-8")
    assert TABLE.read_text("utf-8") == head + matrix(), "run it with UPDATE_DOCS=1"
