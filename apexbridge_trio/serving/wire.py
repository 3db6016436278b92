"""What goes out on one connection."""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

import trio

from apexbridge_trio.errors import ApexError, SlowReader
from apexbridge_trio.links import DID_NOT_READ
from apexbridge_trio.plain import PlainStream

# One piece must be taken within the send timeout: with the default of 20 s that is 3 KiB/s.
PIECE_BYTES: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Wire:
    """The bytes out: posted without waiting, pushed by a task of their own when the peer is slow.

    A cancelled sender leaves no half of its message behind: what was posted goes out whole and in
    order, or the connection is reset. So no send needs a shield.

    The buffer has no size of its own: an app waits in `drained` after each message, so it holds one
    message of the app (or what `SocketStream.post` allows), and the few replies of the reader are
    counted where they are made. A peer that
    does not read is hurt: after the send timeout it is reset.

    Args:
        stream: The connection; a plain one is written without waiting first.
        nursery: The connection's own; it holds the pushing task.
        send_timeout_s: Without the peer taking a piece, in seconds.
        on_lost: Called once the wire is lost; it wakes the reader.

    Attributes:
        fault: Why the connection was ended from this side, whether it is lost or is to be; None: it was
            not, or the peer hung up.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        nursery: trio.Nursery,
        send_timeout_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        self.is_lost = False
        self.fault: ApexError | None = None
        self._on_lost = on_lost
        self._stream = stream
        self._plain = stream if isinstance(stream, PlainStream) else None
        self._nursery = nursery
        self.send_timeout_s = send_timeout_s
        self._unsent = bytearray()
        self._at_end = False  # nothing will be posted any more
        self._ended = False
        self._pushing: trio.CancelScope | None = None
        self._drained = trio.Event()

    @property
    def is_clear(self) -> bool:
        """Whether all that was posted is with the kernel."""
        return not self._unsent

    @property
    def unsent_bytes(self) -> int:
        """How much of it is not with the kernel."""
        return len(self._unsent)

    def post(self, data: bytes) -> None:
        """Add `data` to what goes out with the next `push`; a lost wire drops it."""
        if not self.is_lost and not self._at_end:
            self._unsent += data

    def push(self) -> None:
        """Send what is posted: at once what the kernel takes, the rest in the background."""
        if self._pushing is not None or self.is_lost:
            return
        if self._plain is not None:
            self._push_nowait(self._plain)
        if (self._unsent or self._at_end) and not (self._ended or self.is_lost):
            self._drained = trio.Event()
            self._pushing = trio.CancelScope()
            self._nursery.start_soon(self._push_slowly, self._pushing, name="serving wire")

    def finish(self) -> None:
        """Say the end after what is posted; the peer may still send."""
        self._at_end = True
        self.push()

    async def drained(self) -> None:
        """Wait until all that was posted is with the kernel, or lost."""
        if self._pushing is not None:
            await self._drained.wait()

    def break_off(self, fault: Exception) -> None:
        """Lose the connection to what a system call or its stream has said of it.

        The kernel, too, gives up a peer that takes nothing for the send timeout (TCP_USER_TIMEOUT).
        """
        cause = fault if isinstance(fault, OSError) else fault.__cause__
        is_slow = isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT
        self.lose(SlowReader(DID_NOT_READ) if is_slow else None)

    def lose(self, fault: ApexError | None = None, *, reset: bool = False) -> None:
        """Close now and drop what is unsent; with `reset` the kernel drops its part too.

        Args:
            fault: Why, if it is not that the peer hung up; what was said of it first stays.
            reset: For a peer that does not read, which would leave a close waiting.
        """
        if not self.is_lost:
            self.fault = self.fault or fault
        self.is_lost = True
        self._unsent.clear()
        self._drained.set()
        if self._pushing is not None:
            self._pushing.cancel(reason="the connection is lost")
        if self._plain is not None:
            if reset:
                with contextlib.suppress(OSError):
                    self._plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._plain.socket.close()
        self._on_lost()

    def _push_nowait(self, stream: PlainStream) -> None:
        try:
            if self._unsent:
                del self._unsent[: stream.send_nowait(self._unsent)]
            if self._at_end and not self._unsent and not self._ended:
                stream.socket.shutdown(socket.SHUT_WR)
                self._ended = True
        except OSError as fault:
            self.break_off(fault)

    async def _push_slowly(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._push_pieces()
            except trio.TooSlowError:
                self.lose(SlowReader(DID_NOT_READ), reset=True)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
                self.break_off(fault)
        self._pushing = None
        self._drained.set()

    async def _push_pieces(self) -> None:
        while self._unsent:
            piece = bytes(self._unsent[:PIECE_BYTES])
            with trio.fail_after(self.send_timeout_s):
                await self._stream.send_all(piece)
            del self._unsent[: len(piece)]
        if self._at_end:
            self._ended = True
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
