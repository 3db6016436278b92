"""One call of the app with its inbox, and what stands where Hypercorn has its task group."""

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

import trio
from trio.lowlevel import checkpoint  # noqa: TID251 - sleep(0) by its proper name

from apexbridge_trio.errors import ApexError
from apexbridge_trio.peer import PEER

Message = dict[str, Any]
Scope = dict[str, Any]
ASGIApp = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
OnFault = Callable[[str, BaseException], None]

# An app that has not taken the disconnect by then does not listen (Quart-Trio with 10 unread
# WebSocket messages), and is cancelled instead. One that took it ends at its own pace.
LEAVE_S: Final = 1.0
# What an empty message costs in memory, so that many small ones count too.
MESSAGE_COST_BYTES: Final = 256


class Inbox:
    """What the peer of one request or WebSocket has said, for the app at work on it; a `Peer` to the edge.

    It is bounded by who fills it: a body by the body limit, a WebSocket by what `put` says is
    unread. Cancellation: a disconnect is a message like any other, after what is unread of a
    WebSocket and instead of what is unread of a body.

    It knows neither the app nor who fills it, so that nothing of a request holds itself: what has been
    answered is gone at once, and the collector, which stops everybody, finds nothing to do.

    Attributes:
        running: Around the app; ends it when it does not take that its peer is gone.
    """

    def __init__(self, kind: str) -> None:
        self._is_http = kind == "http"
        self._unread: deque[Message] = deque()
        self._unread_bytes = 0
        self._gone: Message | None = None
        self._is_cut_when_gone = False
        self._arrival = trio.Event()
        self.running = trio.CancelScope()

    @property
    def is_gone(self) -> bool:
        """Whether the peer has left."""
        return self._gone is not None

    @property
    def cut(self) -> ApexError | None:
        """Why the server has ended the connection; None: it has not, or the peer hung up first."""
        return None if self._gone is None else self._gone.get("fault")

    def cut_when_gone(self) -> None:
        """Cancel the app as soon as its peer is gone, in place of telling it.

        To wait for nothing but that, an app would need a task: an eighth of what a chat costs.
        """
        self._is_cut_when_gone = True
        if self.is_gone:
            self._cut()

    async def put(self, message: Any) -> int:
        """Add a message without waiting, and return how many bytes are unread."""
        if message["type"].endswith(".disconnect"):
            self._leave(message)
        elif self._gone is None:
            self._unread.append(message)
            self._unread_bytes += _cost_bytes(message)
        self._arrival.set()
        return self._unread_bytes

    async def receive(self) -> Message:
        """Return the next message; after a disconnect, that for ever."""
        while not self._unread and self._gone is None:
            self._arrival = trio.Event()
            await self._arrival.wait()
        if self._unread:
            message = self._unread.popleft()
            self._unread_bytes -= _cost_bytes(message)
            return message
        self.running.deadline = inf
        await checkpoint()  # an app that asks again and again stops nobody else
        assert self._gone is not None
        return self._gone

    def _leave(self, message: Message) -> None:
        self._gone = message
        if self._is_cut_when_gone:
            self._cut()
        else:
            self.running.deadline = trio.current_time() + LEAVE_S
        if self._is_http:
            self._unread.clear()

    def _cut(self) -> None:
        self.running.cancel(reason="the peer has gone")


def _cost_bytes(message: Message) -> int:
    return MESSAGE_COST_BYTES + len(message.get("bytes") or message.get("text") or message.get("body") or b"")


class Calls:
    """The calls of one connection, each a task in its nursery."""

    def __init__(self, nursery: trio.Nursery, on_fault: OnFault) -> None:
        self._nursery = nursery
        self._on_fault = on_fault

    async def spawn_app(
        self, app: ASGIApp, _config: object, scope: Scope, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[int]]:
        """Start the app on a scope, and return what puts messages into its inbox."""
        inbox = Inbox(scope["type"])
        scope["extensions"][PEER] = inbox
        name = f"{scope['type']} {scope['path']}"
        self._nursery.start_soon(self._run, app, scope, inbox, send, name=name)
        return inbox.put

    async def _run(
        self, app: ASGIApp, scope: Scope, inbox: Inbox, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Run the app to its end, however it comes, and say so to the protocol."""
        with inbox.running:
            try:
                await app(scope, inbox.receive, send)
            except* Exception as crash:  # noqa: BLE001 - the trust boundary of a request
                self._on_fault("request", crash)
        await send(None)
