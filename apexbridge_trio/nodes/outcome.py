"""What a node's result means: a legacy handler says its failures inside of a success."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.frames import TaskResult
from apexbridge_trio.protocol.openai import encode

# What a node says of a fault beside its message; more is a result, and none of a fault.
MOST_DETAIL_BYTES: Final = 16 * 1024


class Delegation(Struct, rename="camel"):
    """Another task that a result asks for; `timeout` in milliseconds."""

    tool_name: str
    capability: str | None = "worker"
    args: dict[str, Any] = {}
    timeout: float = 60_000
    metadata: dict[str, Any] = {}


class _Inside(Struct):
    """What of a result is looked at; all of it may be anything."""

    success: Any = None
    error: Any = None
    message: Any = None
    delegations: Any = None


class Outcome(Struct, frozen=True):
    """A result, read.

    Args:
        output: JSON as it came; None if there is none.
        error: Why it failed, with `code` and `message`; None: it has succeeded.
        delegations: What else it asks for.
    """

    output: bytes | None
    error: dict[str, Any] | None = None
    delegations: tuple[Delegation, ...] = ()


def read_outcome(result: TaskResult) -> Outcome:
    """Read what a node says of a task."""
    output = bytes(result.result)
    inside = _inside(output)
    if not result.success:
        return Outcome(
            None if output == b"null" else output, _fault(result.error or inside.error or inside.message)
        )
    if inside.success is False:
        return Outcome(output, _fault(inside.error or inside.message))
    return Outcome(output, None, _delegations(inside.delegations))


def delegations_of(output: bytes) -> tuple[Delegation, ...]:
    """Return what else a successful result asks for."""
    return _delegations(_inside(output).delegations)


def of_callback(callback: Callback) -> Outcome:
    """Read what a node says of a task over HTTP."""
    if callback.status == "failed":
        return Outcome(None, {"code": "task_failed", "message": callback.message})
    return Outcome(encode(callback.value))


def _inside(output: bytes) -> _Inside:
    try:
        return msgspec.json.decode(output, type=_Inside)
    except (msgspec.DecodeError, RecursionError):
        return _Inside()  # no object: a value like any other


def _fault(said: Any) -> dict[str, Any]:
    match said:
        case {"message": str(message)}:
            return {"code": str(said.get("code") or "tool_failed"), "message": message, **_details(said)}
        case str() if said:
            return {"code": "tool_failed", "message": said}
        case None | "":
            return {"code": "tool_failed", "message": "The node gave no reason."}
    return {"code": "tool_failed", "message": encode(said).decode()}


def _details(said: dict[str, Any]) -> dict[str, Any]:
    details = said.get("details")
    return {} if details is None or len(encode(details)) > MOST_DETAIL_BYTES else {"details": details}


def _delegations(said: Any) -> tuple[Delegation, ...]:
    if not isinstance(said, list):
        return ()
    found = []
    for one in said:
        try:
            found.append(msgspec.convert(one, Delegation))
        except msgspec.ValidationError:
            continue  # what asks for nothing that is known is no delegation
    return tuple(found)
