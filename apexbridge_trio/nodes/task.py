"""One task for a node while it lives: its record, who runs it, and who waits for it.

::

    queued ──slot──▶ assigned ──▶ running ──▶ succeeded | failed
      ▲                 │            │    ╲─▶ interrupted | timed_out
      ╰── its node is lost, and it is idempotent
                        ╰────────────╰──────▶ lost

A task ends once: whoever comes first puts the record it is to have into `ending`, and what comes later
finds it there. The end counts, and is told, when that record is on disk.
"""

from math import inf
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.clock import now_ms
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.store import NodeTaskRecord, NodeTaskState

FINAL: frozenset[NodeTaskState] = frozenset({"succeeded", "failed", "interrupted", "timed_out", "lost"})

# Of a task that moves often, the first step and the last ones are kept; each is some 80 bytes.
MOST_HISTORY: Final = 200

_read_history: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class NodeTask:
    """A task that has not ended, or ended just now.

    Attributes:
        record: As it is on disk, or will be once what is posted is written.
        ending: The record of its end, while that is being written and after it.
        ending_since: Trio time since when that is.
        deadline: Trio time.
        node: Whose slot it holds.
        is_sent: Whether its node was told of it.
        is_stored: Whether it was posted to the journal, so that it may be on disk.
        is_written: Whether it is known to be on disk.
        told_state: The state that listeners were told last.
        is_called: It is a call of a chat's, and that writes the lines of the log.
        is_taken_up: An earlier hub has begun it, and what it delegates.
        is_delegating: Its node has answered, and what the answer asks for is being done.
        away_since: Trio time since when its node may not have it any more; None while it has.
        excluded: Nodes that were lost with it.
        flight: What interrupts it.
        nursery: What is done for it here, such as the model's answers its node asks for.
        granted: It has a slot.
        over: Its end is on disk.
        confirmed: Nothing of it runs on a node.
    """

    def __init__(self, record: NodeTaskRecord, owner: Principal, deadline: float) -> None:
        self.record = record
        self.owner = owner
        self.deadline = deadline
        self.ending: NodeTaskRecord | None = None
        self.ending_since = inf
        self.node: Node | None = None
        self.is_sent = False
        self.is_stored = False
        self.is_written = False
        self.told_state = ""
        self.is_called = False
        self.is_taken_up = False
        self.is_delegating = False
        self.away_since: float | None = None
        self.excluded: set[str] = set()
        self.flight: Flight | None = None
        self.nursery: trio.Nursery | None = None
        self.callback: dict[str, Any] | None = None
        self.depth = 0
        self.granted = trio.Event()
        self.over = trio.Event()
        self.confirmed = trio.Event()
        self._news = trio.Event()

    @property
    def id(self) -> str:
        """The record's."""
        return self.record.id

    @property
    def is_over(self) -> bool:
        """Whether its end is on disk."""
        return self.record.ended_ms is not None

    @property
    def is_answered(self) -> bool:
        """Whether its result has come, or its end was decided otherwise; what comes now has no effect."""
        return self.ending is not None or self.is_delegating

    @property
    def is_detached(self) -> bool:
        """Whether it stands for itself, and outlives who asked for it."""
        return self.record.request_id is None

    def assign(self, node_id: str) -> None:
        """Count an attempt, at a node."""
        attempt = self.record.attempt + 1
        self.record = msgspec.structs.replace(self.record, attempt=attempt, node_id=node_id)
        self.note("assigned")

    def note(self, state: NodeTaskState, note: str = "") -> None:
        """Go to another state, not a final one."""
        self.record = self._changed(state, note)

    def end(self, state: NodeTaskState, output: bytes | None, error: dict[str, Any] | None) -> None:
        """Decide its end, which counts once it is written."""
        assert self.ending is None
        self.ending, self.ending_since = self._changed(state, ""), trio.current_time()
        self.ending.ended_ms = now_ms()
        self.ending.output = output if output is not None else self.record.output
        self.ending.error = msgspec.json.encode(error).decode() if error else None

    def wake(self) -> None:
        """Tell who drives it that something has changed."""
        self._news.set()

    async def news(self) -> None:
        """Wait until something has changed since the last time."""
        await self._news.wait()
        self._news = trio.Event()

    def _changed(self, state: NodeTaskState, note: str) -> NodeTaskRecord:
        entry: dict[str, Any] = {"state": state, "at": now_ms()}
        if self.node is not None:
            entry |= {"nodeId": self.node.id, "attempt": self.record.attempt}
        if note:
            entry["note"] = note
        # Read anew each time, so that a change that could not be written leaves nothing behind.
        history = [*_read_history(self.record.history), msgspec.Raw(msgspec.json.encode(entry))]
        del history[1 : 1 - MOST_HISTORY]
        written = msgspec.json.encode(history).decode()
        return msgspec.structs.replace(self.record, state=state, history=written)


def task_entry(record: NodeTaskRecord, *, whole: bool = False) -> dict[str, Any]:
    """Say how a task stands, as ``GET /v1/tasks`` shows it; the whole with arguments and result."""
    said: dict[str, Any] = {
        "taskId": record.id,
        "toolName": record.tool,
        "capability": record.capability,
        "state": record.state,
        "nodeId": record.node_id,
        "attempts": record.attempt,
        "priority": record.priority,
        "idempotent": record.idempotent,
        "requestId": record.request_id,
        "parentId": record.parent_id,
        "tenantId": record.tenant_id,
        "createdAt": record.created_ms,
        "deadlineAt": record.deadline_ms,
        "endedAt": record.ended_ms,
        "lateResults": record.late,
        "error": msgspec.Raw(record.error.encode()) if record.error else None,
    }
    if whole:
        said |= {
            "toolArgs": msgspec.Raw(record.args),
            "metadata": msgspec.Raw(record.metadata.encode()),
            "history": msgspec.Raw(record.history.encode()),
            "result": msgspec.Raw(record.output) if record.output is not None else None,
        }
    return said
