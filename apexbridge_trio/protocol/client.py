"""What a client's device may say on its channel, and what it says to stop something."""

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Raw, Struct

from apexbridge_trio.errors import ApexError, NotFound
from apexbridge_trio.ids import is_sane
from apexbridge_trio.protocol.envelope import FrameInvalid, read_data, read_envelope
from apexbridge_trio.protocol.openai import Id, error_body

Path = Annotated[str, Meta(min_length=1, max_length=1000)]
Topic = Annotated[str, Meta(min_length=1, max_length=100)]


class InterruptRequest(Struct, rename="camel"):
    """What to stop; one of the first four names it."""

    request_id: Id | None = None
    message_id: Id | None = None
    task_id: Id | None = None
    path: Path | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 5.0
    tenant_id: Id | None = None
    family_id: Id | None = None


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


class _Chosen(Struct, rename="camel"):
    request_id: Any = None
    message_id: Any = None


_chosen: Final = msgspec.json.Decoder(_Chosen).decode


def named_in(asked: Any) -> dict[str, str]:
    """Return what a frame names, for who is told that it was refused: one of several, perhaps."""
    match asked:
        case Ack(id=notice_id):
            return {"id": notice_id}
        case InterruptRequest():
            return {"requestId": found.partition("/")[0]} if (found := _named(asked)) else {}
        case ChatAsked(body=body):
            chosen = _chosen_in(body)
            return {"requestId": chosen} if isinstance(chosen, str) and is_sane(chosen) else {}
    return {}


def _chosen_in(body: bytes) -> Any:
    try:
        chosen = _chosen(body)
    except msgspec.DecodeError:
        return None
    return chosen.request_id or chosen.message_id


def _named(asked: InterruptRequest) -> str:
    return asked.path or asked.request_id or asked.message_id or asked.task_id or ""


def nothing_to_stop(asked: InterruptRequest, fault: ApexError) -> dict[str, Any]:
    """Write the answer to who wants to stop what is not there."""
    return {
        "error": error_body(NotFound(fault.message)),
        "success": False,
        "status": "error",
        "reason": "not_found",
        "requestId": _named(asked).partition("/")[0],
        "message": fault.message,
    }
