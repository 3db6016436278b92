"""Frames that are not taken, answered in their own words: who waits for that answer waits for no other."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from apexbridge_trio.ids import is_sane
from apexbridge_trio.protocol.channel.events import Event
from apexbridge_trio.protocol.frames import (
    Heartbeat,
    HeartbeatAck,
    LlmRequest,
    LlmResponse,
    TaskFault,
    TaskResult,
    TaskResultAck,
)

INVALID: Final = "invalid_payload"
# Contract §2.1 has one word for all that is wrong with who asks.
_LLM_CODES: Final = {"not_registered": "node_not_found", "wrong_node": "node_not_found"}


def refusal_of(
    value: Event | None, message: str, code: str, now_ms: int
) -> HeartbeatAck | TaskResultAck | LlmResponse | None:
    """Return the answer that a frame has of its own, saying no; None: it has none."""
    match value:
        case Heartbeat():
            return HeartbeatAck(
                value.node_id, success=False, status="unknown", timestamp=now_ms, message=message
            )
        case TaskResult():
            return TaskResultAck(
                value.task_id, value.node_id or "", success=False, timestamp=now_ms, message=message
            )
        case LlmRequest():
            return LlmResponse(
                request_id=value.request_id,
                node_id=value.node_id or "",
                success=False,
                stream=value.is_stream,
                timestamp=now_ms,
                error=TaskFault(message, _LLM_CODES.get(code, code)),
            )
    return None


_TRUE: Final = Raw(b"true")


class _Names(Struct, rename="camel"):
    """What a wrong frame may say of itself; each may be anything, and of any size."""

    node_id: Raw = Raw(b"null")
    task_id: Raw = Raw(b"null")
    request_id: Raw = Raw(b"null")
    options: Raw = Raw(b"null")


class _Options(Struct):
    stream: Raw = Raw(b"null")


def bare(kind: str, data: Raw) -> Event | None:
    """Return what can be read of a wrong frame, for its answer; None: it does not say what it is of."""
    try:
        named = msgspec.json.decode(data, type=_Names)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    node_id, task_id, request_id = map(_id, (named.node_id, named.task_id, named.request_id))
    if kind == Heartbeat.frame:
        return Heartbeat(node_id)
    if kind == TaskResult.frame and task_id:
        return TaskResult(task_id, node_id)
    if kind == LlmRequest.frame and request_id:
        return LlmRequest(
            request_id=request_id, messages=[], node_id=node_id, options=_streamed(named.options)
        )
    return None


def _streamed(options: Raw) -> dict[str, Any]:
    try:
        return {"stream": msgspec.json.decode(options, type=_Options).stream == _TRUE}
    except msgspec.DecodeError:
        return {}


def _id(said: Raw) -> str | None:
    try:
        found = msgspec.json.decode(said, type=str)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return found if is_sane(found) else None
