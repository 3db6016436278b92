"""What the app is told of each end of its connection: why it was cut, or that its peer hung up."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection

from apexbridge_trio.peer import PEER
from apexbridge_trio.serving import ServingLimits, serve_stream
from apexbridge_trio.serving.wire import Wire
from tests.harness.wire import Paths, Peer, SocketPeer, answer, request, serving

LIMITS = ServingLimits(max_body_bytes=1000)


class Ends:
    """An app that notes the end of each of its requests."""

    def __init__(self) -> None:
        self.peer: Any = None
        self.said: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.peer = scope["extensions"][PEER]
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        while not (message := await receive())["type"].endswith("disconnect"):
            if scope["path"] == "/sized" and not message.get("more_body", True):
                await answer(send, b"hello")
                return
            if scope["path"] == "/stream" and not message.get("more_body", True):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        self.said = message

    @property
    def cut(self) -> str | None:
        return None if self.peer.cut is None else str(self.peer.cut.code)


async def leaves(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def reads_nothing(_stream: trio.abc.Stream) -> None:
    await trio.sleep(LIMITS.send_timeout_s + 1)


async def stalls(stream: trio.abc.Stream) -> None:
    assert (await Peer(stream).reply()).status == 408


async def sends_too_much(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"7d0\r\n" + bytes(2000))
    assert (await Peer(stream).reply()).status == 413


async def sends_nonsense(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"nonsense\r\n")
    assert (await Peer(stream).reply()).status == 400


async def sends_ahead(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"0\r\n\r\n" + bytes(70_000))
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("path", "framed", "then", "cut"),
    [
        ("/", "Content-Length: 9", leaves, None),
        ("/", "Content-Length: 9", stalls, "request_timeout"),
        ("/", "Transfer-Encoding: chunked", sends_too_much, "body_too_large"),
        ("/", "Transfer-Encoding: chunked", sends_nonsense, "malformed_request"),
        ("/", "Transfer-Encoding: chunked", sends_ahead, "sent_ahead"),
        ("/stream", "Content-Length: 0", reads_nothing, "slow_reader"),
        ("/stream", "Content-Length: 0", leaves, None),
    ],
)
async def test_why_a_request_ends(
    autojump_clock: trio.testing.MockClock,
    path: str,
    framed: str,
    then: Callable[[trio.abc.Stream], Awaitable[None]],
    cut: str | None,
) -> None:
    ends = Ends()
    made = trio.testing.lockstep_stream_pair if path == "/stream" else trio.testing.memory_stream_pair
    ours, theirs = made()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_stream(ends, theirs, LIMITS, on_fault=lambda *_: None))
        async with ours:
            await ours.send_all(request("POST", path, framed))
            await trio.testing.wait_all_tasks_blocked()
            await then(ours)
    assert (ends.peer.is_gone, ends.cut) == (True, cut)
    if path == "/":  # it listens, and is told the same
        assert ends.said["fault"] is ends.peer.cut


@pytest.mark.parametrize("reads", [True, False])
async def test_who_has_not_taken_the_last_of_a_reply_was_cut(
    autojump_clock: trio.testing.MockClock, reads: bool
) -> None:
    ends = Ends()
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_stream(ends, theirs, LIMITS, on_fault=lambda *_: None))
        async with ours:
            await ours.send_all(request("POST", "/sized", "Content-Length: 0"))
            await (Peer(ours).reply() if reads else reads_nothing(ours))
    assert ends.cut == (None if reads else "slow_reader")


async def closes(peer: SocketPeer) -> None:
    await peer.say(CloseConnection(code=1000, reason="bye"))


async def answers_no_ping(_peer: SocketPeer) -> None:
    await trio.sleep(3 * LIMITS.ping_interval_s)


async def says_too_much(peer: SocketPeer) -> None:
    await peer.say(BytesMessage(bytes(LIMITS.max_message_bytes + 1)))


async def breaks_the_protocol(peer: SocketPeer) -> None:
    await peer.stream.send_all(bytes([0x83, 0x80, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (closes, ""),
        (answers_no_ping, "it answered no ping"),
        (says_too_much, "a message of it was larger than it may be"),
        (breaks_the_protocol, "it broke the protocol: Invalid opcode 0x3"),
    ],
)
async def test_why_a_socket_ends(
    autojump_clock: trio.testing.MockClock, then: Callable[[SocketPeer], Awaitable[None]], why: str
) -> None:
    ends = Ends()
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_stream(ends, theirs, LIMITS, on_fault=lambda *_: None))
        async with ours:
            peer = SocketPeer(ours)
            await peer.open("/ws")
            await then(peer)
            await peer.closed()
    assert ends.said["reason"] == why


async def test_a_socket_that_the_server_leaves_is_told_so() -> None:
    ends = Ends()
    async with serving(Paths(ws=ends)) as served, served.socket("/ws") as ws:
        served.stop.set()
        assert await ws.closed() == 1001
    assert ends.said["reason"] == "the hub is about to end"


@pytest.mark.parametrize(
    ("number", "cut"), [(errno.ETIMEDOUT, "slow_reader"), (errno.ECONNRESET, None), (errno.EPIPE, None)]
)
@pytest.mark.parametrize("in_trios_words", [True, False])
async def test_a_peer_that_the_kernel_gives_up_did_not_read(
    number: int, cut: str | None, in_trios_words: bool
) -> None:
    """Its own clock runs beside ours (TCP_USER_TIMEOUT), and either may be first."""
    stream, _ = trio.testing.memory_stream_pair()
    fault: Exception = OSError(number, os.strerror(number))
    if in_trios_words:
        fault, fault.__cause__ = trio.BrokenResourceError("socket connection broken"), fault
    async with trio.open_nursery() as nursery:
        wire = Wire(stream, nursery, 20, lambda: None)
        wire.break_off(fault)
        wire.lose()  # whoever hears of it later knows less
    assert (wire.is_lost, wire.fault and wire.fault.code) == (True, cut)
