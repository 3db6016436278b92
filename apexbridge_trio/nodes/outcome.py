"""What a node's result means: a legacy handler says its failures inside of a success."""

from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.frames import TaskResult
from apexbridge_trio.protocol.openai import encode

# What a node says of a fault beside its message; more is a result, and none of a fault.
MOST_DETAIL_BYTES: Final = 16 * 1024
# Of a fault as a whole, and of what a result asks for: more is not read, as reading it holds up everybody.
MOST_FAULT_BYTES: Final = 64 * 1024
MOST_DELEGATED_BYTES: Final = 1024 * 1024


_FALSE: Final = Raw(b"false")


class Delegation(Struct, rename="camel"):
    """Another task that a result asks for; `timeout` in milliseconds."""

    tool_name: str
    capability: str | None = "worker"
    args: dict[str, Any] = {}
    timeout: float = 60_000
    metadata: dict[str, Any] = {}


class _Inside(Struct):
    """What of a result is looked at; all of it may be anything, and of any size."""

    success: Raw = Raw(b"null")
    error: Raw = Raw(b"null")
    message: Raw = Raw(b"null")
    delegations: Raw = Raw(b"null")

    @property
    def fault(self) -> Any:
        """Why it has failed, as far as it says so."""
        return _why(self.error) or _why(self.message)


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
        return Outcome(None if output == b"null" else output, _fault(_why(result.error) or inside.fault))
    if inside.success == _FALSE:
        return Outcome(output, _fault(inside.fault))
    if len(inside.delegations) > MOST_DELEGATED_BYTES:
        return Outcome(output, _fault({"code": "delegations_too_large", "message": "It delegates too much."}))
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


def _why(said: Raw) -> Any:
    if len(said) > MOST_FAULT_BYTES:
        return f"The node gave a reason of {len(said)} bytes, which is not kept."
    try:
        return msgspec.json.decode(said)
    except (msgspec.DecodeError, RecursionError):
        return "The node gave a reason that can not be read."


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


def _delegations(said: Raw) -> tuple[Delegation, ...]:
    try:
        asked = msgspec.json.decode(said, type=list[Raw])
    except (msgspec.DecodeError, RecursionError):
        return ()
    found = []
    for one in asked:
        with suppress(msgspec.DecodeError, RecursionError):  # what asks for nothing known is no delegation
            found.append(msgspec.json.decode(one, type=Delegation))
    return tuple(found)
