"""One HTTP request over Hypercorn's stream of ASGI messages."""

from typing import TYPE_CHECKING, Any

from hypercorn.protocol import events
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from trio.lowlevel import checkpoint  # noqa: TID251 - sleep(0) by its proper name

from apexbridge_trio.serving.refusal import of_status

if TYPE_CHECKING:
    from apexbridge_trio.serving.http import HttpProtocol


class HttpStream(HTTPStream):
    """One request: ASGI's messages one way, the protocol's events the other."""

    def __init__(self, protocol: "HttpProtocol") -> None:
        super().__init__(*protocol.stream_parts(protocol.task_group))
        self._protocol = protocol
        self._wire = protocol.wire
        self._held: Any = None

    async def handle(self, event: events.Event) -> None:
        """Take what the peer sends, or its end, with why if it was cut.

        Once all is said its leaving is no news to the app: Quart-Trio cancels whoever still sends when it
        is told, which broke keep-alive. That it was cut is, as it has not taken what was said.
        """
        if not isinstance(event, events.StreamClosed):
            await super().handle(event)
        elif not self.closed:
            self.closed = True
            fault = self._wire.fault
            if fault is not None or self.state is not ASGIHTTPState.CLOSED:
                left: Any = {"type": "http.disconnect", "fault": fault}
                await self.app_put(left)

    async def app_send(self, message: Any) -> None:
        """Send what the app says, and wait until the peer has taken it.

        The head of a sized reply goes out with the first of its body, as one piece. What an app says
        after its request has ended is dropped.
        """
        if self.closed:
            await checkpoint()  # a loop that only sends must still see its cancellation
        elif message is None:
            await super().app_send(None)
        elif self._held is None and self.state is ASGIHTTPState.REQUEST and _is_sized(message):
            self._held = message
        else:
            await self._say(message)

    async def _say(self, message: Any) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            await super().app_send(held)
        await super().app_send(message)
        if not self.closed:
            self._wire.push()
            await self._wire.drained()
            await checkpoint()

    async def _send_closed(self) -> None:
        await self.send(events.EndBody(stream_id=self.stream_id))
        self.state = ASGIHTTPState.CLOSED
        # The next request is read only then, or a peer that asks and never reads fills the wire.
        self._wire.push()
        await self._wire.drained()
        await self.send(events.StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        self.state = ASGIHTTPState.CLOSED
        await self._protocol.refuse(of_status(status_code))


def _is_sized(message: Any) -> bool:
    return message["type"] == "http.response.start" and any(
        name.lower() == b"content-length" for name, _ in message.get("headers", ())
    )
