"""The whole hub in memory, on the virtual clock: real HTTP, real flights, a scripted provider.

Only the sockets are missing. A client speaks raw HTTP over a memory stream to the hardened server;
the hub speaks to `FakeUpstream` the same way. `World.look` tells what the hub holds, for the check
that a scenario left nothing.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from apexbridge_trio import config
from apexbridge_trio.clock import since_boot
from apexbridge_trio.composition import open_hub
from apexbridge_trio.hub import Hub
from apexbridge_trio.plugins import CallContext, Later
from apexbridge_trio.plugins.tool import Kind
from apexbridge_trio.protocol.sse import payloads
from apexbridge_trio.serving import ServingLimits, serve_stream
from apexbridge_trio.upstream import Upstream
from apexbridge_trio.web.crossing import shown_to
from apexbridge_trio.web.front import Front
from tests.fakes.memory import MemoryStream
from tests.fakes.upstream import FakeUpstream
from tests.harness.wire import Peer, Reply

LIMITS = ServingLimits()

# What the provider is said to offer; see the table of `tests.fakes.upstream`.
MODELS = [
    "hello",
    "echo",
    "odd",
    "slow",
    "stream:5:100",
    "stream:20:100",
    "endless:50",
    "json",
    "sse",
    "split:1",
    "no-done",
    "hold-open",
    "close",
    "until-close",
    "dead",
    "garbage",
    "garbage-json",
    "garbage-stream",
    "status:500",
    "status:401",
    "status:400",
    "status:404",
    "stall",
    "dead-mid:2",
    "stall-mid:2",
    "error-event",
]


@dataclass
class World:
    """A hub, its one provider `up`, and what its server reported as faults."""

    hub: Hub
    front: Front
    provider: FakeUpstream
    nursery: trio.Nursery
    limits: ServingLimits
    faults: list[Any] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, address: str = "127.0.0.1", *, lockstep: bool = False) -> AsyncIterator["Client"]:
        """Connect; leaving hangs up. In lockstep nothing is sent before the other end takes it."""
        near, far = MemoryStream.pair(lockstep=lockstep)
        gone = trio.Event()

        async def serve() -> None:
            try:
                await serve_stream(
                    self.front,
                    far,
                    self.limits,
                    on_fault=lambda where, fault: self.faults.append((where, fault)),
                    shown_to=shown_to,
                    client=(address, 50000),
                )
            finally:
                far.close()
                gone.set()

        self.nursery.start_soon(serve, name="connection")
        try:
            yield Client(near)
        finally:
            near.close()
            # The connection ends by itself; that it does is part of what is tested.
            with trio.CancelScope(shield=True):
                await gone.wait()

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Reply:
        """One request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(method, path, body, *headers)

    async def chat(self, body: dict[str, Any], *headers: str) -> Reply:
        return await self.ask("POST", "/v1/chat/completions", body, *headers)

    def add_tool(self, name: str, fault: Exception | None = None, *, hold: bool = False) -> "Tool":
        """Give the hub a tool that needs no thread: the virtual clock does not wait for those."""
        tool = Tool(name, fault, hold)
        offer = self.hub.plugins.offer
        self.hub.plugins.offer = replace(offer, tools={**offer.tools, name: tool})
        return tool

    def look(self) -> dict[str, int]:
        """Count what must be back to nothing when nothing is asked."""
        upstreams = self.hub.models.upstreams.values()
        return {
            "flights": len(self.hub.flights),
            "slots": sum(upstream._slots.borrowed_tokens for upstream in upstreams)
            + len(self.hub.pendings)
            + len(self.hub.nodes.tasks)
            + self.hub.limiter.held("chats")
            + self.hub.limiter.held("streams")
            + len(self.hub.reminders)
            + len(self.hub.triggers)
            + self.hub.nodes.tasks.queued
            + sum(len(node.tasks) for node in self.hub.nodes.registry),
            "faults": len(self.faults),
        }


class Tool:
    """A tool that answers at once with `result`, fails with `fault`, or holds the call for ever."""

    description, plugin, idempotent = "For a test.", "test", True
    max_execution_s = 1000.0
    kind: Kind = "plugin"
    later: Later | None = None

    def __init__(self, name: str, fault: Exception | None, hold: bool) -> None:
        self.name, self.fault, self.hold = name, fault, hold
        self.parameters: dict[str, Any] = {"type": "object"}
        self.result: Any = {"pong": True}
        self.started = trio.Event()

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any:
        self.started.set()
        await trio.lowlevel.checkpoint()
        if self.fault:
            raise self.fault
        if self.hold:
            await trio.sleep_forever()
        return self.result


