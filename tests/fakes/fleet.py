"""Many agents in one process: the real agent over real sockets, with a tool that waits to be let go."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import trio

from apexbridge_trio.agent.address import parse_hub
from apexbridge_trio.agent.agent import Agent, Door
from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.registration import Profile
from apexbridge_trio.config import Secret
from apexbridge_trio.plugins import CallContext, Later, Plugins
from apexbridge_trio.plugins.tool import Kind


@dataclass
class FleetTool:
    """Counts its runs, and ends when the fleet is let go."""

    fleet: "Fleet"
    name: str
    idempotent: bool
    description: str = "For a test."
    plugin: str = "fleet"
    kind: Kind = "plugin"
    max_execution_s: float = 600.0
    later: Later | None = None
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object"})

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any:
        self.fleet.runs[arguments["id"]] += 1
        await self.fleet.go.wait()
        return {"did": arguments["id"]}


class FleetPlugins:
    """What an agent asks of its plugins."""

    def __init__(self, tools: Mapping[str, FleetTool]) -> None:
        self.tools = tools

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def exchanged(self) -> None:
        await trio.sleep_forever()


class Fleet:
    """Agents, and what they did.

    Attributes:
        runs: How often each piece of work was begun, anywhere.
        joined: When each registration was, in Trio time.
    """

    def __init__(self, url: str, key: str, home: Path) -> None:
        self.go = trio.Event()
        self.runs: Counter[str] = Counter()
        self.joined: list[float] = []
        self._door = Door(parse_hub(url), lambda: Secret(key))
        self._home = home
        self._tools = {
            name: FleetTool(self, name, idempotent) for name, idempotent in (("work", False), ("again", True))
        }

    async def run(self, many: int) -> None:
        """Be so many nodes until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(many):
                nursery.start_soon(self._one, f"n{number}", name=f"agent {number}")

    async def _one(self, name: str) -> None:
        home = self._home / name
        home.mkdir(parents=True)
        profile = Profile(node_id=name, name=name, type="worker", capabilities=(), max_concurrent=4)
        plugins = cast("Plugins", FleetPlugins(self._tools))
        agent = Agent(self._door, profile, plugins, Kept(home), watches=False)
        note = agent._note_state

        def told(state: str) -> None:
            if state == "registered":
                self.joined.append(trio.current_time())
            note(state)

        agent._note_state = told  # type: ignore[method-assign]
        await agent.run()
