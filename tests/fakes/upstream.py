"""A model provider that does as the request's `model` says, misbehaviour included.

Two ways to use it.

In memory, on the virtual clock (`connect` goes where the hub takes a connector):

    async with FakeUpstream() as provider:
        upstream = Upstream(entry, connect=provider.connect, transport=provider.transport)
        ...
        await provider.asked(0)             # the first request is here, whole
        seen = await provider.closed(0)     # the first connection has ended
        assert seen.closed_by == "peer"     # the hub closed it, not the provider

As a process (`tests.harness.process` starts it): `python -m tests.fakes.upstream --port 0` prints its
port as the first line. `GET /seen` then tells what it saw: `{"connections": [{n, openedNs, closedNs, closedBy, requests: [{n, method, path,
model, atNs, authorization, body}]}]}`, times by `time.monotonic_ns`, which is one clock for all
processes of a machine. `GET /seen?from=N` leaves out the connections before N, `?closed=N` answers
once connection N has ended.

A model's name is a behaviour and its arguments, `name:arg:arg`. Each answers in the form that was
asked for (JSON, or a stream of one word a chunk) unless it says otherwise.

| model                   | what it does                                                               |
|-------------------------|----------------------------------------------------------------------------|
| `hello`, any other name | says `Hello from NAME.`                                                    |
| `echo`                  | says the last message back                                                 |
| `stream:N:MS`           | says `w0 w1 … `, N words, MS milliseconds apart                            |
| `tools[:how…]`          | calls what the last user message says, one `NAME {"json": "object"}` a     |
|                         | line; after tool messages it says `Tools said: A | B`. How: `no-index`,    |
|                         | `same-id`, `no-id`, `whole` (arguments in one piece), `forever` (always    |
|                         | calls again)                                                               |
| `flaky:N[:CODE]`        | CODE (500) to the first N requests of this very name, then hello           |
| `status:CODE[:S]`       | that status, with `Retry-After: S`                                         |
| `dead`                  | hangs up without a byte                                                    |
| `dead-head`             | hangs up in the middle of the head                                         |
| `dead-mid:N`            | N words, then hangs up (JSON: half the body)                               |
| `stall`                 | never answers                                                              |
| `stall-mid:N`           | N words, then nothing (JSON: half the body)                                |
| `endless:MS`            | words without end                                                          |
| `held`                  | `w0 w1 w2 `, and its last word `w3 ` once `GET /go` was asked for          |
| `split:N`               | Chinese text and emoji, N (1) bytes of the body a write                    |
| `json` / `sse`          | JSON to a stream request / a stream to a JSON request                      |
| `no-done`               | a stream without `[DONE]`                                                  |
| `hold-open`             | a stream with `[DONE]`, whose body never ends                              |
| `error-event`           | a stream with one word, then an error event                                |
| `garbage`               | bytes that are not HTTP                                                    |
| `garbage-json`          | 200 and application/json, but not JSON                                     |
| `garbage-stream`        | a stream of events that are not JSON                                       |
| `hangup`                | hello, promises keep-alive, then hangs up: a stale connection              |
| `close`, `until-close`  | `Connection: close`; a body without a length                               |
| keys of `RAW`           | those bytes: 1xx first, hostile lengths, codings, trailers, …              |
| `endless-headers`       | a head without end                                                         |
| keys of `.scripts`      | the test's own behaviour: an async function that takes a `Call`            |

With `key=` other keys get a 401 whose message quotes the key that was sent. `GET …/models` lists
`.models`, or behaves as `.models_as` says.
"""

import argparse
import math
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import h11
import httpcore
import httpx
import trio
from httpcore._backends.trio import TrioStream

from apexbridge_trio.relay.route import socket_of
from tests.fakes.behaviours import BEHAVIOURS, RAW, Behaviour, Call, HangUp, Request, encode, hello
from tests.fakes.memory import MemoryStream


@dataclass
class Connection:
    """One connection as the provider saw it."""

    n: int
    requests: list[Request] = field(default_factory=list)
    opened_ns: int = 0
    closed_ns: int | None = None
    closed_by: str = ""
    """`peer`, `provider`, or empty while open."""
    closed: trio.Event = field(default_factory=trio.Event)

    def end(self, by: str) -> None:
        if not self.closed_by:
            self.closed_by, self.closed_ns = by, time.monotonic_ns()
            self.closed.set()

    def shown(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "openedNs": self.opened_ns,
            "closedNs": self.closed_ns,
            "closedBy": self.closed_by or None,
            "requests": [request.shown() for request in self.requests],
        }


