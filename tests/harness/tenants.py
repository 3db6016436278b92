"""Three tenants in one hub, random traffic over every room, and an eye on each byte that reaches one of them.

Every word of a tenant's (texts, ids, names of tools and nodes, keys) holds the tenant's own mark, and every
id the hub makes belongs to the tenant who saw it first. What reaches a tenant, its devices, its nodes, or the
provider on its behalf, may hold no mark and no id of another, but for one that it has asked for itself.

A probe asks twice, for what is another's and for what is nobody's, and compares the answers.
"""

import json
import random
import re
import statistics
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.config import KeyLimits, Limits
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.plugins import CallContext, Later, Pending
from apexbridge_trio.protocol.frames import Heartbeat, LlmRequest, LlmResponse, TaskAssign, TaskCancel
from tests.harness.client import FakeClient, listening
from tests.harness.node import FakeNode, joined, key_for
from tests.harness.wire import Reply
from tests.harness.world import Client, World, open_world, say

# No letter in common, and none of a hexadecimal number: no word of one is like another's, or like an id.
MARKS: Final = {"alfa": "kzkzkzkz", "bravo": "jxjxjxjx", "charlie": "wvwvwvwv"}
NOBODY: Final = "ytytytyt"
# Ids that the hub makes for somebody; `hub_` and `ep_` are of the hub, and everybody's.
_MADE: Final = re.compile(r"\b(?:req|task|node|conn|evt|rem|notice|chatcmpl|call)_[0-9a-f]{32}\b")
_RECENT: Final = 20
# In no header that depends on who asks how often, and when.
_VARIES: Final = {"date", "x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"}
HOUSE: Final = Principal("house", "the-house", None, frozenset({"admin"}))
_BEGAN: Final = 1_800_000_000.0

Operation = Callable[["Tenants", "Tenant"], Awaitable[None]]


@dataclass
class Tenant:
    """One of them, with a connection, a device, a node, and what is known to be its own."""

    name: str
    mark: str
    keys: dict[str, str]
    key_ids: list[str]
    wire: Client
    ear: FakeClient | None = None
    node: FakeNode | None = None
    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    remaining: dict[str, tuple[float, int]] = field(default_factory=dict)
    is_limited: bool = False
    # What it has asked for of others: its own log says so, as far back as a log goes.
    asked: deque[str] = field(default_factory=lambda: deque(maxlen=600))

    def know(self, kind: str, name: str) -> None:
        self.ids[kind] = [*self.ids[kind][1 - _RECENT :], name]


