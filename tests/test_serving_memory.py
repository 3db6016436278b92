"""The same server over memory streams on the virtual clock: exact times, and a cut at every step."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from apexbridge_trio.links import SOCKET
from apexbridge_trio.peer import PEER
from apexbridge_trio.serving import ServingLimits, serve_stream
from apexbridge_trio.serving.connection import Connection
from apexbridge_trio.serving.http import ARRIVAL_S
from apexbridge_trio.serving.pace import BURST_S, MESSAGES_A_TURN, RUSH
from apexbridge_trio.serving.phase import LINGER_S, LINGER_SILENCE_S
from apexbridge_trio.serving.site import Site
from apexbridge_trio.serving.wire import PIECE_BYTES
from tests.harness import kill
from tests.harness.wire import (
    Paths,
    Peer,
    Silent,
    SocketPeer,
    Stream,
    answer,
    request,
    whole_body,
)

LIMITS = ServingLimits()
faults: list[tuple[str, BaseException]] = []


@pytest.fixture(autouse=True)
def no_faults() -> Iterator[None]:
    faults.clear()
    yield
    assert not faults


@asynccontextmanager
async def connected(
    app: Any, limits: ServingLimits = LIMITS, *, lockstep: bool = False
) -> AsyncIterator[trio.abc.Stream]:
    """One connection to `app`; at the end the peer hangs up and the server must come to its end."""
    make = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
    ours, theirs = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve, app, theirs, limits)
        async with ours:
            yield ours


async def _serve(app: Any, stream: trio.abc.Stream, limits: ServingLimits) -> None:
    await serve_stream(app, stream, limits, on_fault=lambda *fault: faults.append(fault))


async def test_the_client_is_who_the_caller_says(autojump_clock: trio.testing.MockClock) -> None:
    async def who(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, repr((scope["client"], scope["server"])).encode())

    async with connected(Paths(who=who)) as stream:
        said = (await Peer(stream).get("/who")).body
        assert said == b"(('127.0.0.1', 50000), ('127.0.0.1', 8088))"


async def test_an_idle_connection_lives_for_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(Paths()) as stream:
        peer = Peer(stream)
        await trio.sleep(9)
        for _ in range(3):
            assert (await peer.get("/hello")).body == b"hello"
            await trio.sleep(74)
        assert (await peer.get("/hello")).body == b"hello"
        answered_at = trio.current_time()
        assert await peer.end() == b""
        assert trio.current_time() - answered_at == LIMITS.idle_timeout_s


async def test_an_empty_line_after_a_request_begins_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """It moves no deadline, and is answered with nothing."""
    async with connected(Paths()) as stream:
        peer = Peer(stream)
        assert (await peer.get("/hello")).body == b"hello"
        await peer.send(b"\r\n")
        await trio.sleep(LIMITS.idle_timeout_s - 1)
        assert (await peer.get("/hello")).body == b"hello"


async def test_a_head_has_its_time_from_its_first_byte(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(Paths()) as stream:
        peer = Peer(stream)
        await peer.get("/hello")
        await trio.sleep(60)
        began_at = trio.current_time()
        for byte in request("GET", "/hello")[:9]:
            await peer.send(bytes([byte]))
            await trio.sleep(1)
        assert (await peer.reply()).status == 408
        assert trio.current_time() - began_at == LIMITS.header_timeout_s
        assert await peer.end() == b""


async def test_a_body_must_come_on_and_at_a_least_rate(autojump_clock: trio.testing.MockClock) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        if (body := await whole_body(receive)) is not None:
            await answer(send, body)

    async with connected(Paths(echo=echo)) as stream:
        peer = Peer(stream)
        await peer.send(request("POST", "/echo", "Content-Length: 100000"))
        for _ in range(9):  # 20 s a piece, 1,000 bytes/s
            await peer.send(bytes(20_000 - 10_000))
            await trio.sleep(20)
        await peer.send(bytes(10_000))
        assert len((await peer.reply()).body) == 100_000
        await peer.send(request("POST", "/echo", "Content-Length: 1000"))
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_trickle, peer, nursery.cancel_scope)
            assert (await peer.reply()).status == 408
            nursery.cancel_scope.cancel(reason="answered")
        assert 30 <= trio.current_time() - began_at < 31


async def test_a_whole_body_leaves_the_answer_all_the_time(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await whole_body(receive)
        await trio.sleep(3 * 3600)
        await answer(send, b"slow")

    async with connected(Paths(slow=slow)) as stream:
        assert (await Peer(stream).post("/slow", b"ab")).body == b"slow"


async def test_who_has_just_connected_has_a_moment_to_ask_once_the_server_stops(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A browser connects for later, and nobody waits for that; who asks is answered, and told that it is the end."""
    site = Site(Paths(), lambda: LIMITS, lambda *fault: faults.append(fault))
    async with trio.open_nursery() as nursery:
        ours, theirs = zip(*(trio.testing.memory_stream_pair() for _ in range(2)), strict=True)
        connections = [Connection(site, stream, None, None) for stream in theirs]
        for connection in connections:
            nursery.start_soon(connection.run)
        early, late = map(Peer, ours)
        await trio.sleep(LIMITS.header_timeout_s / 2)
        for connection in connections:
            await connection.drain()
        stopped_at = trio.current_time()
        await trio.sleep(ARRIVAL_S / 2)
        reply = await early.get("/hello")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await late.end() == b""
        assert trio.current_time() - stopped_at == ARRIVAL_S
        await early.stream.aclose()


