"""Nodes that have registered, and the tasks that were given to them: rows, no rules."""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

NodeTaskState = Literal[
    "queued",
    "assigned",
    "running",
    "waiting_callback",
    "succeeded",
    "failed",
    "interrupted",
    "timed_out",
    "lost",
]

# Of a list of tasks, newest first.
MOST_LISTED: Final = 500


class NodeRecord(Struct, frozen=True, kw_only=True):
    """A node, from its first registration until it is forgotten.

    Attributes:
        principal_id: The key it registered with last, as is the family; the tenant is the first one's.
        capabilities: A JSON array of words.
        tools: A JSON array of tools, as `protocol.frames.ToolSpec` writes them.
        instance_id: Of its last run.
        is_draining: It is given no more tasks.
        first_seen_ms: Milliseconds since the epoch, as are the others.
        left_ms: When its connection ended the last time, and `left_reason` why.
    """

    id: str
    tenant_id: str
    family_id: str | None
    principal_id: str
    name: str
    type: str
    version: str
    capabilities: str
    tools: str
    instance_id: str | None
    is_draining: bool = False
    first_seen_ms: int
    last_seen_ms: int
    left_ms: int | None = None
    left_reason: str = ""


class NodeTaskRecord(Struct, kw_only=True):
    """A task for a node, from before anybody is told of it until it is forgotten.

    Attributes:
        capability: What a node must be able to, besides having the tool; None: nothing more.
        wanted_node: The only node that may run it, if there is one.
        node_id: Who runs it, or ran it last.
        args: A JSON object.
        timeout_ms: Milliseconds it was given; `deadline_ms` is when they are over.
        request_id: The request it is part of; None: it stands for itself, and outlives who asked.
        parent_id: The task that it was delegated by.
        token_hash: SHA-256 of the token that a result by HTTP may carry.
        output: The result, as JSON, as it came.
        error: A JSON object with `code` and `message`.
        history: A JSON array: `state`, `at`, and where it fits `nodeId`, `attempt` and `note`.
        late: Results that came after it was over.
        created_ms: Milliseconds since the epoch; `ended_ms` is None while it has not ended.
    """

    id: str
    tool: str
    capability: str | None = None
    wanted_node: str | None = None
    node_id: str | None = None
    args: bytes
    priority: int = 5
    idempotent: bool = False
    timeout_ms: int
    created_ms: int
    deadline_ms: int
    request_id: str | None = None
    parent_id: str | None = None
    token_hash: bytes | None = None
    principal_id: str
    tenant_id: str
    family_id: str | None = None
    metadata: str = "{}"
    state: NodeTaskState = "queued"
    attempt: int = 0
    output: bytes | None = None
    error: str | None = None
    history: str = "[]"
    late: int = 0
    ended_ms: int | None = None


_NODE_COLUMNS: Final = [field.name for field in msgspec.structs.fields(NodeRecord)]
_COLUMNS: Final = [field.name for field in msgspec.structs.fields(NodeTaskRecord)]
# What changes after a task was made; its arguments may be large and are written once.
_CHANGING: Final = ("node_id", "state", "attempt", "output", "error", "history", "late", "ended_ms")


def _upsert(table: str, columns: list[str], changing: tuple[str, ...] | list[str]) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in changing)
    places = ", ".join("?" * len(columns))
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {changes}"  # noqa: S608  # our own names


_SAVE_NODE: Final = _upsert("nodes", _NODE_COLUMNS, _NODE_COLUMNS)
_SAVE: Final = _upsert("node_tasks", _COLUMNS, _CHANGING)
_ADVANCE: Final = f"UPDATE node_tasks SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE id = ?"  # noqa: S608  # our own names
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM node_tasks WHERE "  # noqa: S608  # our own names


# Of a list, without what may be large: five hundred results of 16 MB are no list.
_SELECT_HEADS: Final = _SELECT.replace(" args,", " x'' AS args,").replace(" output,", " NULL AS output,")


class NodeRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save_node(self, record: NodeRecord) -> bool:
        """Add a node, or write all of it anew; returns whether there was none of its id."""
        is_new = not list(self._store.execute("SELECT 1 FROM nodes WHERE id = ?", (record.id,)))
        self._store.execute(_SAVE_NODE, msgspec.structs.astuple(record))
        return is_new

    def forget_node(self, node_id: str) -> None:
        """Forget a node."""
        self._store.execute("DELETE FROM nodes WHERE id = ?", (node_id,))

    def nodes(self) -> list[NodeRecord]:
        """Return every node, by id."""
        names = ", ".join(_NODE_COLUMNS)
        rows = self._store.execute(f"SELECT {names} FROM nodes ORDER BY id")  # noqa: S608  # our own names
        return [
            NodeRecord(**_flagged(dict(zip(_NODE_COLUMNS, row, strict=True)), "is_draining")) for row in rows
        ]

    def add_task(self, row: tuple[Any, ...]) -> None:
        """Add a task, as `row_of` has it."""
        self._store.execute(_SAVE, row)

    def advance_task(self, row: tuple[Any, ...]) -> None:
        """Write what has changed of a task, as `change_of` has it."""
        self._store.execute(_ADVANCE, row)

    def delete_task(self, task_id: str) -> None:
        """Forget a task."""
        self._store.execute("DELETE FROM node_tasks WHERE id = ?", (task_id,))

    def note_late(self, task_id: str) -> None:
        """Count a result that came too late."""
        self._store.execute("UPDATE node_tasks SET late = late + 1 WHERE id = ?", (task_id,))

    def task(self, task_id: str) -> NodeTaskRecord | None:
        """Return a task."""
        return next(iter(self._tasks("id = ?", task_id)), None)

    def task_of_token(self, token_hash: bytes) -> NodeTaskRecord | None:
        """Return the task a token was made for."""
        return next(iter(self._tasks("token_hash = ?", token_hash)), None)

    def live_tasks(self) -> list[NodeTaskRecord]:
        """Return the tasks that have not ended, oldest first."""
        return self._tasks("ended_ms IS NULL ORDER BY created_ms, id")

    def list_tasks(
        self, tenant_id: str | None, state: str | None, node_id: str | None
    ) -> list[NodeTaskRecord]:
        """Return tasks without arguments and results, newest first, at most `MOST_LISTED`; None: any."""
        return self._read(
            f"{_SELECT_HEADS}(?1 IS NULL OR tenant_id = ?1) AND (?2 IS NULL OR state = ?2)"
            " AND (?3 IS NULL OR node_id = ?3)"
            f" ORDER BY created_ms DESC, id DESC LIMIT {MOST_LISTED}",
            tenant_id,
            state,
            node_id,
        )

    def delete_ended(self, before_ms: int, most: int) -> int:
        """Forget tasks that ended before a time; returns how many."""
        self._store.execute(
            "DELETE FROM node_tasks WHERE id IN (SELECT id FROM node_tasks WHERE ended_ms < ? LIMIT ?)",
            (before_ms, most),
        )
        return next(self._store.execute("SELECT changes()"))[0]  # type: ignore[no-any-return]

    def _tasks(self, condition: str, *values: Any) -> list[NodeTaskRecord]:
        return self._read(_SELECT + condition, *values)

    def _read(self, query: str, *values: Any) -> list[NodeTaskRecord]:
        rows = self._store.execute(query, values)
        return [
            NodeTaskRecord(**_flagged(dict(zip(_COLUMNS, row, strict=True)), "idempotent")) for row in rows
        ]


def row_of(record: NodeTaskRecord) -> tuple[Any, ...]:
    """Return a task as it is now, to be written later."""
    return msgspec.structs.astuple(record)


def change_of(record: NodeTaskRecord) -> tuple[Any, ...]:
    """Return what changes of a task, as it is now, to be written later."""
    return (*(getattr(record, name) for name in _CHANGING), record.id)


def _flagged(fields: dict[str, Any], flag: str) -> dict[str, Any]:
    fields[flag] = bool(fields[flag])
    return fields
