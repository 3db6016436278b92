"""What is kept of tasks, and the moment at which it counts.

An end is decided at once, in memory, by whoever comes first (`NodeTask.ending`), and counts when the
journal has it: then the waiter wakes, the node is acknowledged and the slot is free. If it can not be
written nothing has happened, and who brought it is told to bring it again; an end for which nobody is
there to try again is written as soon as the disk takes it (`write_again`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import msgspec

from apexbridge_trio.clock import now_ms
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.queue import TaskQueue
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.origin import doing
from apexbridge_trio.store import NodeRows, NodeTaskRecord, NodeTaskState, Notice, Tasks, change_of, row_of

UNWRITTEN = "It could not be written; send it again."

# Of a result that has no effect: it is the one that is kept, or too late, or none is kept yet.
Late = Literal["known", "stale", "unwritten"]

# What a state is on the log channel, contract §2.4.
_STATUS: Final[dict[NodeTaskState, str]] = {
    "assigned": "executing",
    "succeeded": "success",
    "failed": "error",
    "interrupted": "interrupted",
    "timed_out": "error",
    "lost": "error",
}

log = get_logger("nodes")


class TaskBook:
    """The tasks that have not ended, and the rows of all.

    Args:
        written: The journal's connection to the rows.
        notices: The journal's connection to what owners are owed.

    Attributes:
        live: By id.
        owed: Told of each notice that is owed since just now, by its id.
        changed: Told of each task whose state has changed, once that is on disk.
    """

    def __init__(self, journal: Journal, queue: TaskQueue, *, written: NodeRows, notices: Tasks) -> None:
        self._journal = journal
        self._queue = queue
        self._written = written
        self._notices = notices
        self.live: dict[str, NodeTask] = {}
        self._unwritten: list[Callable[[], object]] = []
        self.owed: Callable[[str], None] = _nobody
        self.changed: Callable[[NodeTaskRecord], None] = _nobody

    def save(
        self,
        task: NodeTask,
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Entry[None]:
        """Write a task as it is now; `after` is called once it is on disk."""
        task.is_stored = True
        record = task.record

        def written(_: None) -> None:
            task.is_written = True
            self._tell(task, record)
            if after:
                after()

        return self._journal.post(self._row(task, record), written, failed=failed)

    def _row(self, task: NodeTask, record: NodeTaskRecord) -> Callable[[], None]:
        """Return what writes a task; its whole row while none is known to be on disk."""
        if task.is_written:
            return partial(self._written.advance_task, change_of(record))
        return partial(self._written.add_task, row_of(record))

    def _tell(self, task: NodeTask, record: NodeTaskRecord) -> None:
        if task.told_state != record.state:
            task.told_state = record.state
            self.changed(record)
            if not task.is_called:
                _log_state(task.owner, record)

    def delete(self, task: NodeTask) -> None:
        """Take back a task that nobody was told of."""
        self._journal.post(partial(self._written.delete_task, task.id))

    def take_late(self, task_id: str, node: Node, after: Callable[[Late], None]) -> None:
        """Count a result that has no effect, and say what it is once all that came before is on disk."""

        def write() -> Late:
            record = self._written.task(task_id)
            word = _late(record, node) if record is not None else "stale"
            if record is not None and word == "stale" and node.serves(owner_of(record)):
                self._written.note_late(task_id)
            return word

        self._journal.post(write, after, failed=lambda _: after("unwritten"))

    async def settled(self) -> None:
        """Wait until the ends that were decided until now count, or do not.

        Raises:
            StoreUnusable: Nothing can be written.
        """
        await self._journal.post(_nothing).wait()

    def write_again(self) -> None:
        """Try again to write the ends that could not be written when nobody was there to wait for it."""
        unwritten, self._unwritten = self._unwritten, []
        for again in unwritten:
            again()

    def end(
        self,
        task: NodeTask,
        state: NodeTaskState,
        *,
        output: bytes | None = None,
        error: dict[str, Any] | None = None,
        owes: bool = False,
        frees: bool = False,
        done: Callable[[str], None] | None = None,
    ) -> Entry[None]:
        """Decide how a task ends; it was not decided before.

        Args:
            task: The task.
            state: The final one.
            output: The result, as JSON.
            error: Why there is none.
            owes: The owner is owed a notice, in the same transaction.
            frees: Nothing of it runs on its node: the slot is free once this counts.
            done: Called with an empty text once it counts, or with why it does not.
        """
        task.end(state, output, error)
        assert task.ending is not None
        ending = task.ending
        notice = _notice(task, state, error) if owes else None

        def write() -> None:
            self._row(task, ending)()
            if notice is not None:
                self._notices.owe(notice)

        def after(_: None) -> None:
            self._count(task, ending, frees=frees)
            self._tell(task, ending)
            if notice is not None:
                self.owed(notice.id)
            if done:
                done("")

        def failed(fault: Exception) -> None:
            self._undo(task, fault, again)
            if done:
                done(UNWRITTEN)

        def again() -> Entry[None]:
            return self._journal.post(write, after, failed=failed, size=len(output or b""))

        return again()

    def _count(self, task: NodeTask, ending: NodeTaskRecord, *, frees: bool) -> None:
        task.record = ending
        self.live.pop(task.id, None)
        if frees:
            self._queue.release(task)
        task.over.set()
        task.wake()

    def _undo(self, task: NodeTask, fault: Exception, again: Callable[[], object]) -> None:
        log.error("the end of a task could not be written", task=task.id, reason=str(fault))
        if task.nursery is not None:  # who drives it decides anew
            task.ending = None
            task.wake()
        else:
            self._unwritten.append(again)


def _log_state(owner: Principal, record: NodeTaskRecord) -> None:
    """Write the line of a task's step, as the log channel shows tools run."""
    if (status := _STATUS.get(record.state)) is None:
        return
    tell = log.warning if status == "error" else log.info
    fields = {"tool": record.tool, "status": status, "task": record.id, "node": record.node_id}
    with doing(owner, record.request_id or record.id):
        tell("a task's state", state=record.state, attempt=record.attempt, **fields)


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


def fault(code: str, message: str) -> dict[str, Any]:
    """Return why a task has no result, as it is kept."""
    return {"code": code, "message": message}


def _notice(task: NodeTask, state: NodeTaskState, error: dict[str, Any] | None) -> Notice:
    said = {
        "taskId": task.id,
        "tool": task.record.tool,
        "nodeId": task.record.node_id,
        "state": state,
        "message": (error or {}).get("message", ""),
        "actions": [{"retry": task.id}],
    }
    owner = (task.owner.id, task.owner.tenant_id, task.owner.family_id)
    body = msgspec.json.encode(said).decode()
    return Notice(task.id, *owner, "warning", body, now_ms())


def _late(record: NodeTaskRecord, node: Node) -> Late:
    if record.node_id != node.id:
        return "stale"
    if record.state in {"succeeded", "failed"} or (record.ended_ms is None and record.output is not None):
        return "known"
    return "unwritten" if record.state in {"assigned", "running"} else "stale"


def _nothing() -> None:
    """Write nothing: what waits for this waits for what was posted before."""