class Client(Peer):
    """A client that speaks the hub's JSON."""

    async def start(self, method: str, path: str, body: Any = None, *headers: str) -> None:
        """Send a request and do not wait for the reply."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = ["Content-Type: application/json"] if body is not None else []
        lines = [f"{method} {path} HTTP/1.1", *headers, *kind, f"Content-Length: {len(data)}", "", ""]
        if not any(line.lower().startswith("host:") for line in headers):
            lines.insert(1, "Host: localhost:8088")
        await self.send("\r\n".join(lines).encode("latin-1") + data)

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Reply:
        await self.start(method, path, body, *headers)
        return await self.reply()

    async def chat(self, body: dict[str, Any], *headers: str) -> None:
        """Ask for a chat and do not wait for it."""
        await self.start("POST", "/v1/chat/completions", body, *headers)


def events(reply: Reply) -> list[dict[str, Any]]:
    """Decode a streamed reply; it must end with exactly one [DONE]."""
    assert reply.headers["content-type"].startswith("text/event-stream"), reply
    found = payloads(reply.body)
    assert found[-1] == b"[DONE]"
    assert found.count(b"[DONE]") == 1
    return [json.loads(payload) for payload in found[:-1]]


def content(reply: Reply) -> str:
    """The text of an answer, streamed or whole."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        choices = [choice for event in events(reply) for choice in event.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    return str(reply.json["choices"][0]["message"]["content"])


def say(text: str, model: str = "", **fields: Any) -> dict[str, Any]:
    """A chat body of one user message."""
    named = {"model": model} if model else {}
    return {**named, "messages": [{"role": "user", "content": text}], **fields}


@asynccontextmanager
async def open_world(
    state: Path,
    limits: ServingLimits = LIMITS,
    now: Callable[[], float] = time.time,
    quota: dict[str, Any] | None = None,
    file: config.ConfigFile | None = None,
    **sections: Any,
) -> AsyncIterator[World]:
    """Run a hub whose models are the provider's behaviours, offered without tools.

    Its journal writes at once, without a thread, for which the virtual clock would not wait; a test
    that wants the writer and the sweeper starts `hub.pendings.run` and keeps to the real clock.

    A model `hands` is the provider's `tools`, with all of the hub's tools.

    Args:
        state: The state directory.
        limits: Of the server.
        now: What the clock on the wall says; reminders go by it.
        quota: The section `limits` of the config.
        file: The config's own file, in place of the sections; it can be changed, on the real clock.
        sections: Other sections of the config, as dictionaries; `upstream` changes the provider's entry.
    """
    entry = {
        "name": "up",
        "base_url": "http://provider.test/v1",
        "models": MODELS,
        **sections.pop("upstream", {}),
    }
    hands = {"id": "hands", "upstream": "up", "name": "tools", "tools": "all"}
    models = [hands, *sections.pop("models", ())]
    made = msgspec.convert(
        {"upstreams": [entry], "models": models, "limits": quota or {}, **sections}, config.Config
    )
    source = None
    if file is not None:
        source = file.read()
        made = file.config_of(source.text)
    async with FakeUpstream() as provider, trio.open_nursery() as nursery:
        make = partial(Upstream, connect=provider.connect)
        steady = since_boot if now is time.time else trio.current_time
        opened = open_hub(made, state, make_upstream=make, now=now, file=file, source=source, steady=steady)
        with opened as hub:
            await nursery.start(hub.logs.run)
            await nursery.start(hub.backgrounds.run)
            await nursery.start(hub.nodes.run)
            await nursery.start(hub.plugins.run)
            await nursery.start(hub.reminders.run)
            await nursery.start(hub.triggers.run)
            await nursery.start(hub.daybook.run)
            world = World(hub, Front(hub), provider, nursery, limits)
            world.add_tool("ping")
            yield world
            # As their tasks do when they end, but here the store is closed first.
            hub.daybook.write()
            hub.triggers.hearing.note_all()
        nursery.cancel_scope.cancel(reason="the test is over")
