"""A house full of devices that are told: `make prove`."""

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.harness import process
from tests.harness.client import Memory
from tests.harness.house import NET_S, make_key
from tests.prove.test_house import percentile, rss_mb

pytestmark = pytest.mark.prove

DEVICES = 1000
CHUNKS = 60
DROPPED = 500
DROPS = 20
NOTICES = 400
LIMITS = f"{process.UNLIMITED}max_connections = 3000\n"
STAMP = re.compile(rb'"requestId":"r1","index":(\d+)')
PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"


def upgrade(key: str, query: str = "") -> bytes:
    return (
        f"GET /client{query} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {key}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


class Device:
    """One connection, by raw bytes: a library would be what is measured."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.heard: dict[int, float] = {}
        self.is_over = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(upgrade(self.key))
            data = b""
            while b"connection_ack" not in data:
                data += await stream.receive_some(65536)
            task_status.started()
            rest = b""
            async for part in stream:
                now = time.monotonic()
                if PING in part:
                    await stream.send_all(PONG)
                rest += bytes(part)
                for found in STAMP.finditer(rest):
                    self.heard.setdefault(int(found[1]), now)
                if b'"chat.completed"' in rest:
                    self.is_over.set()
                rest = rest[-200:]


async def frozen(port: int, key: str, *, task_status: trio.TaskStatus[None]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(upgrade(key))
        await stream.receive_some(12)
        task_status.started()
        await trio.sleep_forever()


async def run_chat(hub: process.Running, key: str, devices: list[Device]) -> list[float]:
    """Ask for a chat; returns the time between the first device and each, of each chunk, milliseconds."""
    for device in devices:
        device.heard, device.is_over = {}, trio.Event()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client:
        body = {
            "model": f"stream:{CHUNKS}:200",
            "messages": [{"role": "user", "content": "x"}],
            "requestId": "r1",
            "stream": True,
            "apex": {"push": True},
        }
        assert (await client.post(f"{hub.url}/v1/chat/completions", json=body)).status_code == 200
    with trio.fail_after(NET_S):
        for device in devices:
            await device.is_over.wait()
    indexes = devices[0].heard.keys()
    assert len(indexes) >= CHUNKS
    for device in devices:
        assert device.heard.keys() == indexes, "each device has every chunk"
    firsts = {index: min(device.heard[index] for device in devices) for index in indexes}
    return [(device.heard[index] - firsts[index]) * 1000 for device in devices for index in indexes]


async def test_a_thousand_devices_on_one_chat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=[f"stream:{CHUNKS}:200"]) + LIMITS
        async with process.hub(tmp_path, toml) as hub, trio.open_nursery() as nursery:
            key = await make_key(tmp_path, "chat")
            port = int(hub.url.rpartition(":")[2])
            before = rss_mb(hub.process.pid)
            devices = [Device(port, key) for _ in range(DEVICES)]
            for device in devices:
                await nursery.start(device.run)
            idle = (rss_mb(hub.process.pid) - before) / DEVICES * 1000
            spread = await run_chat(hub, key, devices)
            await nursery.start(frozen, port, key)
            beside = await run_chat(hub, key, devices)
            with capsys.disabled():
                print(
                    f"\n{DEVICES} devices, {CHUNKS} chunks to each: p50 {percentile(spread, 0.5):.0f} ms, "
                    f"p99 {percentile(spread, 0.99):.0f} ms; beside a frozen one p99 "
                    f"{percentile(beside, 0.99):.0f} ms; {idle:.1f} KB an idle device"
                )
            assert percentile(spread, 0.99) < 250
            assert percentile(beside, 0.99) < 250
            assert idle < 60
            nursery.cancel_scope.cancel(reason="measured")


class Dropped:
    """A device that is dropped at random, and goes on with its position."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.port, self.key = port, key
        self.memory = Memory()
        self.random = random.Random(seed)
        self.honest_no = 0

    async def run(self, done: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        for drop in range(DROPS + 1):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(upgrade(self.key, self.memory.query))
                events = self.random.randrange(1, 60) if drop < DROPS else None
                await self._read(stream, events, done, task_status if drop == 0 else None)

    async def _read(
        self, stream: trio.SocketStream, events: int | None, done: int, status: trio.TaskStatus[None] | None
    ) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65536)
        data = data.partition(b"\r\n\r\n")[2]
        while events is None or events > 0:
            frame, data = _frame(data)
            if frame is None:
                part = await stream.receive_some(65536)
                assert part
                data += part
            elif frame[0] == 9:
                await stream.send_all(PONG)
            elif frame[0] == 1:
                told: dict[str, Any] = json.loads(frame[1])
                if told["type"] == "connection_ack" and status is not None:
                    status.started()
                self.memory.take(told)
                events = None if events is None else events - 1
                if self._is_done(done):
                    return

    def _is_done(self, done: int) -> bool:
        return bool(self.memory.told) and self.memory.told[-1][1]["message"] == str(done)


def _frame(data: bytes) -> tuple[tuple[int, bytes] | None, bytes]:
    """Take one frame of a server off the front."""
    if len(data) < 2:
        return None, data
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + size:
        return None, data
    return (data[0] & 15, data[start : start + size]), data[start + size :]


async def test_five_hundred_devices_dropped_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=["stream:300:50"]) + LIMITS
        async with process.hub(tmp_path, toml) as hub:
            key = await make_key(tmp_path, "chat")
            port = int(hub.url.rpartition(":")[2])
            devices = [Dropped(port, key, seed) for seed in range(DROPPED)]
            headers = {"Authorization": f"Bearer {key}"}
            async with (
                httpx.AsyncClient(trust_env=False, timeout=600, headers=headers) as client,
                trio.open_nursery() as nursery,
            ):
                for device in devices:
                    await nursery.start(device.run, NOTICES - 1)
                replies: list[httpx.Response] = []

                async def ask() -> None:
                    words = [{"role": "user", "content": "x"}]
                    body = {
                        "model": "stream:300:50",
                        "messages": words,
                        "requestId": "r1",
                        "apex": {"push": True},
                    }
                    replies.append(await client.post(f"{hub.url}/v1/chat/completions", json=body))

                async with trio.open_nursery() as telling:
                    telling.start_soon(ask)
                    for number in range(NOTICES - 1):
                        reply = await client.post(
                            f"{hub.url}/v1/notifications", json={"message": str(number)}
                        )
                        assert reply.status_code == 201
                last = await client.post(f"{hub.url}/v1/notifications", json={"message": str(NOTICES - 1)})
                assert last.status_code == 201
            text = replies[0].json()["choices"][0]["message"]["content"]
            expected = [str(number) for number in range(NOTICES)]
            whole = 0
            for device in devices:
                if not device.memory.is_whole:
                    continue
                whole += 1
                assert [data["message"] for _, data in device.memory.told] == expected
                assert device.memory.texts == {"r1": text}
            with capsys.disabled():
                print(
                    f"\n{DROPPED} devices dropped {DROPS} times each: {whole} had all of it, in order; "
                    f"{DROPPED - whole} were told that they had not"
                )
            assert whole > 0
