"""How a plugin's task that answers later stands, as ``GET /v1/tasks`` shows it."""

from typing import Any

from apexbridge_trio.store import TaskRecord


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
        "error": None,
    }