class Tenants:
    """The traffic.

    Attributes:
        seed: Of all that is random.
        done: How often each operation was done.
        pairs: Of each probe, how long the two answers took, seconds.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.tenants: list[Tenant] = []
        self.owners: dict[str, str] = {}
        self.done: dict[str, int] = defaultdict(int)
        self.pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.answers: dict[str, trio.MemoryReceiveChannel[dict[str, Any]]] = {}
        self.ended: dict[str, trio.Event] = {}
        self.number = 0
        self.admin_key = ""

    # What is looked at.

    def check(self, tenant: Tenant, text: str, asked: tuple[str, ...] = ()) -> None:
        """Look for what is another's in something that has reached a tenant."""
        for one in asked:
            text = text.replace(one, "@")
        for other in self.tenants:
            if other is not tenant:
                for mark in (other.mark, *other.key_ids):
                    assert mark not in text, f"{tenant.name} sees {mark} of {other.name}: {text[:2000]}"
        for made in _MADE.findall(text):
            owner = self.owners.setdefault(made, tenant.name)
            assert owner == tenant.name, f"{tenant.name} sees {made} of {owner}: {text[:2000]}"

    def look_at_provider(self) -> None:
        """Whatever is asked of a provider is asked for one tenant."""
        for connection in self.world.provider.connections:
            for request in connection.requests:
                body = request.body.decode()
                marks = [tenant.name for tenant in self.tenants if tenant.mark in body]
                assert len(marks) <= 1, f"a provider was asked for {marks}: {body[:2000]}"
            connection.requests.clear()

    async def ask(
        self, tenant: Tenant, method: str, path: str, body: Any = None, *headers: str, asked: str = ""
    ) -> Reply:
        """Ask as a tenant; the whole reply is looked at."""
        key = f"Authorization: Bearer {tenant.keys['all']}"
        tenant.asked.extend((asked,) if asked else ())
        asked_at = trio.current_time()
        reply = await tenant.wire.ask(method, path, body, key, *headers)
        self.check(tenant, f"{reply.headers} {reply.body.decode()}", (asked,) if asked else ())
        self.count(tenant, path, reply, asked_at)
        return reply

    def count(self, tenant: Tenant, path: str, reply: Reply, asked_at: float) -> None:
        """What is left of a tenant's limit is less by one, whatever the others have asked for meanwhile.

        That was so when it asked: what is answered later may have been counted before some of it came back.
        """
        if "x-ratelimit-remaining" not in reply.headers:
            return
        kind = (
            "chat" if path.startswith("/v1/chat") else "callback" if path.startswith("/plugin") else "control"
        )
        left = int(reply.headers["x-ratelimit-remaining"])
        at, before = tenant.remaining.get(kind, (-1.0, 0))
        if at == asked_at and reply.status != 429:
            assert left == before - 1, (tenant.name, kind, before, left)
        tenant.remaining[kind] = asked_at, left
        assert reply.status != 429 or tenant.is_limited, reply.body

    async def same(
        self, tenant: Tenant, kind: str, theirs: str, unknown: str, ask: Callable[[str], Awaitable[Any]]
    ) -> None:
        """Ask for what is another's and for what is nobody's, in any order: the answers are the same."""
        tenant.asked.extend((theirs, unknown))
        answers, took = {}, {}
        names = [theirs, unknown]
        self.random.shuffle(names)
        for name in names:
            began = time.perf_counter()
            answers[name] = _shape(await ask(name), name)
            took[name] = time.perf_counter() - began
        assert answers[theirs] == answers[unknown], (kind, answers)
        self.pairs[kind].append((took[theirs], took[unknown]))

    def look_past(self) -> None:
        """Forget what a provider was asked: it named what is another's, because the asker did."""
        for connection in self.world.provider.connections:
            connection.requests.clear()

    # Names.

    def word(self, tenant: Tenant, what: str = "w") -> str:
        """A word that holds the tenant's mark, and was never said before."""
        self.number += 1
        return f"{what}-{tenant.mark}-{self.number}"

    def awaited(self, name: str) -> trio.Event:
        """Return what is set when a device or a node is told the end of something."""
        self.ended[name] = event = trio.Event()
        return event

    def end(self, name: str) -> None:
        if (event := self.ended.pop(name, None)) is not None:
            event.set()

    def other(self, tenant: Tenant) -> Tenant:
        return self.random.choice([one for one in self.tenants if one is not tenant])

    def foreign(self, tenant: Tenant, kind: str) -> tuple[str, str] | None:
        """An id of another tenant's, and one of the same form that is nobody's."""
        known = self.other(tenant).ids[kind]
        if not known:
            return None
        theirs = self.random.choice(known)
        if _MADE.fullmatch(theirs):
            return theirs, new_id(theirs.partition("_")[0])
        return theirs, nobodys(theirs)

    async def run(self, operations: int) -> None:
        """Do so many."""
        chosen, weights = zip(*OPERATIONS.items(), strict=True)
        for number in range(operations):
            [operation] = self.random.choices(chosen, weights)
            tenant = self.random.choice(self.tenants)
            await operation(self, tenant)
            self.done[operation.__name__.strip("_")] += 1
            if number % 50 == 0:
                self.look_at_provider()
        self.look_at_provider()

    def figures(self) -> str:
        """Say what was done, and by how much the answers to probes differ in time."""
        lines = [f"{name:18} {number:7d}" for name, number in sorted(self.done.items())]
        for kind, pairs in sorted(self.pairs.items()):
            gaps = [theirs - unknown for theirs, unknown in pairs]
            theirs, unknown = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
            gap = statistics.median(gaps) * 1e6
            spread = statistics.quantiles(gaps, n=4) if len(gaps) > 1 else [0.0, 0.0, 0.0]
            lines.append(
                f"{kind:30} {len(pairs):6d} pairs, theirs {theirs:7.1f} us, unknown {unknown:7.1f} us, "
                f"median gap {gap:+6.1f} us (quartiles {spread[0] * 1e6:+.1f} {spread[2] * 1e6:+.1f})"
            )
        return "\n".join(lines)


