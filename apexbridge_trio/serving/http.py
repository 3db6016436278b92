"""HTTP/1.1 over Hypercorn's protocol object for h11."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

import h11
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import events
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from apexbridge_trio.errors import (
    ApexError,
    BadRequest,
    BodyTooLarge,
    CutShort,
    HeadTooLarge,
    RequestStalled,
    VersionUnsupported,
)
from apexbridge_trio.serving.call import Calls
from apexbridge_trio.serving.pace import Pace
from apexbridge_trio.serving.phase import Patience, Phase
from apexbridge_trio.serving.refusal import (
    Headers,
    date_header,
    named,
    of_status,
    refusal,
)
from apexbridge_trio.serving.request import HttpStream
from apexbridge_trio.serving.site import Site
from apexbridge_trio.serving.websocket import SocketStream, is_upgrade
from apexbridge_trio.serving.wire import Wire

# What a peer may send ahead of its answer; one that sends more is cut, or its leaving would stay
# unseen until somebody reads on.
AHEAD_BYTES: Final = 64 * 1024
# h11 counts a head only while it is incomplete; one that comes at once is counted here.
HEAD_BYTES: Final = 16 * 1024
# Who has connected has sent its request by then, or is a browser's that it keeps for later.
ARRIVAL_S: Final = 1.0
# RFC 9112, 2.2: some send an empty line behind a body.
_LINE_ENDS: Final = b"\r\n"
# What is read and dropped after the last reply, in bodies of the largest size.
LINGER_BODIES: Final = 4

Address = tuple[str, int] | None


class HttpProtocol(H11Protocol):
    """One connection's HTTP/1.1.

    Everything here runs to its end without suspending, but where an app sends: the reader and
    the tasks of requests call it in turn and never meet in the middle.

    Args:
        site: The server's.
        wire: Where bytes go out.
        calls: Where requests run.
        patience: The reader's deadline.
        client: The peer's address.
        server: Ours.
        refusal: The answer to whatever is asked; not before, as the request says who may read it.
    """

    def __init__(
        self,
        site: Site,
        wire: Wire,
        calls: Calls,
        patience: Patience,
        client: Address,
        server: Address,
        refusal: ApexError | None = None,
    ) -> None:
        super().__init__(
            cast("Any", site.app),
            site.config,
            WorkerContext(None),
            cast("Any", calls),
            ConnectionState(site.state),
            ssl=False,
            client=client,
            server=server,
            send=self._deliver,
        )
        self._site = site
        self._refusal = refusal
        self.limits = site.limits
        self.wire = wire
        self.patience = patience
        self.pace = Pace(site.limits.max_messages_per_s)
        self.is_draining = False
        self._has_served = False
        self._http = cast("h11.Connection", self.connection)
        self._request: h11.Request | None = None
        self._named: tuple[str, Headers] = ("", [])
        self._body_bytes = 0
        self._dropped_bytes = 0

    async def handle(self, event: Event) -> None:
        """Take bytes of the peer, or its end."""
        if isinstance(event, Closed):
            await self._close_stream()
        elif isinstance(event, RawData):
            if self.patience.phase is Phase.LINGER:
                self._drop(len(event.data))
                return
            data = event.data
            if self._is_between and not (data := data.lstrip(_LINE_ENDS)):
                return
            if self.patience.phase is Phase.IDLE:
                self._begin()
            self.connection.receive_data(data)
            await self._handle_events()
            self.wire.push()

    @property
    def is_behind(self) -> bool:
        """Whether messages that were read wait for the peer's next turn."""
        return isinstance(self.stream, SocketStream) and self.stream.is_behind

    async def go_on(self) -> None:
        """Take some of the messages that wait."""
        await cast("SocketStream", self.stream).take_turn()
        self.wire.push()

    async def on_silence(self) -> None:
        """The phase's time is over: end the connection, with a word where one is due."""
        has_begun = bool(self._http.trailing_data[0])
        match self.patience.phase:
            case Phase.BODY:
                await self.refuse(of_status(RequestStalled.status))
            case Phase.HEAD if has_begun:
                await self.refuse(of_status(RequestStalled.status))
            case Phase.SOCKET:
                await cast("SocketStream", self.stream).on_tick()
            case _:
                self.wire.lose()

    async def drain(self) -> None:
        """End as soon as what is in flight allows: idle at once, a WebSocket with 1001.

        Who has only just connected may ask once: they came before we stopped to listen.
        """
        self.is_draining = True
        if isinstance(self.stream, SocketStream):
            await self.stream.go_away()
        elif self._request is None and self.patience.phase is Phase.HEAD and not self._has_served:
            self.patience.until(min(self.patience.deadline, trio.current_time() + ARRIVAL_S))
        elif self.stream is None and self.patience.phase is not Phase.BODY and self.wire.is_clear:
            self.wire.lose()

    async def refuse(self, error: ApexError) -> None:
        """Answer for the app, end its call with the same fault, and end the connection."""
        self.wire.fault = error
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            request_id, asked = self._named if self._request else named([])
            headers, body = refusal(error, request_id)
            headers += [date_header(), *self._site.shown_to(asked)]
            await self._send_h11_event(h11.Response(status_code=error.status, headers=headers))
            if not (self._request and self._request.method == b"HEAD"):
                await self._send_h11_event(h11.Data(data=body))
            await self._send_h11_event(h11.EndOfMessage())
        await self._close_stream()
        self.finish()

    def finish(self) -> None:
        """Say the end, and read on only to drop, until the peer hangs up or the time is over."""
        self.patience.enter(Phase.LINGER)
        self.wire.finish()

    def stream_parts(self, tasks: Any) -> tuple[Any, ...]:
        """Return what any of Hypercorn's streams is made of; `tasks` is what starts its app."""
        connection = (self.ssl, self.client, self.server)
        return (self.app, self.config, self.context, tasks, *connection, self.stream_send, STREAM_ID)

    async def stream_send(self, event: events.Event) -> None:
        """Write what a stream says; it goes out when the stream pushes the wire."""
        if isinstance(event, events.Response):
            headers: Headers = list(event.headers)
            if not any(name == b"date" for name, _ in headers):
                headers.append(date_header())
            if event.status_code >= 200 and (self.is_draining or self.connection is not self._http):
                headers.append((b"connection", b"close"))
            event = replace(event, headers=headers)
        await super().stream_send(event)

    async def _deliver(self, event: Event) -> None:
        if isinstance(event, RawData):
            self.wire.post(event.data)
        elif isinstance(event, Closed):
            self.finish()

    async def _handle_events(self) -> None:
        while self.patience.phase is not Phase.LINGER:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as fault:
                await self.refuse(of_status(fault.error_status_hint))
                return
            if event is h11.PAUSED:
                self._watch_ahead()
                return
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return
            await self._on_event(event)

    async def _on_event(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            await self._on_request(event)
        elif isinstance(event, h11.Data):
            await self._on_body(event)
        elif isinstance(event, h11.EndOfMessage):
            self.patience.enter(Phase.ANSWER)
            if self.stream is None:  # answered before its body was complete
                await self._maybe_recycle()
            else:
                await self.stream.handle(events.EndBody(stream_id=STREAM_ID))
        elif self.stream is not None:
            await self.stream.handle(event)

    async def _on_request(self, request: h11.Request) -> None:
        self._request = request
        self._named = named(list(request.headers))
        self._body_bytes = 0
        if fault := self._refusal or _fault_of(request, self.limits.max_body_bytes):
            await self.refuse(fault)
            return
        self.patience.enter(Phase.BODY)
        await self._create_stream(request)

    async def _on_body(self, data: h11.Data) -> None:
        self._body_bytes += len(data.data)
        self.patience.heard(self._body_bytes)
        if self._body_bytes > self.limits.max_body_bytes:
            await self.refuse(of_status(BodyTooLarge.status))
        elif self.stream is not None:
            await self.stream.handle(events.Body(stream_id=STREAM_ID, data=bytes(data.data)))

    async def _create_stream(self, request: h11.Request) -> None:
        kind: Callable[[HttpProtocol], HttpStream | SocketStream] = HttpStream
        if is_upgrade(request):
            kind = SocketStream
            self.patience.enter(Phase.ANSWER)
            self.connection = H11WSConnection(self._http)
        self.stream = kind(self)
        await self.stream.handle(
            events.Request(
                stream_id=STREAM_ID,
                headers=self._named[1],
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def _maybe_recycle(self) -> None:
        await self._close_stream()
        if self.patience.phase is Phase.LINGER or self.wire.is_lost:
            return
        if self.is_draining or self.connection.our_state is not h11.DONE:
            self.finish()
        elif self.connection.their_state is h11.DONE:
            self.connection.start_next_cycle()
            self._request = None
            self._has_served = True
            self.patience.enter(Phase.IDLE)
            if self._has_more():
                self._begin()
                await self._handle_events()
        self.wire.push()

    @property
    def _is_between(self) -> bool:
        """Whether the next byte is the first of a request."""
        phase = self.patience.phase
        return phase is Phase.IDLE or (phase is Phase.HEAD and not self._http.trailing_data[0])

    def _has_more(self) -> bool:
        """Tell whether another request has come ahead; empty lines are none, and h11 would refuse them."""
        ahead = self._http.trailing_data[0]
        if ahead[:1] in {b"\r", b"\n"}:
            ahead = ahead.lstrip(_LINE_ENDS)
            size = self.config.h11_max_incomplete_size
            self._http = self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=size)
            if ahead:  # nothing would mean the end
                self.connection.receive_data(ahead)
        return bool(ahead)

    def _begin(self) -> None:
        """Begin another request, by the limits of now; it keeps to them."""
        self.limits = self.patience.limits = self._site.limits
        self.wire.send_timeout_s = self.limits.send_timeout_s
        self.patience.enter(Phase.HEAD)

    def _watch_ahead(self) -> None:
        if len(self._http.trailing_data[0]) > AHEAD_BYTES:
            self.wire.lose(CutShort("it sent too much ahead of its answer", code="sent_ahead"), reset=True)

    def _drop(self, received: int) -> None:
        self._dropped_bytes += received
        self.patience.heard(self._dropped_bytes)
        if self._dropped_bytes > LINGER_BODIES * self.limits.max_body_bytes:
            self.wire.lose()


def _fault_of(request: h11.Request, max_body_bytes: int) -> ApexError | None:
    """Say what is wrong with a request that h11 lets through and we do not."""
    headers = dict(request.headers)
    length = int(headers.get(b"content-length", b"0"))
    if request.http_version not in {b"1.0", b"1.1"}:
        return of_status(VersionUnsupported.status)
    if len(request.target) + sum(len(name) + len(value) for name, value in request.headers) > HEAD_BYTES:
        return of_status(HeadTooLarge.status)
    if request.method == b"CONNECT" or not request.target.startswith(b"/"):
        return BadRequest("The request target must be a path: this is no proxy.", code="malformed_request")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        # RFC 9112 6.3: two sizes are how requests are smuggled.
        return BadRequest("A body has one size: length or chunked, not both.", code="malformed_request")
    if length > max_body_bytes:
        return of_status(BodyTooLarge.status)
    return None