class FakeUpstream:
    """The provider. See the module's table.

    Args:
        key: What `Authorization: Bearer` must hold; empty: anything.

    Attributes:
        scripts: Behaviours of the test's own, by model name.
        models: What `GET /models` lists.
        models_as: A model name that says how `GET /models` behaves instead.
        is_refusing: Connections are refused.
        connections: Every connection, oldest first.
        faults: Requests that were not HTTP; a test may assert that there are none.
        go: What `held` streams wait for.
    """

    def __init__(self, *, key: str = "") -> None:
        self.key = key
        self.scripts: dict[str, Behaviour] = {}
        self.models = ["hello", "echo"]
        self.models_as = ""
        self.is_refusing = False
        self.connections: list[Connection] = []
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.port = 0
        self.go = trio.Event()
        self._asked: dict[int, trio.Event] = {}
        self._opened: dict[int, trio.Event] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._nursery.cancel_scope.cancel(reason="the test is over")
        await self._stack.aclose()

    # The ways in.

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Connect over memory; a `relay.Connect`."""
        await trio.lowlevel.checkpoint()
        if self.is_refusing:
            raise ConnectionRefusedError(f"{host}:{port} refused")
        near, far = MemoryStream.pair()
        self._nursery.start_soon(self.serve, far, name="provider connection")
        return near

    def transport(self) -> httpx.AsyncBaseTransport:
        """Make an httpx transport that connects over memory."""
        transport = httpx.AsyncHTTPTransport(verify=False)
        transport._pool = httpcore.AsyncConnectionPool(network_backend=_Network(self), max_connections=None)
        return transport

    async def listen(self, port: int = 0) -> int:
        """Serve real TCP on loopback too, and return the port."""
        serve = partial(trio.serve_tcp, self.serve, port, host="127.0.0.1")
        listeners = await self._nursery.start(serve)
        self.port = listeners[0].socket.getsockname()[1]
        return self.port

    # What it saw.

    @property
    def requests(self) -> list[Request]:
        """Every request, in the order they came."""
        found = [request for connection in self.connections for request in connection.requests]
        return sorted(found, key=lambda request: request.n)

    async def asked(self, n: int) -> Request:
        """Wait until request `n` (from 0, over all connections) is here."""
        await self._asked.setdefault(n, trio.Event()).wait()
        return self.requests[n]

    async def closed(self, n: int) -> Connection:
        """Wait until connection `n` (from 0) has ended."""
        await self._opened.setdefault(n, trio.Event()).wait()
        await self.connections[n].closed.wait()
        return self.connections[n]

    # One connection: a reader that only reads, so that the peer's end is seen at once.

    async def serve(self, stream: trio.abc.Stream) -> None:
        connection = Connection(len(self.connections), opened_ns=time.monotonic_ns())
        self.connections.append(connection)
        self._opened.setdefault(connection.n, trio.Event()).set()
        inbox, requests = trio.open_memory_channel[Request](math.inf)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_all, stream, connection, requests, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                await self._read_all(stream, connection, inbox)
            connection.end("peer")
            nursery.cancel_scope.cancel(reason="the peer is gone")

    async def _read_all(
        self, stream: trio.abc.Stream, connection: Connection, inbox: trio.MemorySendChannel[Request]
    ) -> None:
        parser = h11.Connection(h11.SERVER)
        head, body = None, b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as fault:
                self.faults.append(str(fault))
                return
            if event is h11.NEED_DATA:
                parser.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                inbox.send_nowait(self._record(connection, head, body))
                rest, _ = parser.trailing_data
                parser = h11.Connection(h11.SERVER)
                parser.receive_data(rest) if rest else None
            else:
                return

    def _record(self, connection: Connection, head: h11.Request, body: bytes) -> Request:
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        n = sum(len(one.requests) for one in self.connections)
        request = Request(n, head.method.decode(), head.target.decode(), headers, body, time.monotonic_ns())
        connection.requests.append(request)
        self.counts[request.model] += 1
        self._asked.setdefault(n, trio.Event()).set()
        return request

    async def _answer_all(
        self,
        stream: trio.abc.Stream,
        connection: Connection,
        requests: trio.MemoryReceiveChannel[Request],
        scope: trio.CancelScope,
    ) -> None:
        try:
            async for request in requests:
                await self._answer(Call(self, request, [], stream))
        except HangUp:
            connection.end("provider")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.end("peer")
        scope.cancel(reason="the connection has ended")

    async def _answer(self, call: Call) -> None:
        url = urlsplit(call.request.path)
        sent = call.request.headers.get("authorization", "").removeprefix("Bearer ")
        if url.path == "/seen":
            query = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
            if "closed" in query:
                await self.closed(query["closed"])
            shown = [one.shown() for one in self.connections[query.get("from", 0) :]]
            await call.whole(encode({"connections": shown}))
        elif url.path == "/go":
            self.go.set()
            await call.whole(b"{}")
        elif self.key and sent != self.key:
            await call.fail(401, f"Incorrect API key provided: {sent}")
        elif not url.path.endswith("/models"):
            await self._behave(call, call.request.model)
        elif self.models_as:
            await self._behave(call, self.models_as)
        else:
            listed = [{"id": name, "object": "model"} for name in self.models]
            await call.whole(encode({"object": "list", "data": listed}))

    async def _behave(self, call: Call, model: str) -> None:
        name, *call.args = model.split(":")
        if script := self.scripts.get(model):
            await script(call)
        elif name in RAW:
            await call.send(RAW[name])
        else:
            await BEHAVIOURS.get(name, hello)(call)


class _Network(httpcore.AsyncNetworkBackend):
    """Hands httpcore the provider's memory streams."""

    def __init__(self, provider: FakeUpstream) -> None:
        self._provider = provider

    async def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        try:
            return _NetworkStream(await self._provider.connect(host, port))
        except OSError as fault:
            raise httpcore.ConnectError(str(fault)) from fault


class _NetworkStream(TrioStream):
    """httpcore's own stream, which would insist on a socket when it looks."""

    def get_extra_info(self, info: str) -> Any:
        return socket_of(self._stream).is_readable() if info == "is_readable" else None


async def _run(port: int) -> None:
    async with FakeUpstream() as provider:
        print(await provider.listen(port), flush=True)
        await trio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fakes.upstream")
    parser.add_argument("--port", type=int, default=0)
    trio.run(_run, parser.parse_args().port)


if __name__ == "__main__":
    main()
