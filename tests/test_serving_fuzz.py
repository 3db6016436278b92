"""Raw bytes of HTTP/1.1, upgrades and WebSockets: the server lives, and nothing of them stays."""

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.harness.quiet import open_fds
from tests.harness.wire import UPGRADE, Paths, Served, Stream, answer, request, serving, whole_body

# Thousands of connections take a busy machine minutes; a safety net, not a bound that is tested.
SAFETY_S = 900.0
RESET = struct.pack("ii", 1, 0)
CLIENTS = 12
METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "G\x00T", "PRI", "get"]
TARGETS = ["/hello", "/echo", "/ws", "/stream", "/crash", "*", "?", "//", "/%ff%00", "http://[/", "/../é"]
HEADERS = [
    "Connection: close",
    "Connection: keep-alive, Upgrade",
    "Connection: \xff",
    "Content-Length: 5",
    "Content-Length: 99999999999999999999",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "Sec-WebSocket-Protocol: \xe9",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99",
    "Sec-WebSocket-Extensions: \xe9",
    "X-Request-Id: \x80",
    "X: " + "y" * 17_000,
    "Host: again",
    " folded",
    "no colon",
    *UPGRADE,
]
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;a=b\r\nhel",
    b"\r\n",
    bytes(3000),
]


class Fuzzer:
    """Makes inputs; the same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def input(self) -> bytes:
        make = self.random.choice([self.plain, self.plain, self.upgrade, self.upgrade, self.noise])
        data = b"".join(make() for _ in range(self.random.choice([1, 1, 1, 2, 5])))
        return self.mutated(data) if self.random.random() < 0.4 else data

    def plain(self) -> bytes:
        headers = self.random.choices(HEADERS, k=self.random.randrange(4))
        head = request(self.random.choice(METHODS[:4] * 3 + METHODS), self.random.choice(TARGETS), *headers)
        return head + self.random.choice(BODIES)

    def upgrade(self) -> bytes:
        headers = [*UPGRADE, *self.random.choices(HEADERS, k=self.random.randrange(2))]
        frames = b"".join(self.frame() for _ in range(self.random.randrange(6)))
        return request("GET", "/ws", *headers) + frames

    def frame(self) -> bytes:
        opcode = self.random.choice([0, 1, 1, 2, 2, 8, 9, 10, self.random.randrange(16)])
        first = opcode | self.random.choice([0x80, 0x80, 0x80, 0, 0x40, 0xF0])
        payload = self.random.choice(
            [b"", b"hi", "停".encode(), b"\xff", b"\x03\xe8", b"\x03", bytes(126), bytes(5000)]
        )
        size = len(payload) if self.random.random() < 0.9 else self.random.choice([0, 1, 2**62])
        mask = 0x80 if self.random.random() < 0.95 else 0
        if size < 126:
            head = bytes([first, mask | size])
        elif size < 65536:
            head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
        return head + (bytes(4) if mask else b"") + payload

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.randrange(1, 200))

    def mutated(self, data: bytes) -> bytes:
        mutant = bytearray(data)
        for _ in range(self.random.randrange(1, 5)):
            at = self.random.randrange(len(mutant) + 1)
            mutant[at : at + self.random.randrange(3)] = self.random.randbytes(self.random.randrange(3))
        return bytes(mutant)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = self.random.choice([len(data), len(data), self.random.randrange(1, 60)])
            yield data[:size]
            data = data[size:]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if (body := await whole_body(receive)) is not None:
        await answer(send, body)


async def parrot(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})
    else:
        await answer(send, b"no socket")


async def crash(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("on purpose")


class App(Paths):
    """Routes unknown paths to echo, so that no input ends at the first gate; counts what came through."""

    def __init__(self, **handlers: Any) -> None:
        super().__init__(**handlers)
        self.reached: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached[scope["path"] if scope.get("path") == "/crash" else scope["type"]] += 1
        if scope["type"] == "websocket":
            await parrot(scope, receive, send)
        elif scope["type"] == "http":
            await self.handlers.get(scope["path"].strip("/"), echo)(scope, receive, send)


async def attack(served: Served, fuzzer: Fuzzer, inputs: int) -> None:
    for _ in range(inputs):
        async with await trio.open_tcp_stream(*served.address) as stream:
            try:
                for piece in fuzzer.pieces(fuzzer.input()):
                    await stream.send_all(piece)
                await leave(stream, fuzzer)
            except trio.BrokenResourceError:  # reset by the server: one of the ways to be refused
                continue


async def leave(stream: trio.SocketStream, fuzzer: Fuzzer) -> None:
    way = fuzzer.random.randrange(4)
    if way == 0:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    elif way == 1:
        await stream.send_eof()
    if way:
        with trio.move_on_after(0.01 * way):
            await stream.receive_some(4096)


async def be_normal(served: Served, over: trio.Event, counted: Counter[str]) -> None:
    """A client that minds its own business and must notice nothing."""
    async with served.peer() as peer, served.socket("/ws"):
        while not over.is_set():
            assert (await peer.get("/hello")).body == b"hello"
            assert (await peer.post("/echo", b"mine")).body == b"mine"
            counted["served"] += 1
            await trio.sleep(0.002)


async def fuzz(seed: int, inputs: int) -> tuple[Counter[str], Counter[str]]:
    counted: Counter[str] = Counter()
    over = trio.Event()
    stream = Stream(b"x", pause_s=0.001)
    app = App(echo=echo, stream=stream, crash=crash)
    async with serving(app, safety_s=SAFETY_S, max_body_bytes=2000) as served:
        fds = len(open_fds())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_normal, served, over, counted)
            async with trio.open_nursery() as attackers:
                for client in range(CLIENTS):
                    fuzzer = Fuzzer(seed * CLIENTS + client)
                    attackers.start_soon(attack, served, fuzzer, inputs // CLIENTS)
            over.set()
        while len(open_fds()) > fds:  # a descriptor that stays is a hang, which the safety net ends
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert {where for where, _ in served.faults} <= {"request"}
        # What fuzzed requests crash on is what the app does on purpose, never the server's machinery.
        assert all("on purpose" in repr(fault) for _, fault in served.faults), served.faults
        await served.lives()
    return app.reached, counted


async def test_no_input_harms_the_server_or_another_client() -> None:
    reached, counted = await fuzz(seed=1, inputs=3600)
    # The inputs get past the parser, as requests, upgrades and crashes. How many replies were read
    # before an attacker hung up depends on the machine, and says nothing.
    assert {"http", "websocket", "/crash"} <= set(reached)
    assert counted["served"] > 0


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(2, 22))
async def test_no_input_of_many_harms_the_server(seed: int) -> None:
    await fuzz(seed, inputs=3600)
