"""Server-sent events: write them, and read them in any chunking.

Reading follows the WHATWG event stream: lines end in CR, LF or CRLF, the `data` lines of one event
are joined by LF, comments and other fields say nothing here. Only complete events come out; what
stands before the end without a blank line was cut off, and `Blocks.pending` tells.
"""

from typing import Final

from apexbridge_trio.errors import UpstreamBroken

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

# A single event of this size is no chunk of a chat; without a bound one provider could fill memory.
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024


def encode_event(data: bytes) -> bytes:
    """Write one event; `data` is one line."""
    return b"data: " + data + b"\n\n"


class Blocks:
    """Cut a byte stream into blocks of whole events, with LF as the only line end.

    A block is one or more events, each closed by a blank line. The usual read, which ends where an
    event ends, is returned as it is, without a copy.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._after_cr = False

    @property
    def pending(self) -> bool:
        """Whether an event has begun that is not complete."""
        return bool(self._held.strip())

    def feed(self, data: bytes) -> bytes:
        """Add what was received and return the events it completes, or ``b""``.

        Raises:
            UpstreamBroken: One event is larger than `MAX_EVENT_BYTES`.
        """
        if self._after_cr or b"\r" in data:
            data = self._with_lf(data)
        held = self._held
        if not held and data.endswith(b"\n\n"):
            return data
        searched = max(len(held) - 1, 0)
        held += data
        end = held.rfind(b"\n\n", searched) + 2
        if end < 2:
            if len(held) > MAX_EVENT_BYTES:
                raise UpstreamBroken(f"One event is larger than {MAX_EVENT_BYTES} bytes.")
            return b""
        block = bytes(held[:end])
        del held[:end]
        return block

    def _with_lf(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def payloads(block: bytes) -> list[bytes]:
    """Return the data of each event in a block of whole events; events without data are left out."""
    return [data for event in block.split(b"\n\n") if (data := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