def nobodys(name: str) -> str:
    """An id of the same form that is nobody's."""
    return re.sub("|".join(MARKS.values()), NOBODY, name)


def _shape(answer: Any, name: str) -> Any:
    """What is compared of an answer: all of it, up to the id that was asked for and the request's own."""
    if isinstance(answer, Reply):
        headers = {key: value for key, value in answer.headers.items() if key not in _VARIES}
        body = answer.body.decode().replace(name, "@")
        own = answer.headers["x-request-id"]
        # What a model says has an id of its own, and its length goes with it.
        body = re.sub(r'"id":"chatcmpl[^"]*"', "", body.replace(own, "#"))
        if "chat.completion" in body:
            del headers["content-length"]
        return answer.status, headers, body
    return json.dumps(answer["data"]).replace(name, "@")


# Operations: what one tenant does.


async def _chat(all_: Tenants, tenant: Tenant) -> None:
    text, stream = all_.word(tenant), all_.random.random() < 0.5
    body = say(text, "echo", stream=stream, apex={"push": all_.random.random() < 0.3})
    if all_.random.random() < 0.5:  # a name that all of them use
        body["requestId"] = f"same-{all_.random.randrange(3)}"
    reply = await all_.ask(tenant, "POST", "/v1/chat/completions", body)
    assert reply.status == 429 or text in reply.body.decode(), reply


async def _tool_chat(all_: Tenants, tenant: Tenant) -> None:
    """A model calls a tool of the tenant's node; one of another's node is not there."""
    word = all_.word(tenant)
    theirs = f"tool_{all_.other(tenant).mark}"
    lines = [f'tool_{tenant.mark} {{"say": "{word}"}}']
    is_foreign = all_.random.random() < 0.2
    if is_foreign:
        lines = [f"{theirs} {{}}"]
    body = say("\n".join(lines), "hands")
    reply = await all_.ask(tenant, "POST", "/v1/chat/completions", body, asked=theirs if is_foreign else "")
    # Our own request names the other's tool, and the provider is sent it: only this is looked past.
    if is_foreign:
        all_.look_past()
    elif reply.status != 429:
        assert f"did {word}" in reply.body.decode(), reply


async def _background(all_: Tenants, tenant: Tenant) -> None:
    name, word = all_.word(tenant, "req"), all_.word(tenant)
    later = all_.random.random() < 0.5
    task = all_.word(tenant, "song")
    text = f'later {{"task": "{task}", "say": "{word}"}}' if later else word
    body = say(text, "hands" if later else "echo", requestId=name, apex={"background": True, "push": True})
    reply = await all_.ask(tenant, "POST", "/v1/chat/completions", body)
    if reply.status == 429:
        return
    assert reply.status == 202, reply
    tenant.know("request", name)
    await trio.sleep(0.001)
    if later:
        tenant.know("later", task)
        await _bring(all_, tenant, task)
    shown = await all_.ask(tenant, "GET", f"/v1/requests/{name}")
    assert shown.status == 200, shown


