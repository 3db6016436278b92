"""A world with a config file of its own, which can be changed; it is on the real clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from apexbridge_trio.config import ConfigFile
from tests.harness.node import key_for
from tests.harness.wire import Reply
from tests.harness.world import World, open_world

TOML = """# my house
[chat]
max_rounds = 8  # few

[[upstreams]]
name = "up"  # the provider
base_url = "http://provider.test/v1"
models = ["hello", "echo", "tools"]
headers = { "X-Of-Mine" = "the-header-of-mine" }

[[models]]
id = "hands"
upstream = "up"
name = "tools"
tools = "all"
"""

# A net for a busy machine, not a bound that is tested.
NET_S = 60.0


class House:
    """A world, and its administrator."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.path = folder / "config.toml"
        self.key = key_for(world, "admin", "chat")
        self.settings = world.hub.settings

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def revision(self) -> str:
        return self.settings.current.revision

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Reply:
        with trio.fail_after(NET_S):
            return await self.world.ask(method, path, body, f"Authorization: Bearer {self.key}", *headers)

    async def patch(self, body: Any, revision: str = "") -> Reply:
        return await self.ask("PATCH", "/v1/config", body, f'If-Match: "{revision or self.revision}"')

    async def get(self, path: str) -> Any:
        reply = await self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.json


@asynccontextmanager
async def house(folder: Path, text: str | None = TOML, **env: str) -> AsyncIterator[House]:
    if text is not None:
        (folder / "config.toml").write_text(text, "utf-8")
    file = ConfigFile(None, folder, env, etc=folder / "etc")
    async with open_world(folder, file=file) as world:
        yield House(world, folder)
