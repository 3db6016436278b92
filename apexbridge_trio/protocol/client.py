"""What a client's device may say on its channel, and what it says to stop something."""

from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Raw, Struct

from apexbridge_trio.errors import ApexError, NotFound
from apexbridge_trio.protocol.envelope import FrameInvalid, read_data, read_envelope
from apexbridge_trio.protocol.openai import Id, error_body

Path = Annotated[str, Meta(min_length=1, max_length=1000)]
Topic = Annotated[str, Meta(min_length=1, max_length=100)]


class InterruptRequest(Struct, rename="camel"):
    """What to stop; one of the four names it."""

    request_id: Id | None = None
    message_id: Id | None = None
    task_id: Id | None = None
    path: Path | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 5.0


class Resume(Struct):
    """Tell again what came after this position."""

    epoch: Annotated[str, Meta(max_length=200)]
    seq: int


class Subscribe(Struct):
    """Tell only of these topics from now on; None: of all."""

    topics: Annotated[list[Topic], Meta(max_length=100)] | None = None


class Ack(Struct):
    """Somebody has seen it: it need not be told again."""

    id: Id


class Ping(Struct):
    """Are you there?"""


class ChatAsked(Struct):
    """A chat; the body is that of ``POST /v1/chat/completions``."""

    kind: ClassVar[str] = "chat"

    body: bytes


_KINDS: Final[dict[str, type[Any]]] = {
    "resume": Resume,
    "subscribe": Subscribe,
    "ack": Ack,
    "interrupt": InterruptRequest,
    "ping": Ping,
}


def read_client_frame(text: str | bytes) -> Any:
    """Read a frame of a client.

    Raises:
        FrameInvalid: It is none, of no known type, or its data is not what the type has.
    """
    envelope = read_envelope(text)
    data = envelope.data or Raw(b"{}")
    if envelope.type == ChatAsked.kind:
        return ChatAsked(bytes(data))
    if envelope.type not in _KINDS:
        known = ", ".join([*_KINDS, ChatAsked.kind])
        raise FrameInvalid(f"There is no frame {envelope.type[:100]!r} here; there are {known}.")
    return read_data(_KINDS[envelope.type], data)


def nothing_to_stop(asked: InterruptRequest, fault: ApexError) -> dict[str, Any]:
    """Write the answer to who wants to stop what is not there."""
    named = asked.path or asked.request_id or asked.message_id or asked.task_id or ""
    return {
        "error": error_body(NotFound(fault.message)),
        "success": False,
        "status": "error",
        "reason": "not_found",
        "requestId": named.partition("/")[0],
        "message": fault.message,
    }
