"""An agent on the virtual clock: everything real but the disk's threads, the network and its tools."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from apexbridge_trio.agent import Agent, Door, Kept, Profile
from apexbridge_trio.agent.link import Link
from apexbridge_trio.config import Secret
from apexbridge_trio.plugins import CallContext, Later, Plugins
from apexbridge_trio.plugins.tool import Kind
from tests.fakes.nodes_hub import ADDRESS, KEY, FakeHub
from tests.plugins.folders import SUNDAY

# On the virtual clock: a safety net, not a bound that is tested.
SAFETY_S = 2_000.0


class Bell:
    """A tool that answers at once, or holds each call until it is let go, and counts what it did."""

    description, plugin, idempotent = "For a test.", "test", True
    max_execution_s = 1000.0
    kind: Kind = "plugin"

    def __init__(self, name: str, *, holds: bool = False, later: Later | None = None) -> None:
        self.name = name
        self.parameters: dict[str, Any] = {"type": "object"}
        self.later = later
        self.holds = holds
        self.result: Any = {"pong": True}
        self.fault: Exception | None = None
        self.calls: list[CallContext] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self._free = trio.Event()
        self._news = trio.Event()

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any:
        self.calls.append(context)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self._wake()
        try:
            if self.holds:
                await self._free.wait()
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self._wake()
        if self.fault:
            raise self.fault
        return self.result(context) if callable(self.result) else self.result

    def let_go(self) -> None:
        self._free.set()
        self._free = trio.Event()

    async def called(self, count: int = 1) -> None:
        while len(self.calls) < count:
            await self._news.wait()

    async def gone(self) -> None:
        while self.running:
            await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@dataclass
class Node:
    """An agent that runs."""

    agent: Agent
    hub: FakeHub
    kept: Kept
    plugins: Plugins
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def link(self) -> Link:
        assert self.agent._link is not None
        return self.agent._link

    def offer(self, *tools: Bell) -> None:
        """Exchange what it can, as a changed folder does."""
        offer = replace(self.plugins.offer, tools={tool.name: tool for tool in tools})
        self.plugins.offer = offer
        self.plugins._exchanged.set()
        self.plugins._exchanged = trio.Event()

    async def drain(self, timeout_s: float = 20.0, hurry: trio.Event | None = None) -> None:
        await self.agent.drain(timeout_s, trio.Event() if hurry is None else hurry)
        await self.ended.wait()


@asynccontextmanager
async def open_node(
    home: Path,
    hub: FakeHub,
    *tools: Bell,
    most: int = 4,
    jitter: Callable[[], float] = lambda: 0.5,
    read_key: Callable[[], Secret] = lambda: Secret(KEY),
    **profile: Any,
) -> AsyncIterator[Node]:
    """Run an agent on a hub in memory; leaving cuts it, as a crash of its loop would."""
    (home / "plugins").mkdir(exist_ok=True)
    plugins = Plugins.load([home / "plugins"], state=home, clock=lambda: SUNDAY)
    plugins.offer = replace(plugins.offer, tools={tool.name: tool for tool in tools})
    kept = Kept(home, threads=0)
    made = Profile(node_id="node_1", name="attic", max_concurrent=most, **profile)
    agent = Agent(Door(ADDRESS, read_key, hub.dial), made, plugins, kept, watches=False, jitter=jitter)
    node = Node(agent, hub, kept, plugins)

    async def run(*, task_status: Any) -> None:
        await agent.run(task_status=task_status)
        node.ended.set()

    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield node
            nursery.cancel_scope.cancel(reason="the test is over")