async def _bring(all_: Tenants, tenant: Tenant, task: str) -> None:
    """Bring a result with the tenant's key, after another has tried to."""
    path = f"/plugin-callback/test/{task}"
    wrong = all_.other(tenant)
    done = {"status": "success", "output": all_.word(wrong)}
    refused = await all_.ask(wrong, "POST", path, done, asked=task)
    assert refused.status in {404, 429}, refused
    reply = await all_.ask(tenant, "POST", path, {"status": "success", "output": all_.word(tenant)})
    assert reply.status == 200, reply


async def _live(all_: Tenants, tenant: Tenant) -> None:
    """A chat is in flight; others see nothing of it, and can not stop it; its owner can."""
    name = all_.word(tenant, "req")
    async with all_.world.client() as client:
        key = f"Authorization: Bearer {tenant.keys['all']}"
        await client.chat(say(all_.word(tenant), "stall", requestId=name), key)
        await trio.sleep(0.001)
        if not any(flight.name == name for flight in all_.world.hub.flights.roots(HOUSE)):
            assert (await client.reply()).status == 429
            return
        tenant.know("request", name)
        other = all_.other(tenant)
        await all_.ask(other, "GET", "/v1/requests")
        await _probe_live(all_, other, name)
        listed = await all_.ask(tenant, "GET", "/v1/requests")
        assert name in listed.body.decode()
        receipt = await all_.ask(tenant, "POST", "/v1/interrupt", {"requestId": name})
        assert receipt.json["state"] == "stopped"
        ended = await client.reply()
        all_.check(tenant, ended.body.decode())
        assert ended.status == 499


async def _probe_live(all_: Tenants, asker: Tenant, name: str) -> None:
    unknown = nobodys(name)

    async def interrupt(one: str) -> Reply:
        return await all_.ask(asker, "POST", "/v1/interrupt", {"requestId": one}, asked=one)

    async def look(one: str) -> Reply:
        return await all_.ask(asker, "GET", f"/v1/requests/{one}", asked=one)

    await all_.same(asker, "live request, interrupt", name, unknown, interrupt)
    await all_.same(asker, "live request, look", name, unknown, look)


async def _node_task(all_: Tenants, tenant: Tenant) -> None:
    """An administrator has a tenant's node work: the task, its events and its result are the tenant's."""
    word = all_.word(tenant)
    key = f"Authorization: Bearer {all_.admin_key}"
    asked = {"toolName": f"tool_{tenant.mark}", "toolArgs": {"say": word}, "waitForResult": True}
    node = f"node-{tenant.mark}"
    reply = await all_.world.ask("POST", f"/v1/nodes/{node}/tasks", asked, key)
    assert reply.status == 200, reply
    task = reply.json["taskId"]
    all_.owners.setdefault(task, tenant.name)
    tenant.know("task", task)
    shown = await all_.ask(tenant, "GET", f"/v1/tasks/{task}")
    assert word in shown.body.decode()


async def _device_chat(all_: Tenants, tenant: Tenant) -> None:
    name = all_.word(tenant, "req")
    if tenant.is_limited:
        return
    assert tenant.ear is not None
    over = all_.awaited(name)
    tenant.remaining.pop("chat", None)  # it is one of its chats, and no reply says how many are left
    await tenant.ear.say("chat", say(all_.word(tenant), "echo", requestId=name))
    await over.wait()
    tenant.know("request", name)


async def _node_asks(all_: Tenants, tenant: Tenant) -> None:
    """A tenant's node asks a model."""
    name, word = all_.word(tenant, "llm"), all_.word(tenant)
    assert tenant.node is not None
    over = all_.awaited(name)
    messages = [{"role": "user", "content": word}]
    options = {"stream": all_.random.random() < 0.5}
    await tenant.node.tell(LlmRequest(request_id=name, messages=messages, model="echo", options=options))
    await over.wait()


