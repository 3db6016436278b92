"""Every fault of the stock stack (Hypercorn 0.18.0, Quart-Trio 0.12.0), over real sockets."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import quart
import trio
import trio.testing
from quart_trio import QuartTrio
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.events import Request as Upgrade
from wsproto.extensions import PerMessageDeflate

from apexbridge_trio.errors import ConfigInvalid, InternalFault
from apexbridge_trio.serving import ServingLimits, require_proved, serve
from tests.harness.wire import (
    SAFETY_S,
    UPGRADE,
    Paths,
    Peer,
    Served,
    Silent,
    SocketPeer,
    Stream,
    answer,
    request,
    serving,
    whole_body,
)

BIG = b"x" * 65536
# More than the kernel keeps for one connection (tcp_wmem and tcp_rmem end at 4 and 6 MiB), so that a
# peer which has read only its beginning has certainly stopped the sender.
HUGE = bytes(24 * 1024 * 1024)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await whole_body(receive)
    if body is not None:
        await answer(send, body)


class Sockets:
    """An app of one WebSocket that collects what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.code: int | None = None
        self.left = trio.Event()
        self.accept = trio.Event()
        self.accept.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await self.accept.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.heard.append(message["bytes"] if message["text"] is None else message["text"])
            await send({"type": "websocket.send", "text": "heard"})
        self.code = message["code"]
        self.left.set()


def quart_app() -> QuartTrio:
    app = QuartTrio(__name__)
    app.config["RESPONSE_TIMEOUT"] = None
    app.add_url_rule("/hello", "hello", _quart_hello)
    return app


async def _quart_hello() -> str:
    return "hello"


