"""What is kept of tasks, and the moment at which it counts.

An end is decided at once, in memory, by whoever comes first (`NodeTask.ending`), and counts when the
journal has it: then the waiter wakes, the node is acknowledged and the slot is free. If it can not be
written nothing has happened, and who brought it is told to bring it again.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.queue import TaskQueue
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.store import NodeRows, NodeTaskRecord, NodeTaskState, Notice, Tasks, change_of, row_of

UNWRITTEN = "It could not be written; send it again."

log = get_logger("nodes")


class TaskBook:
    """The tasks that have not ended, and the rows of all.

    Args:
        read: The loop's connection to the rows.
        written: The journal's.
        notices: The journal's connection to what owners are owed.

    Attributes:
        live: By id.
    """

    def __init__(
        self, journal: Journal, queue: TaskQueue, *, read: NodeRows, written: NodeRows, notices: Tasks
    ) -> None:
        self._journal = journal
        self._queue = queue
        self._read = read
        self._written = written
        self._notices = notices
        self.live: dict[str, NodeTask] = {}

    def find(self, task_id: str) -> NodeTaskRecord | None:
        """Return a task as it is, or is about to be; None if nobody has heard of it."""
        task = self.live.get(task_id)
        return task.ending or task.record if task is not None else self._read.task(task_id)

    def save(
        self,
        task: NodeTask,
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Entry[None]:
        """Write a task as it is now; `after` is called once it is on disk."""
        if task.is_stored:
            work = partial(self._written.advance_task, change_of(task.record))
        else:
            work = partial(self._written.add_task, row_of(task.record))
            task.is_stored = True
        return self._journal.post(work, (lambda _: after()) if after else None, failed=failed)

    def delete(self, task: NodeTask) -> None:
        """Take back a task that nobody was told of."""
        self._journal.post(partial(self._written.delete_task, task.id))

    def note_late(self, task_id: str, after: Callable[[], None]) -> None:
        """Count a result that came too late."""
        self._journal.post(partial(self._written.note_late, task_id), lambda _: after())

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
        ending, is_new = task.ending, not task.is_stored
        row = row_of(ending) if is_new else change_of(ending)
        task.is_stored = True
        notice = _notice(task, state, error) if owes else None

        def write() -> None:
            (self._written.add_task if is_new else self._written.advance_task)(row)
            if notice is not None:
                self._notices.owe(notice)

        def after(_: None) -> None:
            self._count(task, ending, frees=frees)
            if done:
                done("")

        def failed(fault: Exception) -> None:
            self._undo(task, fault)
            if done:
                done(UNWRITTEN)

        return self._journal.post(write, after, failed=failed, size=len(output or b""))

    def _count(self, task: NodeTask, ending: NodeTaskRecord, *, frees: bool) -> None:
        task.record = ending
        self.live.pop(task.id, None)
        if frees:
            self._queue.release(task)
        task.over.set()
        task.wake()

    def _undo(self, task: NodeTask, fault: Exception) -> None:
        log.error("the end of a task could not be written", task=task.id, reason=str(fault))
        task.ending = None
        if task.nursery is None:  # nobody is there to try again; on disk it has not ended
            self.live.pop(task.id, None)
        task.wake()


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
    return Notice(task.id, *owner, "warning", body, int(time.time() * 1000))