async def _lists(all_: Tenants, tenant: Tenant) -> None:
    other = all_.other(tenant)
    path = all_.random.choice(
        [
            "/v1/requests",
            "/v1/nodes",
            "/v1/tasks?state=succeeded",
            "/v1/reminders",
            "/v1/notifications",
            "/v1/events?follow=false",
            "/v1/events?follow=false&topics=chat",
            "/v1/models",
            f"/v1/tasks?node=node-{other.mark}",
            f"/v1/nodes?capability=cap-{other.mark}",
        ]
    )
    asked = other.mark if other.mark in path else ""
    reply = await all_.ask(tenant, "GET", path, asked=asked)
    assert reply.status == 200, reply
    if asked:
        assert reply.json == []


async def _logs(all_: Tenants, tenant: Tenant) -> None:
    """A tenant's log is of its own work; what it has asked for of others it has said itself."""
    level = all_.random.choice(["", "&level=debug"])
    key = f"Authorization: Bearer {tenant.keys['all']}"
    asked_at = trio.current_time()
    reply = await tenant.wire.ask("GET", f"/v1/logs?follow=false{level}", None, key)
    assert reply.status == 200, reply
    all_.count(tenant, "/v1/logs", reply, asked_at)
    assert b"data: " in reply.body, "its last request at least is in it"
    all_.check(tenant, reply.body.decode(), tuple(sorted(set(tenant.asked), key=len, reverse=True)))


async def _reminder(all_: Tenants, tenant: Tenant) -> None:
    text = all_.word(tenant)
    action = all_.random.choice([{"notify": True}, {"chat": text}, None])
    body = {"text": text, "in": all_.random.randrange(1, 60), **({"action": action} if action else {})}
    if all_.random.random() < 0.2:
        body = {"text": text, "cron": "0 8 * * *", "timezone": "Asia/Shanghai"}
    made = await all_.ask(tenant, "POST", "/v1/reminders", body)
    assert made.status in {201, 429}, made
    if made.status == 201:
        tenant.know("reminder", made.json["id"])
        if all_.random.random() < 0.5:
            await all_.ask(tenant, "DELETE", f"/v1/reminders/{made.json['id']}")


async def _notify(all_: Tenants, tenant: Tenant) -> None:
    made = await all_.ask(tenant, "POST", "/v1/notifications", {"message": all_.word(tenant)})
    assert made.status in {201, 429}, made
    if made.status == 201:
        tenant.know("notice", made.json["id"])


async def _acknowledge(all_: Tenants, tenant: Tenant) -> None:
    for notice in (await all_.ask(tenant, "GET", "/v1/notifications")).json:
        reply = await all_.ask(tenant, "POST", f"/v1/notifications/{notice['id']}/ack")
        assert reply.status == 200, reply


async def _time_passes(all_: Tenants, _tenant: Tenant) -> None:
    for one in all_.tenants:
        assert one.node is not None
        await one.node.tell(Heartbeat(f"node-{one.mark}", "online"))
    await trio.sleep(all_.random.random() * 20)


async def _resume(all_: Tenants, tenant: Tenant) -> None:
    """A device comes with the position of another's."""
    epoch, seq = all_.world.hub.events.epoch, all_.random.randrange(2000)
    reply = await all_.ask(
        tenant,
        "GET",
        f"/v1/events?follow=false&epoch={epoch}&seq={seq}",
        None,
        f"Last-Event-ID: {epoch}:{seq}",
    )
    assert reply.status == 200, reply


async def _tenant_header(all_: Tenants, tenant: Tenant) -> None:
    """To name another tenant is refused, and it is not said whether there is one."""

    async def name(one: str) -> Reply:
        return await all_.ask(tenant, "GET", "/v1/requests", None, f"X-Tenant-Id: {one}", asked=one)

    theirs = f"t-{all_.other(tenant).mark}"
    await all_.same(tenant, "tenant header", theirs, nobodys(theirs), name)


# What is another's, and what is nobody's.

