"""What became of a task, in the words of the wire; and where a task's late result goes."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from apexbridge_trio.errors import ApexError, ToolFailed
from apexbridge_trio.plugins import CallbackAddress, Pending
from apexbridge_trio.protocol.frames import TaskAssign, TaskFault, TaskResult

# A frame of a node has at most 16 MiB; a result over that would end the connection each time it is sent.
MOST_RESULT_BYTES: Final = 15 * 1024 * 1024
_CALLBACK: Final = re.compile(r"(?P<base>https?://[^\s?#]+/~(?P<token>[^/\s?#~]+))/[^/\s?#]+/[^/\s?#]+")


class ToolUnknown(ToolFailed):
    """The node has no tool of that name, or has it no more."""

    code = "tool_not_found"


def done(task_id: str, value: Any | Pending, took_ms: float) -> TaskResult:
    """Return the result of a tool that has answered."""
    if isinstance(value, Pending):
        value = {"status": "pending", "taskId": value.task_id}
    try:
        json = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as fault:
        return failed(task_id, "tool_failed", f"The tool's result is not JSON: {fault}"[:500], took_ms)
    if len(json) > MOST_RESULT_BYTES:
        text = f"The result has {len(json)} bytes, more than the {MOST_RESULT_BYTES} that can be sent."
        return failed(task_id, "result_too_large", text, took_ms)
    return TaskResult(task_id, success=True, result=msgspec.Raw(json), execution_time=took_ms)


def fault_of(message: str, code: str) -> msgspec.Raw:
    """Return why a task has failed, as its result says it."""
    return msgspec.Raw(msgspec.json.encode(TaskFault(message, code)))


def failed(task_id: str, code: str, message: str, took_ms: float | None = None) -> TaskResult:
    """Return the result of a task that has none."""
    return TaskResult(task_id, success=False, error=fault_of(message, code), execution_time=took_ms)


def of_fault(task_id: str, fault: ApexError, took_ms: float) -> TaskResult:
    """Return the result of a task that ended with a domain error; its code tells which."""
    return failed(task_id, fault.code, fault.message, took_ms)


def arguments_of(assign: TaskAssign) -> dict[str, Any]:
    """Read a task's arguments.

    Raises:
        ToolFailed: They are not a JSON object.
    """
    try:
        return msgspec.json.decode(assign.tool_args, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise ToolFailed(f"The arguments are not a JSON object: {fault}", code="invalid_arguments") from None


def callback_of(callback: Mapping[str, Any] | None) -> CallbackAddress | None:
    """Return where a late result is brought, if the hub says so: everything up to the token."""
    if not callback or callback.get("mode") != "http" or not isinstance(callback.get("url"), str):
        return None
    found = _CALLBACK.fullmatch(callback["url"])
    return CallbackAddress(found["base"], found["token"]) if found else None
