"""What is known of each event that a trigger may wait for: its fields, and what may stand in them."""

from collections.abc import Mapping
from typing import Any, Final, Literal

Kind = Literal["text", "number", "flag"]
Field = tuple[str, ...] | Kind

LEVELS: Final = ("info", "warning", "error")
NODE_STATES: Final = ("online", "busy", "draining", "offline")
TASK_STATES: Final = (
    "queued",
    "assigned",
    "running",
    "waiting_callback",
    "succeeded",
    "failed",
    "interrupted",
    "timed_out",
    "lost",
)
_FAULT: Final[dict[str, Field]] = {"error.code": "text", "error.message": "text", "error.type": "text"}
_CHAT: Final[dict[str, Field]] = {"requestId": "text", "model": "text", "content": "text"}
_NOTICE: Final[dict[str, Field]] = {
    "id": "text",
    "level": LEVELS,
    "title": "text",
    "message": "text",
    "progress": "number",
    "taskId": "text",
    "plugin": "text",
    "tool": "text",
    "state": "text",
    "nodeId": "text",
    "trigger": "text",
}

FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "node.status": {"nodeId": "text", "from": NODE_STATES, "to": NODE_STATES, "reason": "text"},
    "task.status": {
        "taskId": "text",
        "toolName": "text",
        "capability": "text",
        "state": TASK_STATES,
        "nodeId": "text",
        "attempts": "number",
        "priority": "number",
        "idempotent": "flag",
        "requestId": "text",
        "parentId": "text",
        **_FAULT,
    },
    "plugin.failed": {
        "plugin": "text",
        "tool": "text",
        "what": ("call", "task", "down"),
        "code": "text",
        "message": "text",
        "requestId": "text",
        "taskId": "text",
    },
    "chat.completed": {**_CHAT, "finishReason": "text"},
    "chat.failed": {**_CHAT, **_FAULT},
    "reminder": {
        "id": "text",
        "reminderId": "text",
        "runId": "text",
        "text": "text",
        "title": "text",
        "message": "text",
        "level": LEVELS,
        "action": ("notify", "chat", "tool"),
        "state": ("due", "answered", "failed", "interrupted", "unknown", "skipped"),
        "dueAt": "number",
        "late": "flag",
    },
    "notification": _NOTICE,
    "alert": _NOTICE,
}

# Of the events that tell how something is now: what it is, so that the next one of it takes it back.
SUBJECTS: Final[Mapping[str, str]] = {"node.status": "nodeId", "task.status": "taskId"}

# Of those that end: the field, and after which of its values nothing more of it happens.
ENDS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "task.status": ("state", frozenset({"succeeded", "failed", "interrupted", "timed_out", "lost"}))
}


def flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's data with what is inside its objects as ``object.field``."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            found[name] = value
    return found


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flat`."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        outer, _, inner = name.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = value
        else:
            found[name] = value
    return found