PROBES: Final[dict[str, tuple[str, str, str, Any]]] = {
    "request, look": ("request", "GET", "/v1/requests/{}", None),
    "request, interrupt": ("request", "POST", "/v1/interrupt", {"requestId": "{}"}),
    "request, interrupt a path": ("request", "POST", "/v1/interrupt", {"path": "{}/round1/llm"}),
    "task, interrupt": ("task", "POST", "/v1/interrupt", {"taskId": "{}"}),
    "task, look": ("task", "GET", "/v1/tasks/{}", None),
    "task, retry": ("task", "POST", "/v1/tasks/{}/retry", None),
    "task, delete": ("task", "DELETE", "/v1/tasks/{}", None),
    "tasks of a node": ("node", "GET", "/v1/tasks?node={}", None),
    "later, look": ("later", "GET", "/v1/tasks/{}", None),
    "later, delete": ("later", "DELETE", "/v1/tasks/{}", None),
    "later, callback": ("later", "POST", "/plugin-callback/test/{}", {"status": "success", "output": 1}),
    "node, look": ("node", "GET", "/v1/nodes/{}", None),
    "node, delete": ("node", "DELETE", "/v1/nodes/{}", None),
    "node, drain": ("node", "POST", "/v1/nodes/{}/drain", None),
    "node, tasks": ("node", "POST", "/v1/nodes/{}/tasks", {"toolName": "x"}),
    "notice, ack": ("notice", "POST", "/v1/notifications/{}/ack", None),
    "reminder, look": ("reminder", "GET", "/v1/reminders/{}", None),
    "reminder, delete": ("reminder", "DELETE", "/v1/reminders/{}", None),
    "reminder with a tool": (
        "tool", "POST", "/v1/reminders", {"text": "x", "in": 5, "action": {"tool": "{}"}}
    ),
    "chat at a node": (
        "node",
        "POST",
        "/v1/chat/completions",
        {"model": "echo", "messages": [{"role": "user", "content": "x"}], "apex": {"node": "{}"}},
    ),
    "chat with a tool": (
        "tool",
        "POST",
        "/v1/chat/completions",
        {"model": "hands", "messages": [{"role": "user", "content": "{} {{}}"}], "apex": {"tools": ["{}"]}},
    ),
}  # fmt: skip


async def _probe(all_: Tenants, tenant: Tenant) -> None:
    kind = all_.random.choice(sorted(PROBES))
    of, method, path, body = PROBES[kind]
    if (found := all_.foreign(tenant, of)) is None or tenant.is_limited:
        return

    async def ask(name: str) -> Reply:
        text = json.dumps(body).replace("{{}}", "[]").replace("{}", name).replace("[]", "{}")
        sent = None if body is None else json.loads(text)
        return await all_.ask(tenant, method, path.format(name), sent, asked=name)

    await all_.same(tenant, kind, *found, ask)
    all_.look_past()


async def _probe_device(all_: Tenants, tenant: Tenant) -> None:
    """The same over the client channel."""
    kind, of, field_name = all_.random.choice(
        [("interrupt", "request", "requestId"), ("interrupt", "task", "taskId"), ("ack", "notice", "id")]
    )
    if (found := all_.foreign(tenant, of)) is None:
        return

    async def ask(name: str) -> dict[str, Any]:
        assert tenant.ear is not None
        await tenant.ear.say(kind, {field_name: name})
        frame = await all_.answers[tenant.name].receive()
        all_.check(tenant, json.dumps(frame), (name,))
        return frame

    await all_.same(tenant, f"device: {kind} {field_name}", *found, ask)


OPERATIONS: Final[dict[Operation, float]] = {
    _chat: 20,
    _tool_chat: 6,
    _background: 5,
    _live: 4,
    _node_task: 4,
    _device_chat: 3,
    _node_asks: 3,
    _lists: 10,
    _logs: 2,
    _reminder: 5,
    _notify: 5,
    _acknowledge: 1,
    _time_passes: 3,
    _resume: 2,
    _tenant_header: 2,
    _probe: 27,
    _probe_device: 6,
}


