"""One WebSocket to the hub: TCP, TLS, the upgrade, and every byte heard.

This room is the only user of trio-websocket (0.12.2), whose ``open_websocket`` can hang on leaving: so
the stream is ours, the library only wraps it, and who leaves closes the stream.
"""

import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import trio
import trio_websocket

from apexbridge_trio.agent.address import HubAddress
from apexbridge_trio.config import Secret

CONNECT_S: Final = 20.0
UPGRADE_S: Final = 20.0
# The hub's frames: its own limit is 1 MiB for others, and a task's arguments may be as large as a result.
MOST_FRAME_BYTES: Final = 16 * 1024 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
# A piece of a long message. See `Ear.send_all`.
_PIECE_BYTES: Final = 64 * 1024

Connect = Callable[[HubAddress], Coroutine[Any, Any, trio.abc.Stream]]


class Unreachable(Exception):
    """There is no hub, or what is there is none."""


class Refused(Exception):
    """The hub, or something before it, answers the upgrade with an HTTP status.

    Args:
        status: HTTP's.
        retry_after_s: What it asked for.
    """

    def __init__(self, status: int, retry_after_s: float = 0.0) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class Ear(trio.abc.Stream):
    """A stream that tells of every sign of life of its other end.

    Args:
        stream: Closed with this one.

    Attributes:
        heard: Called when bytes came, of whatever kind: a pong counts as much as a frame.
        ended: Called when no more will come.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.heard: Callable[[], None] = _nothing
        self.ended: Callable[[], None] = _nothing

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as the stream does."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended()
            raise
        (self.heard if data else self.ended)()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as the stream does.

        A long message takes its time on a slow line, and so long nothing else comes through, no sign
        of life of ours either. While the other end goes on taking it, it lives; the first pieces only
        fill the buffers of this machine, and the last one too may.
        """
        view = memoryview(data)
        while len(view) > _PIECE_BYTES:
            await self._stream.send_all(view[:_PIECE_BYTES])
            view = view[_PIECE_BYTES:]
            self.heard()
        await self._stream.send_all(view)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream."""
        self.ended()
        await self._stream.aclose()


def _nothing() -> None:
    pass


async def connect(address: HubAddress) -> trio.abc.Stream:
    """Connect by TCP, and TLS with the machine's own authorities.

    Raises:
        Unreachable: In words for people.
    """
    try:
        with trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(address.host, address.port)
            return await _secured(stream, address.host) if address.is_tls else stream
    except trio.TooSlowError:
        raise Unreachable(f"no answer within {CONNECT_S:g} s") from None
    except trio.BrokenResourceError as fault:
        raise Unreachable(f"no TLS: {_told(fault.__cause__)}") from None
    except OSError as fault:
        raise Unreachable(_first(fault)) from None


def _first(fault: OSError) -> str:
    """Say why; of several addresses that were tried, for the first."""
    cause: BaseException | None = fault.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    told = cause if isinstance(cause, OSError) else fault
    return told.strerror or str(fault)


def _told(fault: BaseException | None) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"this machine does not trust the certificate: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or "").replace("_", " ").lower() or str(fault)
    return "the connection ended"


async def _secured(stream: trio.SocketStream, host: str) -> trio.abc.Stream:
    secured = trio.SSLStream(
        stream, ssl.create_default_context(), server_hostname=host, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except BaseException:  # nothing is handled: whatever ends it, Cancelled too, closes the socket
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def upgrade(
    nursery: trio.Nursery, ear: Ear, address: HubAddress, key: Secret
) -> trio_websocket.WebSocketConnection:
    """Ask for the node channel.

    Args:
        nursery: Gets the library's reader. An HTTP answer in place of a socket comes out of it, as
            `trio_websocket.ConnectionRejected`, in a group.
        ear: The connection, which is the caller's to close.
        address: For the request.
        key: Goes into a header, and nowhere else.

    Raises:
        Unreachable: The other end hung up, was silent, or speaks something else.
    """
    with trio.move_on_after(UPGRADE_S) as patience:
        # The library waits for ever for an answer that can not come any more (0.12.2).
        ear.ended = partial(patience.cancel, reason="the other end has hung up")
        return await trio_websocket.wrap_client_stream(
            nursery,
            ear,  # type: ignore[arg-type]  # any stream does
            address.authority,
            address.path,
            extra_headers=[(b"Authorization", f"Bearer {key.reveal()}".encode("ascii"))],
            max_message_size=MOST_FRAME_BYTES,
            receive_buffer_size=_RECEIVE_BYTES,
        )
    raise Unreachable("it did not answer as a hub does")


def refusal_of(rejected: trio_websocket.ConnectionRejected) -> Refused:
    """Return what an HTTP answer to the upgrade means."""
    wanted = dict(rejected.headers or ()).get(b"retry-after", b"")
    return Refused(rejected.status_code, float(wanted) if wanted.isdigit() and len(wanted) < 6 else 0.0)
