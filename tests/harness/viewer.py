"""A log viewer, as a peer has it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from wsproto.events import AcceptConnection

from tests.harness.node import FakeNode, key_for
from tests.harness.world import World


class FakeViewer:
    """One connection of a viewer.

    Attributes:
        ack: The first frame.
    """

    def __init__(self, wire: FakeNode) -> None:
        self.wire = wire
        self.ack: dict[str, Any] = {}

    async def frame(self) -> dict[str, Any]:
        """Return the next frame; there is one."""
        with trio.fail_after(60):
            text = await self.wire.raw()
        assert text is not None, f"closed with {self.wire.closed}"
        frame: dict[str, Any] = json.loads(text)
        return frame

    async def line(self) -> dict[str, Any]:
        """Return what the next frame says of a line."""
        data: dict[str, Any] = (await self.frame())["data"]
        return data

    async def until(self, content: str) -> list[dict[str, Any]]:
        """Read until a line begins so; returns what came before it, and it."""
        lines = [await self.line()]
        while not lines[-1].get("content", "").startswith(content):
            lines.append(await self.line())
        return lines


@asynccontextmanager
async def viewing(
    world: World, key: str | None = None, path: str = "/ABPlog", query: str = ""
) -> AsyncIterator[FakeViewer]:
    """Connect with a key of the scope `logs`; leaving hangs up."""
    async with world.client() as http:
        viewer = FakeViewer(FakeNode(http.stream))
        accepted = await viewer.wire.open(f"{path}/VCP_Key={key or key_for(world, 'logs')}{query}")
        assert isinstance(accepted, AcceptConnection), accepted
        viewer.ack = await viewer.frame()
        yield viewer