async def _listen(all_: Tenants, tenant: Tenant, answers: trio.MemorySendChannel[dict[str, Any]]) -> None:
    assert tenant.ear is not None
    while (text := await tenant.ear.wire.raw()) is not None:
        frame = json.loads(text)
        if frame["type"] in {"interrupt_receipt", "acked", "error"}:
            answers.send_nowait(frame)
        else:
            all_.check(tenant, text)
            if frame["type"] in {"chat.completed", "chat.failed"}:
                all_.end(frame["data"]["requestId"])


async def _work(all_: Tenants, tenant: Tenant) -> None:
    node = tenant.node
    assert node is not None
    while (text := await node.raw()) is not None:
        all_.check(tenant, text)
        said = node.end.receive(text)
        if isinstance(said, TaskAssign):
            arguments = msgspec.json.decode(msgspec.json.encode(said.tool_args))
            await node.answer(said.task_id, f"did {arguments.get('say')}")
        elif isinstance(said, TaskCancel):
            await node.confirm(said.task_id)
        elif isinstance(said, LlmResponse):
            all_.end(said.request_id)


@asynccontextmanager
async def open_tenants(state: Path, seed: int) -> AsyncIterator[Tenants]:
    """Run a hub with three tenants; the last of them has a limit of its own, and reaches it."""
    began = trio.current_time()
    clock = lambda: _BEGAN + trio.current_time() - began  # noqa: E731
    async with open_world(state, now=clock) as world, AsyncExitStack() as stack:
        all_ = Tenants(world, seed)
        all_.admin_key = key_for(world, "admin", tenant="the-house")
        _add_later(world)
        for name, mark in MARKS.items():
            wire = await stack.enter_async_context(world.client())
            tenant = Tenant(name, mark, {}, [], wire)
            for kind, scopes in (("all", ["chat", "callback", "logs"]), ("node", ["node"])):
                key, record = world.hub.keys.create(
                    scopes=scopes, tenant_id=f"t-{mark}", name=f"key of {mark}"
                )
                tenant.keys[kind] = key
                tenant.key_ids.append(record.id)
            all_.tenants.append(tenant)
        limited = all_.tenants[-1]
        limited.is_limited = True
        own = KeyLimits(chats_per_minute=20)
        world.hub.limiter.replace(Limits(
            chats_per_minute=100_000, callbacks_per_minute=100_000, control_per_minute=100_000,
            keys={limited.key_ids[0]: own},
        ))  # fmt: skip
        for tenant in all_.tenants:
            await _furnish(all_, tenant, stack)
        yield all_


async def _furnish(all_: Tenants, tenant: Tenant, stack: AsyncExitStack) -> None:
    """Give a tenant a device that listens and a node that works."""
    world, mark = all_.world, tenant.mark
    tenant.ear = await stack.enter_async_context(listening(world, tenant.keys["all"]))
    send, all_.answers[tenant.name] = trio.open_memory_channel[dict[str, Any]](100)
    world.nursery.start_soon(_listen, all_, tenant, send)
    tenant.node = await stack.enter_async_context(
        joined(
            world,
            f"node-{mark}",
            tenant.keys["node"],
            tools=[f"tool_{mark}"],
            capabilities=[f"cap-{mark}"],
        )
    )
    world.nursery.start_soon(_work, all_, tenant)
    tenant.know("node", f"node-{mark}")
    tenant.know("tool", f"tool_{mark}")


def _add_later(world: World) -> None:
    tool = world.add_tool("later")
    tool.later = Later(wait_s=900.0)

    async def call(arguments: dict[str, Any], _context: CallContext) -> Any:
        await trio.lowlevel.checkpoint()
        return Pending(arguments["task"])

    tool.call = call  # type: ignore[method-assign,assignment]
