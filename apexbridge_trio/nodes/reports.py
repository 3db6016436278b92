"""What nodes say of their tasks, and what their coming and going means for these; all of it at once.

The reader of a node's connection calls this; nothing here waits. A result has an effect only if it is
of the node that has the task, and the first; anything else is acknowledged as stale, and recorded.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from apexbridge_trio.clock import now_ms
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.book import UNWRITTEN, Late, TaskBook, fault
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.outcome import Delegation, Outcome, delegations_of, read_outcome
from apexbridge_trio.nodes.queue import TaskQueue
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.protocol.frames import (
    NodeRegister,
    TaskAccepted,
    TaskCancel,
    TaskCancelled,
    TaskProgress,
    TaskResult,
    TaskResultAck,
)

# A node that was told to stop and says nothing holds its slot so long.
UNCONFIRMED_S: Final = 60.0

log = get_logger("nodes")

# Runs what a successful result asks for, and returns the whole result.
Delegate = Callable[[NodeTask, bytes, tuple[Delegation, ...]], Awaitable[bytes]]


class Reports:
    """Takes what nodes say of tasks.

    Attributes:
        delegate: Set once, when the room is composed.
        progressed: Told how far a task is; set once, when the hub is composed.
    """

    delegate: Delegate
    progressed: Callable[[NodeTask, float | None, str], None]

    def __init__(self, book: TaskBook, queue: TaskQueue) -> None:
        self._book = book
        self.progressed = lambda *_: None
        self._queue = queue

    def result(self, link: NodeLink, result: TaskResult) -> None:
        """Take a result: it ends its task, or has no effect, and is acknowledged once that is on disk."""
        node = link.node
        assert node is not None
        task = self._book.live.get(result.task_id)
        if task is None or task.node is not node or task.ending is not None:
            self._late(link, node, result.task_id)
            return
        outcome = read_outcome(result)

        def done(said: str) -> None:
            if not said:
                node.count(succeeded=outcome.error is None, ms=result.execution_time)
            _ack(link, node, task.id, said)

        self.settle(task, outcome, done)

    def _late(self, link: NodeLink, node: Node, task_id: str) -> None:
        told = node.tasks.get(task_id)
        if told is not None:
            self._free(told)
        node.confirm(task_id)
        log.info("a result came too late", task=task_id, node=node.id)
        link.unwanted()

        def tell(word: Late) -> None:
            said = {"known": "", "stale": "It came too late.", "unwritten": UNWRITTEN}[word]
            _ack(link, node, task_id, said, is_stale=word == "stale")

        self._book.take_late(task_id, node, tell)

    def settle(self, task: NodeTask, outcome: Outcome, done: Callable[[str], None]) -> None:
        """Take the result of a task that has not ended, whichever way it came.

        Args:
            task: The task.
            outcome: What came.
            done: Called with an empty text once it is on disk, or with why it was not taken.
        """
        if outcome.delegations and task.nursery is not None and not task.is_delegating:
            self._begin_delegations(task, outcome, done)
            return
        self._book.end(
            task,
            "succeeded" if outcome.error is None else "failed",
            output=outcome.output,
            error=outcome.error,
            owes=task.is_detached and outcome.error is not None,
            frees=True,
            done=done,
        )

    def _begin_delegations(self, task: NodeTask, outcome: Outcome, done: Callable[[str], None]) -> None:
        task.record.output = outcome.output
        task.is_delegating = True
        self._book.save(task, lambda: done(""), lambda _: done(UNWRITTEN))
        self.delegate_on(task)
        self._queue.release(task)
        task.wake()

    def delegate_on(self, task: NodeTask) -> None:
        """Do what the result of a task asks for, and end it with the outcomes."""
        assert task.nursery is not None
        assert task.record.output is not None
        asked = delegations_of(task.record.output)
        task.nursery.start_soon(self._delegated, task, asked, name=f"delegations of {task.id}")

    async def _delegated(self, task: NodeTask, asked: tuple[Delegation, ...]) -> None:
        assert task.record.output is not None
        whole = await self.delegate(task, task.record.output, asked)
        if task.ending is None:
            self._book.end(task, "succeeded", output=whole)

    def accepted(self, link: NodeLink, accepted: TaskAccepted) -> None:
        """Note that the node has begun."""
        task = self._its_own(link, accepted.task_id)
        if task is not None and task.record.state == "assigned":
            task.note("running")
            self._book.save(task)

    def progress(self, link: NodeLink, progress: TaskProgress) -> None:
        """Show how far a task is, at its branch of the live tree."""
        task = self._its_own(link, progress.task_id)
        if task is not None:
            self.advanced(task, progress.progress, progress.message)

    def advanced(self, task: NodeTask, progress: float | None, message: str) -> None:
        """Show how far a task is, whichever way that was told; nothing, if it does not run here."""
        if task.flight is not None:
            task.flight.remarks |= {"progress": progress, "message": message}
            self.progressed(task, progress, message)

    def cancelled(self, link: NodeLink, cancelled: TaskCancelled) -> None:
        """Note that nothing of a task runs on its node any more."""
        assert link.node is not None
        if (gone := link.node.ongoing.get(cancelled.task_id)) is not None:
            gone.set()
        link.node.confirm(cancelled.task_id)
        task = link.node.tasks.get(cancelled.task_id)
        if task is None:
            return
        if task.ending is not None:
            self._free(task)
        else:  # nobody here told it to: its own user did
            error = fault("interrupted", "The node has stopped it.")
            self._book.end(task, "interrupted", error=error, frees=True)

    def _free(self, task: NodeTask) -> None:
        """Give back the slot of what was to stop, and has; a result gives it back itself, once it counts."""
        if task.ending is not None and task.ending.state not in {"succeeded", "failed"}:
            self._queue.release(task)

    def _its_own(self, link: NodeLink, task_id: str) -> NodeTask | None:
        task = self._book.live.get(task_id)
        is_its_own = task is not None and task.node is link.node and task.ending is None
        return task if is_its_own else None

    def resume(self, node: Node, register: NodeRegister) -> dict[str, list[str]]:
        """Go on with what a node that is let in still runs; says what it is to keep and to cancel."""
        running = register.active_tasks
        for task_id in () if running is None else set(node.left).difference(running):
            node.confirm(task_id)
        keep = []
        for task in node.tasks.values():
            if task.ending is None and (running is None or task.id in running):
                keep.append(task.id)
                task.away_since = None
                task.wake()
        return {"keep": keep, "cancel": sorted(set(running or ()).difference(keep))}

    def ready(self, node: Node) -> None:
        """Give a node that may be told something what waits for it."""
        if node.link is None or not node.is_ready:
            return
        for task in node.tasks.values():
            if task.ending is not None:
                node.link.say(TaskCancel(task.id, "it is over"))
        self._queue.offer(node)

    def away(self, node: Node) -> None:
        """Begin to wait for a node whose connection has ended; what it was told to stop is not counted."""
        for task in list(node.tasks.values()):
            if task.ending is not None:
                node.miss(node.tasks.pop(task.id))
                continue
            task.away_since = node.away_since
            task.wake()

    def forget_unconfirmed(self, node: Node) -> None:
        """Free the slots of what a node was told to stop long ago."""
        limit = trio.current_time() - UNCONFIRMED_S
        for task in list(node.tasks.values()):
            if task.ending is not None and task.ending_since < limit:
                log.warning("a node never said that it has stopped a task", node=node.id, task=task.id)
                node.miss(node.tasks.pop(task.id))
        self._queue.offer(node)


def _ack(link: NodeLink, node: Node, task_id: str, said: str, *, is_stale: bool = False) -> None:
    success = is_stale or not said
    link.say(TaskResultAck(task_id, node.id, success, now_ms(), said, is_stale))
