"""A client's device, as the protocol asks of one: it keeps its position, and what it was told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from wsproto.events import AcceptConnection

from tests.harness.node import FakeNode, key_for
from tests.harness.world import World

PATH = "/abp-client"


@dataclass
class Memory:
    """What a device has, over its connections.

    Attributes:
        told: All events but those of chats, in order.
        texts: Of each chat, by its id.
        ended: How each chat ended.
        is_whole: Nothing was lost so far.
    """

    epoch: str = ""
    seq: int = 0
    told: list[tuple[str, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True

    def take(self, frame: dict[str, Any]) -> None:
        kind, data = frame["type"], frame["data"]
        if kind == "resumed":
            self.is_whole = self.is_whole and data["recovered"]
        if kind in {"connection_ack", "resumed"}:
            # A resume that was recovered goes on from what was had.
            if (kind == "connection_ack" and not self.epoch) or not data.get("recovered", True):
                self.epoch, self.seq = frame["epoch"], frame["seq"]
            return
        if kind == "chat.started":
            self.texts[data["requestId"]] = ""
        elif kind == "chat.chunk":
            piece = data["delta"].get("content") or ""
            self.texts[data["requestId"]] = self.texts.get(data["requestId"], "") + piece
        elif kind in {"chat.completed", "chat.failed"}:
            self.texts[data["requestId"]] = data["content"]
            self.ended[data["requestId"]] = kind
        elif kind in {
            "notification",
            "alert",
            "reminder",
            "node.status",
            "task.status",
            "notification.acked",
        }:
            self.told.append((kind, data))
        else:
            return
        self.epoch, self.seq = frame["epoch"], max(self.seq, frame["seq"])

    @property
    def query(self) -> str:
        """What it says on coming again."""
        return f"?epoch={self.epoch}&seq={self.seq}" if self.epoch else ""


class FakeClient:
    """One connection of a device."""

    def __init__(self, wire: FakeNode, memory: Memory) -> None:
        self.wire = wire
        self.memory = memory
        self.ack: dict[str, Any] = {}

    async def say(self, kind: str, data: Any = None) -> None:
        await self.wire.say(json.dumps({"type": kind, "data": data if data is not None else {}}))

    async def frame(self) -> dict[str, Any] | None:
        """Return the next frame, or None once the hub has closed."""
        with trio.fail_after(60):
            text = await self.wire.raw()
        if text is None:
            return None
        frame: dict[str, Any] = json.loads(text)
        self.memory.take(frame)
        return frame

    async def next(self) -> dict[str, Any]:
        """Return the next frame; there is one."""
        frame = await self.frame()
        assert frame is not None, f"closed with {self.wire.closed}"
        return frame

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """Return the next frame of one of these kinds, passing over others."""
        while (frame := await self.frame()) is not None:
            if frame["type"] in kinds:
                return frame
        raise AssertionError(f"closed with {self.wire.closed} before {kinds}")

    async def chat_end(self, request_id: str) -> dict[str, Any]:
        """Listen until a chat has ended."""
        while True:
            frame = await self.hear("chat.completed", "chat.failed")
            if frame["data"]["requestId"] == request_id:
                data: dict[str, Any] = frame["data"]
                return data


@asynccontextmanager
async def listening(
    world: World, key: str | None = None, memory: Memory | None = None, query: str | None = None
) -> AsyncIterator[FakeClient]:
    """Connect with a key of the scope `chat`, going on where `memory` stands; leaving hangs up."""
    memory = memory or Memory()
    asked = memory.query if query is None else query
    async with world.client() as http:
        wire = FakeNode(http.stream)
        key = key or key_for(world, "chat")
        accepted = await wire.open(f"{PATH}/VCP_Key={key}{asked}")
        assert isinstance(accepted, AcceptConnection), accepted
        client = FakeClient(wire, memory)
        client.ack = await client.hear("connection_ack")
        yield client
