"""What the live connections of all channels have in common.

A link's reader only reads: it hands each message on, and waits for nothing but the next one, or a peer
that leaves is not seen.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import trio
from trio.lowlevel import checkpoint  # noqa: TID251  # sleep(0) by its proper name

# WebSocket close codes (RFC 6455, 7.4.1).
POLICY: Final = 1008
SLOW_READER: Final = 1013
# What is said of the peer that is closed so, or whose connection does not take a close any more.
DID_NOT_READ: Final = "it did not read what it was sent"

# Where a server puts its `Socket` in the scope's extensions.
SOCKET: Final = "apexbridge.socket"

# Frames that have come already are taken in turns, so that a flood of one peer lets the others have theirs.
FRAMES_A_TURN: Final = 16

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Socket(Protocol):
    """What a link needs of a WebSocket, beside what ASGI has."""

    def post(self, text: bytes) -> bool:
        """Send a text message without waiting; False if the peer leaves too much unread."""
        ...

    async def send_all(self, texts: Sequence[bytes]) -> None:
        """Send text messages, and wait until the peer has taken them."""
        ...

    def limit(self, max_bytes: int) -> None:
        """Bound what the peer may send at a time."""
        ...

    def slow(self, messages: int) -> None:
        """Read the peer as if it had sent so many messages more."""
        ...

    def attend(self, heard: Callable[[], None]) -> None:
        """Have `heard` called with each piece of a message of the peer's, from now on."""
        ...

    async def answers(self, within_s: float) -> bool:
        """Ping the peer, and tell whether it was heard in time."""
        ...


class Link(Protocol):
    """One live connection.

    Attributes:
        code: What it is closed with, once `run` has returned; `reason` says why it ended.
    """

    code: int
    reason: str

    async def run(self, receive: Receive) -> None:
        """Serve it until it ends, from either side."""
        ...

    def end(self, code: int, reason: str) -> None:
        """End it from this side, without waiting."""
        ...


async def hear(receive: Receive, take: Callable[[str | bytes], None], scope: trio.CancelScope) -> str:
    """Hand each message of the peer to `take`, until the peer has gone.

    Cancellation: what the peer had sent when the link was ended, such as with its key, counts no more.

    Args:
        receive: Gives the messages.
        take: Takes one; it may end the link.
        scope: The link's; cancelled when it is ended.

    Returns:
        Why the server has ended the connection; nothing if the peer hung up.
    """
    frames = 0
    while (message := await receive())["type"] != "websocket.disconnect":
        if scope.cancel_called or frames == FRAMES_A_TURN:
            frames = 0
            await checkpoint()
        if message["type"] == "websocket.receive":
            take(message.get("text") or message.get("bytes") or b"")
            frames += 1
    return str(message.get("reason") or "")