async def _trickle(peer: Peer, scope: trio.CancelScope) -> None:
    while True:
        await peer.send(b"x")
        await trio.sleep(5)


async def test_pings_have_a_beat_whatever_the_peer_sends(autojump_clock: trio.testing.MockClock) -> None:
    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with connected(Paths(ws=listen)) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        opened_at = trio.current_time()
        for beat in range(1, 4):
            await trio.sleep_until(opened_at + beat * 20 - 1)
            await ws.say(TextMessage("busy"))
            assert isinstance(await ws.hear(), Ping)
            assert trio.current_time() == opened_at + beat * 20
        last_heard_at = opened_at + 59
        assert [type(await ws.hear()) for _ in range(3)] == [Ping, Ping, type(None)]
        assert trio.current_time() == last_heard_at + 50


async def test_a_socket_may_be_silent_for_ten_hours_of_pongs(autojump_clock: trio.testing.MockClock) -> None:
    async def once(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep(10 * 3600)
        await send({"type": "websocket.send", "text": "still here"})
        await send({"type": "websocket.close"})

    async with connected(Paths(ws=once)) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        while isinstance(event := await ws.hear(), Ping):
            await ws.say(event.response())
        assert event == TextMessage("still here")


async def test_after_the_end_the_peer_may_go_on_for_so_long(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(Paths()) as stream:
        peer = Peer(stream)
        await peer.get("/hello", "Connection: close")
        ended_at = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.send(b"more")
                await trio.sleep(LINGER_SILENCE_S - 1)
        assert LINGER_S <= trio.current_time() - ended_at <= LINGER_S + LINGER_SILENCE_S


async def test_a_peer_that_takes_nothing_is_lost_after_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream_out = Stream(b"x" * 1000)
    async with connected(Paths(stream=stream_out), lockstep=True) as stream:
        await stream.send_all(request("GET", "/stream"))
        await stream.receive_some(10)
        began_at = trio.current_time()
        await stream_out.left.wait()
        assert trio.current_time() - began_at == LIMITS.send_timeout_s


async def test_a_close_waits_only_so_long_for_a_peer_that_reads_slowly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        scope["extensions"][SOCKET].post(bytes(4_000_000))
        await send({"type": "websocket.close", "code": 1013})

    async with connected(Paths(ws=flood), lockstep=True) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        closed_at = trio.current_time()
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(PIECE_BYTES):
                await ws.say(Pong())
                await trio.sleep(LIMITS.send_timeout_s - 1)
        assert trio.current_time() - closed_at < LINGER_S + LINGER_SILENCE_S + LIMITS.send_timeout_s


async def test_a_cancelled_sender_leaves_no_half_of_its_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Cut while the peer is slow, the app still ends its reply, and every byte of it is in order."""

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(1):
            await send({"type": "http.response.body", "body": b"x" * 200_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"over"})

    async with connected(Paths(cut=cut), lockstep=True) as stream:
        await stream.send_all(request("GET", "/cut", "Connection: close"))
        await trio.sleep(2)
        assert (await Peer(stream).reply()).body == b"x" * 200_000 + b"over"


async def test_pongs_owed_to_a_peer_that_does_not_read_are_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with connected(Paths(ws=listen), lockstep=True) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        await ws.say(*[Ping(b"%d" % n) for n in range(500)])
        await trio.sleep(10)  # all of them are taken, and no answer is
        heard = 0
        with trio.move_on_after(10):
            while True:
                await ws.hear()
                heard += 1
        assert 0 < heard < 100


class Ear:
    """An app that notes when it was told something, and why it ended."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.code = 0
        self.accepts, self.left = trio.Event(), trio.Event()
        self.accepts.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self.accepts.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.at.append(trio.current_time())
        self.code = message["code"]
        self.left.set()


MANY = 3000
SMALL = [TextMessage("x")] * MANY


@pytest.mark.parametrize("before", [[], [TextMessage("x" * 500_000)]], ids=["small", "large before small"])
async def test_a_flood_of_messages_is_taken_in_turns(
    before: list[TextMessage], autojump_clock: trio.testing.MockClock
) -> None:
    ear = Ear()
    async with connected(Paths(ws=ear)) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        await ws.say(*before, *SMALL, CloseConnection(1000))
        await ear.left.wait()
    assert len(ear.at) == len(before) + MANY
    # The first turn is free, and the pause is after the second.
    assert max(Counter(ear.at).values()) <= 2 * MESSAGES_A_TURN
    first = ear.at[len(before)]
    assert (
        sum(at < first + 0.1 for at in ear.at) <= 0.1 * LIMITS.max_messages_per_s * RUSH + 2 * MESSAGES_A_TURN
    )
    assert ear.at[-1] - first > (MANY - 2 * MESSAGES_A_TURN) / LIMITS.max_messages_per_s - BURST_S
    assert ear.code == 1000


async def test_a_few_messages_wait_for_nothing(autojump_clock: trio.testing.MockClock) -> None:
    ear = Ear()
    async with connected(Paths(ws=ear)) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        began = trio.current_time()
        await ws.say(*SMALL[: 2 * MESSAGES_A_TURN], CloseConnection(1000))
        await ear.left.wait()
    assert ear.at == [began] * 2 * MESSAGES_A_TURN


async def test_frames_that_came_with_the_upgrade_are_taken_in_turns(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ear = Ear()
    ear.accepts = trio.Event()
    async with connected(Paths(ws=ear)) as stream:
        ws, early = SocketPeer(stream), Frames(ConnectionType.CLIENT)
        frames = [early.send(event) for event in [*SMALL[:100], CloseConnection(1000)]]
        await stream.send_all(ws.protocol.send(Request(host="hub", target="/ws")) + b"".join(frames))
        await trio.testing.wait_all_tasks_blocked()
        ear.accepts.set()
        await ear.left.wait()
    assert len(ear.at) == 100
    assert max(Counter(ear.at).values()) <= 2 * MESSAGES_A_TURN


async def test_one_that_is_closed_in_the_middle_of_its_flood_is_told_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def close(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    async with connected(Paths(ws=close)) as stream:
        ws = SocketPeer(stream)
        await ws.open("/ws")
        await ws.say(*SMALL)
        with trio.fail_after(1):
            assert await ws.closed() == 1008


@pytest.mark.parametrize("path", ["hello", "stream", "silent", "echo"])
async def test_a_connection_cut_at_any_step_leaves_nothing(
    path: str, autojump_clock: trio.testing.MockClock
) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        if (body := await whole_body(receive)) is not None:
            await answer(send, body)

    async def scenario() -> None:
        stream_out = Stream(b"x")
        silent = Silent()
        app = Paths(stream=stream_out, silent=silent, echo=echo)
        async with connected(app) as stream:
            peer = Peer(stream)
            await peer.send(request("POST", f"/{path}", "Content-Length: 3") + b"a")
            await peer.send(b"bc")
            if path == "stream":
                await stream_out.began.wait()
                stream_out.over.set()
            if path == "silent":
                await silent.began.wait()
            else:
                await peer.reply()

    async def check(_whole: bool) -> None:
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await kill.kill_at_every_step(scenario, check) > 10


async def test_a_socket_cut_at_any_step_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def parrot(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    async def scenario() -> None:
        async with connected(Paths(ws=parrot)) as stream:
            ws = SocketPeer(stream)
            await ws.open("/ws")
            await ws.say(BytesMessage(b"hi"))
            assert await ws.hear() == BytesMessage(b"hi")

    async def check(_whole: bool) -> None:
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await kill.kill_at_every_step(scenario, check) > 10


@pytest.mark.parametrize("busy_s", [0.0, 0.5])
async def test_who_waits_for_nothing_else_is_cut_when_its_peer_is_gone(
    busy_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    """At once; also if the peer had gone before that was asked for."""
    begun, cut_at = trio.Event(), []

    async def works(scope: Any, receive: Any, send: Any) -> None:
        await whole_body(receive)
        begun.set()
        await trio.sleep(busy_s)
        peer = scope["extensions"][PEER]
        assert peer.is_gone == (busy_s > 0)
        peer.cut_when_gone()
        try:
            await trio.sleep_forever()
        finally:
            assert peer.is_gone
            cut_at.append(trio.current_time())

    async with connected(Paths(works=works)) as stream:
        await Peer(stream).send(request("POST", "/works", "Content-Length: 0"))
        await begun.wait()
        if not busy_s:
            await trio.testing.wait_all_tasks_blocked()
        left_at = trio.current_time()
    assert cut_at == [left_at + busy_s]
