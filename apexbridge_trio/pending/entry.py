"""How a plugin's task that answers later stands, as ``GET /v1/tasks`` shows it."""

from typing import Any, Final

from apexbridge_trio.errors import Interrupted, TaskFailed
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.store import TaskRecord, TaskState

_CODES: Final[dict[TaskState, str]] = {
    "failed": TaskFailed.code,
    "interrupted": Interrupted.code,
    "timed_out": "task_timed_out",
}
_WORDS: Final[dict[TaskState, str]] = {
    "failed": "It has failed.",
    "interrupted": "Somebody said stop.",
    "timed_out": "Its time was over before a result came.",
}


def pending_entry(record: TaskRecord) -> dict[str, Any]:
    """Say how a task stands; in the words of a node's task, where they mean the same."""
    return {
        "taskId": record.task_id or record.call_id,
        "toolName": record.tool,
        "plugin": record.plugin,
        "state": record.state,
        "nodeId": None,
        "attempts": 1,
        "tenantId": record.tenant_id,
        "createdAt": record.created_ms,
        "deadlineAt": record.expires_ms,
        "endedAt": record.ended_ms,
        "lateResults": record.late,
        "error": _error(record, _WORDS.get(record.state, "")),
    }


def whole_pending_entry(record: TaskRecord, came: Callback | None) -> dict[str, Any]:
    """Say how a task stands, with its history and with what its callback said."""
    said = pending_entry(record) | {"history": _history(record), "result": None}
    if came is not None and record.state == "failed":
        said["error"] = _error(record, came.message)
    elif came is not None:
        said["result"] = came.value
    return said


def _error(record: TaskRecord, message: str) -> dict[str, str] | None:
    code = _CODES.get(record.state)
    return None if code is None else {"code": code, "message": message}


def _history(record: TaskRecord) -> list[dict[str, Any]]:
    """When it was what, as far as that is kept: of `waiting_callback` it is not."""
    began = {"state": "running", "at": record.created_ms, "nodeId": None, "attempt": 1}
    if record.ended_ms is None:
        return [began]
    return [began, {"state": record.state, "at": record.ended_ms, "nodeId": None, "attempt": 1}]
