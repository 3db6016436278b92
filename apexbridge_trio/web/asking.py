"""What somebody who wants to be told says on coming: the query of the channels, and of their streams."""

from urllib.parse import parse_qs

from msgspec import Struct

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.events import Kind, kinds_of
from apexbridge_trio.ids import is_sane
from apexbridge_trio.logs import Wanted
from apexbridge_trio.protocol.client import Resume
from apexbridge_trio.web.arrival import Arrival, header

MAX_POSITION_CHARS = 200
MAX_DEVICE_CHARS = 64


class EventQuery(Struct, frozen=True):
    """``?epoch=…&seq=…&topics=a,b&follow=false&device=…``.

    Attributes:
        position: What the reader had last; None: it has nothing.
        kinds: What it wants to be told.
        follows: Whether it stays for what comes.
        device: What the device calls itself; empty: it does not say.
    """

    position: Resume | None
    kinds: frozenset[Kind]
    follows: bool
    device: str = ""

    @classmethod
    def of(cls, arrival: Arrival) -> "EventQuery":
        """Read it.

        Raises:
            BadRequest: A value is none.
        """
        found = query_of(arrival)
        topics = found.get("topics")
        kinds = kinds_of(topic.strip() for topic in topics.split(",")) if topics else kinds_of(None)
        position = last_event(arrival)
        if position is None and "seq" in found:
            position = _position((found.get("epoch", ""), ":", found["seq"]))
        follows = found.get("follow", "true") not in {"false", "0"}
        return cls(position, kinds, follows, device_name(found.get("device", "")))


def device_name(text: str) -> str:
    """Return what a device calls itself.

    Raises:
        BadRequest: It is no name.
    """
    if text and not (is_sane(text) and len(text) <= MAX_DEVICE_CHARS):
        raise BadRequest(f"device: 1 to {MAX_DEVICE_CHARS} of A-Z a-z 0-9 . _ : and -.", param="device")
    return text


def wanted_lines(arrival: Arrival) -> Wanted:
    """Return what of the log somebody wants to read.

    Raises:
        BadRequest: There is no such level, or an id is none.
    """
    return Wanted.of(query_of(arrival))


def query_of(arrival: Arrival) -> dict[str, str]:
    """Return the fields of the query; of several of one name, the last.

    Raises:
        BadRequest: There are too many.
    """
    text = arrival.scope.get("query_string", b"").decode("latin-1")
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=20).items()}
    except ValueError:
        raise BadRequest("The query has too many fields.") from None


def last_event(arrival: Arrival) -> Resume | None:
    """Return the position of the last event that somebody had, as browsers say it."""
    last = header(arrival.scope, b"last-event-id")
    return _position(last.rpartition(":")) if last else None


def _position(parts: tuple[str, str, str]) -> Resume:
    """Read a position; one that is none is of no hub, so that nothing is recovered."""
    epoch, _, seq = parts
    is_number = seq.isascii() and seq.isdigit() and len(seq) < 18
    return Resume(epoch[:MAX_POSITION_CHARS], int(seq)) if is_number else Resume("", -1)