class TestOneConnectionsFaultIsItsOwn:
    async def test_bytes_after_an_upgrade_are_kept_until_it_is_answered(self) -> None:
        sockets = Sockets()
        sockets.accept = trio.Event()
        async with serving(Paths(ws=sockets)) as served, served.peer() as peer:
            hello = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi"
            await peer.send(request("GET", "/ws", *UPGRADE) + hello)
            await served.lives()
            sockets.accept.set()
            assert (await peer.head()).status == 101
            await peer.until(b"heard")
            assert sockets.heard == ["hi"]

    async def test_too_many_bytes_after_an_upgrade_are_refused(self) -> None:
        sockets = Sockets()
        sockets.accept = trio.Event()
        async with serving(Paths(ws=sockets)) as served, served.peer() as peer:
            await peer.send(request("GET", "/ws", *UPGRADE) + BIG + BIG)
            assert (await peer.reply()).status == 400
            sockets.accept.set()
            await served.lives()

    @pytest.mark.parametrize(
        "header",
        ["Connection: upgrade, \xff", "Sec-WebSocket-Protocol: \xe9", "Sec-WebSocket-Extensions: \xe9"],
    )
    async def test_a_byte_that_is_not_ascii_in_an_upgrade(self, header: str) -> None:
        headers = [line for line in UPGRADE if line.split(":")[0] != header.split(":", maxsplit=1)[0]]
        async with serving(Paths()) as served, served.peer() as peer:
            reply = await peer.get("/ws", *headers, header)
            assert reply.status == 400
            assert reply.json["error"]["type"] == "invalid_request_error"
            await served.lives()

    @pytest.mark.parametrize("version", ["8", "14", "13, 8", "x"])
    async def test_another_version_of_websocket_is_told_the_one_there_is(self, version: str) -> None:
        headers = [line for line in UPGRADE if not line.startswith("Sec-WebSocket-Version")]
        async with serving(Paths()) as served, served.peer() as peer:
            reply = await peer.get("/ws", *headers, f"Sec-WebSocket-Version: {version}")
            assert (reply.status, reply.headers["sec-websocket-version"]) == (426, "13")
            assert reply.headers["upgrade"] == "websocket"
            assert reply.json["error"]["code"] == "websocket_version_not_supported"
            await served.lives()

    @pytest.mark.parametrize("missing", ["Sec-WebSocket-Version", "Sec-WebSocket-Key"])
    async def test_half_an_upgrade_is_told_what_one_is(self, missing: str) -> None:
        headers = [line for line in UPGRADE if not line.startswith(missing)]
        async with serving(Paths()) as served, served.peer() as peer:
            reply = await peer.get("/ws", *headers)
            assert reply.status == 400
            assert missing in reply.json["error"]["message"]
            await served.lives()

    async def test_h2c_is_no_upgrade(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
            assert (await peer.get("/hello", *h2c)).body == b"hello"
            assert (await peer.get("/hello")).body == b"hello"

    async def test_http2_with_prior_knowledge_is_refused(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
            assert (await peer.head()).status in {400, 505}
            await peer.end()
            await served.lives()

    async def test_a_crash_before_the_head_is_a_500_and_one_fault(self) -> None:
        async def crash(scope: Any, receive: Any, send: Any) -> None:
            raise ValueError("secret")

        async with serving(Paths(crash=crash)) as served, served.peer() as peer:
            reply = await peer.get("/crash", "X-Request-Id: req_mine")
            assert (reply.status, reply.headers["connection"]) == (500, "close")
            assert reply.json["error"]["code"] == "internal_error"
            assert reply.json["request_id"] == reply.headers["x-request-id"] == "req_mine"
            assert b"secret" not in reply.body
            assert await peer.end() == b""
            assert [where for where, _ in served.faults] == ["request"]
            await served.lives()

    async def test_a_crash_between_a_sized_head_and_its_body_is_a_500(self) -> None:
        async def crash(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            raise ValueError

        async with serving(Paths(crash=crash)) as served, served.peer() as peer:
            assert (await peer.get("/crash")).status == 500

    async def test_a_crash_in_the_body_cuts_it(self) -> None:
        async def crash(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ValueError

        async with serving(Paths(crash=crash)) as served, served.peer() as peer:
            await peer.send(request("GET", "/crash"))
            assert (await peer.head()).status == 200
            assert await peer.end() == b"4\r\nhalf\r\n"
            await served.lives()

    async def test_an_app_that_sends_what_it_may_not_is_a_crash_of_its_own(self) -> None:
        async def crash(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\nc")]})
            await send({"type": "http.response.body", "body": b""})

        async with serving(Paths(crash=crash)) as served, served.peer() as peer:
            assert (await peer.get("/crash")).status == 500
            assert [where for where, _ in served.faults] == ["request"]

    async def test_a_socket_handler_that_crashes(self) -> None:
        async def early(scope: Any, receive: Any, send: Any) -> None:
            raise ValueError

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            raise ValueError

        async with serving(Paths(early=early, late=late)) as served:
            async with served.peer() as peer:
                assert (await peer.get("/early", *UPGRADE)).status == 500
            async with served.socket("/late") as ws:
                assert await ws.closed() == 1011
            await served.lives()


class TestPeersThatDoNotRead:
    async def test_shutdown_does_not_wait_for_a_stream_nobody_reads(self) -> None:
        async with serving(Paths(stream=Stream(HUGE)), grace_s=0.1) as served, served.peer() as peer:
            await peer.send(request("GET", "/stream"))
            await peer.head()
            await peer.more()
            served.stop.set()
            await served.stopped.wait()

    async def test_shutdown_does_not_wait_for_a_socket_nobody_reads(self) -> None:
        async def flood(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": HUGE})

        async with serving(Paths(ws=flood), grace_s=0.1) as served, served.socket("/ws") as ws:
            await ws.stream.receive_some(1)
            served.stop.set()
            await served.stopped.wait()

    async def test_a_peer_that_takes_nothing_is_reset_and_the_app_told(self) -> None:
        stream = Stream(HUGE)
        async with serving(Paths(stream=stream), send_timeout_s=0.2) as served, served.peer() as peer:
            await peer.send(request("GET", "/stream"))
            await stream.left.wait()
            with pytest.raises(trio.BrokenResourceError):  # a reset, no end: nobody takes it for whole
                while await peer.stream.receive_some():
                    pass
            await served.lives()

    async def test_a_peer_that_does_not_read_and_leaves_is_noticed_at_once(self) -> None:
        stream = Stream(HUGE)
        async with serving(Paths(stream=stream), send_timeout_s=3600) as served:
            async with served.peer() as peer:
                await peer.send(request("GET", "/stream"))
                await peer.head()
                await peer.more()
            await stream.left.wait()

    async def test_a_socket_that_pings_and_does_not_read_owes_itself(self) -> None:
        sockets = Sockets()
        async with serving(Paths(ws=sockets), send_timeout_s=0.3) as served, served.socket("/ws") as ws:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await ws.say(*[Ping(b"x" * 125) for _ in range(500)])

            await served.lives()

    async def test_the_kernel_gives_up_too(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            limits = ServingLimits(send_timeout_s=7)
            run = partial(serve, Paths(), sockets=[sock], limits=limits, shutdown=stop.wait, on_fault=print)
            assert await nursery.start(run) == [sock.getsockname()]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            stop.set()


class TestKeepAlive:
    async def test_fifty_requests_of_quart_on_one_connection(self) -> None:
        async with serving(quart_app()) as served, served.peer() as peer:
            for _ in range(50):
                assert (await peer.get("/hello")).body == b"hello"

    async def test_connection_close_closes_with_quart(self) -> None:
        async with serving(quart_app()) as served, served.peer() as peer:
            assert (await peer.get("/hello", "Connection: close")).body == b"hello"
            assert await peer.end() == b""

    async def test_an_idle_connection_of_quart_is_closed(self) -> None:
        async with serving(quart_app(), idle_timeout_s=0.1) as served, served.peer() as peer:
            assert (await peer.get("/hello")).body == b"hello"
            assert await peer.end() == b""

    async def test_fifty_connections_leave_none(self) -> None:
        async with serving(quart_app()) as served:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(50):
                await served.lives()
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.testing.wait_all_tasks_blocked()

    async def test_http_1_0_ends_with_its_answer(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(b"GET /hello HTTP/1.0\r\n\r\n")
            assert (await peer.end()).endswith(b"hello")

    async def test_an_answer_before_the_body_is_complete_keeps_the_connection(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(request("POST", "/hello", "Content-Length: 6") + b"abc")
            assert (await peer.reply()).body == b"hello"
            await peer.send(b"def")
            assert (await peer.get("/hello")).body == b"hello"

    async def test_continue_is_said_once_and_not_when_refused(self) -> None:
        async with serving(Paths(echo=echo), max_body_bytes=10) as served:
            async with served.peer() as peer:
                await peer.send(request("POST", "/echo", "Content-Length: 2", "Expect: 100-continue"))
                assert (await peer.head()).status == 100
                await peer.send(b"ab")
                assert (await peer.reply()).body == b"ab"
            async with served.peer() as peer:
                await peer.send(request("POST", "/echo", "Content-Length: 11", "Expect: 100-continue"))
                assert (await peer.head()).status == 413

    async def test_a_sized_reply_is_one_piece(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(request("GET", "/hello"))
            assert (await peer.stream.receive_some()).endswith(b"\r\n\r\nhello")

    async def test_the_head_of_a_stream_does_not_wait_for_its_first_piece(self) -> None:
        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await receive()
            await receive()

        async with serving(Paths(slow=slow)) as served, served.peer() as peer:
            await peer.send(request("GET", "/slow"))
            assert (await peer.head()).status == 200

    @pytest.mark.parametrize("between", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
    @pytest.mark.parametrize("ahead", [True, False])
    async def test_empty_lines_before_a_request_are_none(self, between: bytes, ahead: bool) -> None:
        """RFC 9112, 2.2: some send one behind a body, and mean nothing by it."""
        asked = request("POST", "/hello", "Content-Length: 2") + b"{}"
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(between)
            for _ in range(2):
                await peer.send(asked + between * ahead)
                assert (await peer.reply()).body == b"hello"
                await peer.send(between)
            await peer.send(asked + between + asked)
            for _ in range(2):
                assert (await peer.reply()).body == b"hello"


class TestLeaving:
    """When the client goes away the app knows at once, whatever the client sent before."""

    @pytest.mark.parametrize(
        "sent",
        [
            request("GET", "/silent"),
            request("GET", "/silent") * 200,
            request("GET", "/silent") + b"\r\n",
            request("POST", "/silent", "Content-Length: 2") + b"ab",
            request("POST", "/silent", "Content-Length: 2") + b"ab\r\n",
            request("POST", "/silent", "Content-Length: 2") + b"abc",
            request("POST", "/silent", "Content-Length: 9") + b"ab",
            request("POST", "/silent", "Transfer-Encoding: chunked") + b"2\r\nab\r\n",
            request("POST", "/silent", "Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\n\r\nxx",
        ],
        ids=["get", "pipelined", "crlf", "body", "body+crlf", "body+byte", "part", "chunk", "chunks+bytes"],
    )
    async def test_in_the_handler(self, sent: bytes) -> None:
        silent = Silent()
        async with serving(Paths(silent=silent)) as served:
            async with served.peer() as peer:
                await peer.send(sent)
                await silent.began.wait()
            await silent.left.wait()

    async def test_in_mid_stream(self) -> None:
        stream = Stream(b"x", pause_s=3600)
        async with serving(Paths(stream=stream)) as served:
            async with served.peer() as peer:
                await peer.send(request("GET", "/stream"))
                await peer.until(b"x")
            await stream.left.wait()

    async def test_cancels_a_handler_of_quart(self) -> None:
        began, left = trio.Event(), trio.Event()
        app = quart_app()

        @app.get("/silent")
        async def silent() -> str:
            began.set()
            try:
                await trio.sleep_forever()
            finally:
                left.set()

        async with serving(app) as served:
            async with served.peer() as peer:
                await peer.send(request("GET", "/silent") + b"\r\n")
                await began.wait()
            await left.wait()

    async def test_an_app_that_never_listens_is_cancelled(self) -> None:
        began, left = trio.Event(), trio.Event()

        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            began.set()
            try:
                await trio.sleep_forever()
            finally:
                left.set()

        async with serving(Paths(deaf=deaf)) as served:
            async with served.peer() as peer:
                await peer.send(request("GET", "/deaf"))
                await began.wait()
            await left.wait()

    async def test_after_the_last_of_the_body_it_is_no_news(self) -> None:
        answered, gone, over = trio.Event(), trio.Event(), trio.Event()
        heard: list[Any] = []

        async def listen(receive: Any) -> None:
            while True:
                heard.append((await receive())["type"])

        async def books(scope: Any, receive: Any, send: Any) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, receive)
                await answer(send, b"done")
                answered.set()
                await gone.wait()
                nursery.cancel_scope.cancel(reason="books are kept")
            over.set()

        async with serving(Paths(books=books)) as served:
            async with served.peer() as peer:
                assert (await peer.get("/books")).body == b"done"
                await answered.wait()
            await served.lives()
            gone.set()
            await over.wait()
        assert heard == ["http.request"]

    async def test_what_it_says_after_the_peer_left_is_dropped(self) -> None:
        stream = Silent()
        sent = trio.Event()

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await stream(scope, receive, send)
            assert (await receive())["type"] == "http.disconnect"  # and for ever
            await answer(send, b"too late")
            sent.set()

        async with serving(Paths(late=late)) as served:
            async with served.peer() as peer:
                await peer.send(request("GET", "/late"))
                await stream.began.wait()
            await sent.wait()
        assert not served.faults

    async def test_one_that_sends_far_ahead_is_cut(self) -> None:
        silent = Silent()
        async with serving(Paths(silent=silent)) as served, served.peer() as peer:
            await peer.send(request("GET", "/silent"))
            await silent.began.wait()
            await peer.send(BIG + BIG)
            await silent.left.wait()

    async def test_pipelined_requests_are_answered_in_turn(self) -> None:
        async with serving(Paths(echo=echo)) as served, served.peer() as peer:
            await peer.send(request("GET", "/hello") + request("POST", "/echo", "Content-Length: 2") + b"ab")
            assert (await peer.reply()).body == b"hello"
            assert (await peer.reply()).body == b"ab"


class TestBodies:
    async def test_one_over_the_limit_is_refused_while_it_comes(self) -> None:
        silent = Silent()
        async with serving(Paths(silent=silent), max_body_bytes=100_000) as served, served.peer() as peer:
            chunk = b"10000\r\n" + BIG + b"\r\n"
            await peer.send(request("POST", "/silent", "Transfer-Encoding: chunked") + chunk + chunk)
            reply = await peer.reply()
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert reply.json["error"]["code"] == "body_too_large"
            assert reply.json["request_id"] == reply.headers["x-request-id"]
            await silent.left.wait()

    async def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(self) -> None:
        async with serving(Paths(echo=echo), max_body_bytes=4_000_000) as served, served.peer() as peer:
            assert (await peer.post("/echo", bytes(10_000_000))).status == 413
            assert await peer.end() == b""

    async def test_what_is_sent_after_a_refusal_is_read_only_so_far(self) -> None:
        async with serving(Paths(echo=echo), max_body_bytes=1000) as served, served.peer() as peer:
            assert (await peer.post("/echo", bytes(2000))).status == 413
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await peer.send(BIG)

    async def test_a_stalled_one_is_a_408(self) -> None:
        silent = Silent()
        async with serving(Paths(silent=silent), body_timeout_s=0.2) as served, served.peer() as peer:
            await peer.send(request("POST", "/silent", "Content-Length: 9") + b"abc")
            reply = await peer.reply()
            assert (reply.status, reply.json["error"]["code"]) == (408, "request_timeout")
            await silent.left.wait()


class TestHeads:
    async def test_a_peer_that_says_nothing_is_closed(self) -> None:
        async with serving(Paths(), header_timeout_s=0.1) as served, served.peer() as peer:
            assert await peer.end() == b""

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"nonsense\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"GET /hello HTTP/1.1\r\n\r\n", 400),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\n folded: b\r\n\x00\r\n\r\n", 400),
            (request("GET", "/" + "x" * 20_000), 431),
            (request("GET", "/hello", "X: " + "x" * 20_000), 431),
            (b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (request("GET", "http://other/hello"), 400),
            (request("OPTIONS", "*"), 400),
            (request("GET", "?x"), 400),
            (request("CONNECT", "other:443"), 400),
            (request("CONNECT", "/hello"), 400),
            (request("POST", "/hello", "Content-Length: 3", "Content-Length: 4"), 400),
            (request("POST", "/hello", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
            (request("POST", "/hello", "Content-Length: -1"), 400),
            (request("POST", "/hello", "Content-Length: 0x3"), 400),
            (request("POST", "/hello", "Transfer-Encoding: gzip, chunked"), 400),
            (request("POST", "/echo", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
            (request("GET", "/ws", *UPGRADE[:3]), 400),
            (request("GET", "/ws", *UPGRADE, "Content-Length: 3") + b"abc", 400),
        ],
    )
    async def test_a_malformed_one_is_refused_in_the_envelope(self, sent: bytes, status: int) -> None:
        async with serving(Paths(echo=echo)) as served, served.peer() as peer:
            await peer.send(sent)
            reply = await peer.reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close")
            assert set(reply.json["error"]) == {"message", "type", "code", "param"}
            assert reply.json["request_id"] == reply.headers["x-request-id"]
            assert await peer.end() == b""
            await served.lives()

    async def test_a_refusal_of_head_has_no_body(self) -> None:
        async with serving(Paths()) as served, served.peer() as peer:
            await peer.send(request("HEAD", "http://other/"))
            assert (await peer.end()).endswith(b"\r\n\r\n")

    async def test_garbage_in_a_body_whose_answer_has_begun_cuts_both(self) -> None:
        stream = Stream(b"x", pause_s=3600)
        async with serving(Paths(stream=stream)) as served, served.peer() as peer:
            await peer.send(request("POST", "/stream", "Transfer-Encoding: chunked"))
            await peer.until(b"x")
            await peer.send(b"garbage\r\n")
            await stream.left.wait()
            assert b"HTTP/1.1" not in await peer.end()


class TestSockets:
    async def test_a_message_over_the_limit_is_1009_and_the_end(self) -> None:
        sockets = Sockets()
        async with serving(Paths(ws=sockets), max_message_bytes=1000) as served, served.socket("/ws") as ws:
            await ws.say(BytesMessage(bytes(1000)))
            assert isinstance(await ws.hear(), TextMessage)
            await ws.say(BytesMessage(bytes(600), message_finished=False), BytesMessage(bytes(401)))
            assert await ws.closed() == 1009
            await sockets.left.wait()
            assert (sockets.heard, sockets.code) == ([bytes(1000)], 1009)

    async def test_the_limit_counts_bytes(self) -> None:
        async with serving(Paths(ws=Sockets()), max_message_bytes=1000) as served, served.socket("/ws") as ws:
            await ws.say(TextMessage("停" * 400))
            assert await ws.closed() == 1009

    async def test_compression_is_not_spoken(self) -> None:
        async with serving(Paths(ws=Sockets())) as served, served.peer() as peer:
            ws = SocketPeer(peer.stream)
            await ws.say(Upgrade(host="hub", target="/ws", extensions=[PerMessageDeflate()]))
            accepted: Any = await ws.hear()
            assert accepted.extensions == []
            await peer.send(bytes([0xC1, 0x81, 0, 0, 0, 0, 0]))  # compressed all the same
            assert await ws.closed() == 1002

    async def test_a_peer_that_answers_no_ping_is_dropped(self) -> None:
        sockets = Sockets()
        async with serving(Paths(ws=sockets), ping_interval_s=0.1) as served, served.socket("/ws") as ws:
            assert await ws.closed() is None
            await sockets.left.wait()
            assert sockets.code == 1006

    async def test_pings_of_the_peer_are_answered(self) -> None:
        async with serving(Paths(ws=Sockets())) as served, served.socket("/ws") as ws:
            await ws.say(Ping(b"now"))
            assert await ws.hear() == Pong(b"now")

    async def test_a_clean_close_tells_the_app_its_code(self) -> None:
        sockets = Sockets()
        async with serving(Paths(ws=sockets)) as served, served.socket("/ws") as ws:
            await ws.say(TextMessage("last words"), CloseConnection(4001, "bye"))
            assert await ws.closed() == 4001
            await sockets.left.wait()
            assert (sockets.heard, sockets.code) == (["last words"], 4001)

    @pytest.mark.parametrize("unread", [5, 40])
    async def test_a_handler_that_stops_reading_is_cancelled_when_the_peer_leaves(self, unread: int) -> None:
        left = trio.Event()
        app = quart_app()

        @app.websocket("/ws")
        async def deaf() -> None:
            await quart.websocket.accept()
            try:
                await trio.sleep_forever()
            finally:
                left.set()

        async with serving(app) as served:
            async with served.socket("/ws") as ws:
                await ws.say(*[TextMessage("x")] * unread)
            await left.wait()

    async def test_an_app_too_slow_for_its_peer_sends_it_away(self) -> None:
        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await trio.sleep_forever()

        async with serving(Paths(ws=deaf), max_message_bytes=1000) as served, served.socket("/ws") as ws:
            for _ in range(10):
                await ws.say(BytesMessage(bytes(1000)))
            assert await ws.closed() == 1013

    async def test_bytes_after_the_close_are_nothing(self) -> None:
        async def brief(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4000})
            await receive()
            assert (await receive())["type"] == "websocket.disconnect"

        async with serving(Paths(ws=brief)) as served, served.socket("/ws") as ws:
            crossing, close = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi", bytes([0x88, 0x80, 0, 0, 0, 0])
            await ws.stream.send_all(crossing + close + b"\x81\x00" * 10)
            assert await ws.closed() == 4000
        assert not served.faults

    async def test_an_app_may_refuse_the_upgrade_its_own_way(self) -> None:
        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"2")]
            await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"no"})

        async def close(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.close"})

        async with serving(Paths(refuse=refuse, close=close)) as served:
            async with served.peer() as peer:
                reply = await peer.get("/refuse", *UPGRADE)
                assert (reply.status, reply.headers["connection"], reply.body) == (401, "close", b"no")
                assert await peer.end() == b""
            async with served.peer() as peer:
                assert (await peer.get("/close", *UPGRADE)).status == 403

    async def test_text_that_is_no_utf8_is_1007(self) -> None:
        async with serving(Paths(ws=Sockets())) as served, served.socket("/ws") as ws:
            await ws.stream.send_all(bytes([0x81, 0x81, 0, 0, 0, 0, 0xFF]))
            assert await ws.closed() == 1007


class TestConnectionLimit:
    async def test_one_too_many_is_told_and_a_place_that_is_free_is_given(self) -> None:
        async with serving(Paths(), max_connections=1) as served, served.peer() as first:
            assert (await first.get("/hello")).status == 200
            async with served.peer() as second:
                reply = await second.get("/hello")
                assert (reply.status, reply.headers["connection"]) == (503, "close")
                assert reply.headers["retry-after"] == "1"
                assert reply.json["error"]["code"] == "too_many_connections"
                assert await second.end() == b""
            assert (await first.get("/hello", "Connection: close")).status == 200
            await first.end()
            await first.stream.aclose()
            await _until_served(served)

    async def test_far_too_many_are_closed_unread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("apexbridge_trio.serving.server.TURNED_AWAY", 1)
        async with serving(Paths(), max_connections=1) as served, served.peer() as first:
            assert (await first.get("/hello")).status == 200
            async with served.peer() as second, served.peer() as third:
                assert (await second.get("/hello")).status == 503
                assert await third.end() == b""


async def _until_served(served: Served) -> None:
    while True:
        async with served.peer() as peer:
            await peer.send(request("GET", "/hello"))
            if (await peer.reply()).status == 200:
                return


class TestShutdown:
    async def test_what_is_in_flight_ends_properly(self) -> None:
        stream = Stream(b"x", pause_s=0.01)
        sockets = Sockets()
        async with serving(Paths(stream=stream, ws=sockets)) as served:
            async with served.peer() as peer, served.socket("/ws") as ws, served.peer() as idle:
                await peer.send(request("GET", "/stream"))
                await stream.began.wait()
                assert (await idle.get("/hello")).status == 200
                served.stop.set()
                assert await idle.end() == b""
                assert await ws.closed() == 1001
                await sockets.left.wait()
                assert sockets.code == 1001
                stream.over.set()
                assert (await peer.end()).endswith(b"0\r\n\r\n")
            await served.stopped.wait()

    async def test_an_answer_after_it_says_close(self) -> None:
        over = trio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await over.wait()
            await answer(send, b"slow")

        async with serving(Paths(slow=slow)) as served, served.peer() as peer, served.peer() as idle:
            await peer.send(request("GET", "/slow"))
            assert (await idle.get("/hello")).status == 200
            served.stop.set()
            assert await idle.end() == b""
            over.set()
            reply = await peer.reply()
            assert (reply.body, reply.headers["connection"]) == (b"slow", "close")

    async def test_nothing_is_accepted_any_more(self, tmp_path: Path) -> None:
        # On a path of the test's own: a port that was given up may be another program's at once.
        path, unix = tmp_path / "hub", socket.socket(socket.AF_UNIX)
        unix.bind(str(path))
        silent, stop = Silent(), trio.Event()
        app, limits = Paths(silent=silent), ServingLimits(grace_s=0.1)
        run = partial(serve, app, sockets=[unix], limits=limits, shutdown=stop.wait, on_fault=print)
        with trio.fail_after(SAFETY_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                stream = await trio.open_unix_socket(path)
                await stream.send_all(request("GET", "/silent"))
                await silent.began.wait()
                stop.set()
            async with stream:
                with pytest.raises(ConnectionRefusedError):
                    await trio.open_unix_socket(path)

    async def test_a_handler_that_goes_on_is_cancelled_after_the_grace(self) -> None:
        silent = Silent()
        async with serving(Paths(silent=silent), grace_s=0.1) as served, served.peer() as peer:
            await peer.send(request("GET", "/silent"))
            await silent.began.wait()
            served.stop.set()
            assert await peer.end() == b""
            await served.stopped.wait()

    async def test_who_has_just_connected_may_still_ask_once(self) -> None:
        async with serving(Paths()) as served, served.peer() as early, served.peer() as late:
            # Connections are accepted in their order, so both were when a third is answered.
            await served.lives()
            served.stop.set()
            await trio.testing.wait_all_tasks_blocked()  # it listens no more
            await early.send(request("GET", "/hello"))
            reply = await early.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            for peer in (early, late):
                await peer.stream.aclose()
            await served.stopped.wait()


class TestStart:
    async def test_quart_starts_before_and_stops_after_serving(self) -> None:
        steps: list[str] = []
        app = quart_app()
        app.before_serving(partial(_note, steps, "up"))
        app.after_serving(partial(_note, steps, "down"))
        async with serving(app) as served:
            assert steps == ["up"]
            await served.lives()
        assert steps == ["up", "down"]

    async def test_a_start_up_that_fails_starts_nothing(self) -> None:
        app = quart_app()

        @app.before_serving
        async def fail() -> None:
            raise ValueError("no disk")

        with pytest.RaisesGroup(
            pytest.RaisesExc(InternalFault, match="startup: no disk"), flatten_subgroups=True
        ):
            async with serving(app):
                raise AssertionError

    async def test_a_crash_of_the_lifespan_is_total(self) -> None:
        crash = trio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await crash.wait()
            raise ValueError("service")

        with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="service"), flatten_subgroups=True):
            async with serving(app):
                crash.set()
                await trio.sleep_forever()

    async def test_what_the_lifespan_keeps_is_in_each_scope(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await answer(send, scope["state"]["word"])
                return
            for phase in ("startup", "shutdown"):
                await receive()
                scope["state"]["word"] = b"kept"
                await send({"type": f"lifespan.{phase}.complete"})

        async with serving(app) as served, served.peer() as peer:
            assert (await peer.get("/")).body == b"kept"

    @pytest.mark.parametrize("bind", ["", "8088", ":8088", "localhost:", "localhost:http"])
    async def test_a_bind_must_be_an_address(self, bind: str) -> None:
        with pytest.raises(ConfigInvalid, match="HOST:PORT"):
            await serve(
                Paths(), binds=[bind], limits=ServingLimits(), shutdown=trio.sleep_forever, on_fault=print
            )

    async def test_a_bind_that_fails_leaves_no_socket(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            binds = ["127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"]
            with pytest.raises(ConfigInvalid, match=rf"{binds[1]}: Address already in use; stop what"):
                await serve(
                    Paths(), binds=binds, limits=ServingLimits(), shutdown=trio.sleep_forever, on_fault=print
                )

    async def test_ipv6_and_unix(self, tmp_path: Any) -> None:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(tmp_path / "hub"))
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            run = partial(serve, Paths(), limits=ServingLimits(), shutdown=stop.wait, on_fault=print)
            binds = await nursery.start(partial(run, binds=["[::1]:0"], sockets=[unix]))
            async with await trio.open_tcp_stream(*binds[0]) as stream:
                assert (await Peer(stream).get("/hello")).body == b"hello"
            async with await trio.open_unix_socket(tmp_path / "hub") as stream:
                assert (await Peer(stream).get("/hello")).body == b"hello"
            stop.set()

    def test_other_versions_are_refused(self) -> None:
        with pytest.raises(ConfigInvalid, match=r"h11 0\.16\.0 is installed, .* 0\.17\.0"):
            require_proved({"h11": "0.17.0"})
        with pytest.raises(ConfigInvalid, match="none is installed"):
            require_proved({"no-such-library": "1"})


async def _note(steps: list[str], step: str) -> None:
    steps.append(step)
