"""The tasks of all nodes: queued, assigned, watched, moved, and ended once; on disk before anybody is told.

Whoever wants a task done drives it (`run`), inside the flight that interrupts it: a chat's tool call, or
a nursery of this room for a task that stands for itself. What comes from the node is decided by the
reader of its connection, at once, in memory; what follows from it (the acknowledgement, the waiter that
wakes) happens when the journal has it.

When a driver is cut, the node is told to stop; an interrupt waits, for a while, until the node has said
that it did. A task that stands for itself is left alone when the hub ends: it is on disk, its node goes
on, and the next hub takes it up again (`recover`).
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.errors import ApexError, Overloaded, StoreUnusable
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.link import NodeLink, now_ms
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.outcome import Delegation, Outcome, read_outcome
from apexbridge_trio.nodes.queue import TaskQueue, grant
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.protocol.frames import (
    NodeRegister,
    TaskAccepted,
    TaskAssign,
    TaskCancel,
    TaskCancelled,
    TaskProgress,
    TaskResult,
    TaskResultAck,
)
from apexbridge_trio.store import NodeRows, NodeTaskState, Notice, Tasks, change_of, row_of

# A node that was told to stop and says nothing holds its slot so long.
UNCONFIRMED_S: Final = 60.0

log = get_logger("nodes")

# Runs what a successful result asks for, and returns the whole result.
Delegate = Callable[[NodeTask, bytes, tuple[Delegation, ...]], Awaitable[bytes]]


class NodeTasks:
    """All tasks that have not ended.

    Args:
        read: The loop's connection to the rows.
        written: The journal's.
        notices: The journal's connection to what owners are owed.
    """

    def __init__(
        self,
        config: NodesConfig,
        registry: Registry,
        journal: Journal,
        *,
        read: NodeRows,
        written: NodeRows,
        notices: Tasks,
    ) -> None:
        self._config = config
        self._registry = registry
        self._journal = journal
        self._read = read
        self._written = written
        self._notices = notices
        self._queue = TaskQueue(registry, config.max_queued)
        self._live: dict[str, NodeTask] = {}
        self.is_closing = False
        self.delegate: Delegate | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def live(self, task_id: str) -> NodeTask | None:
        """Return a task that has not ended."""
        return self._live.get(task_id)

    def enter(self, task: NodeTask) -> None:
        """Give a new task a slot or a place in the queue.

        Raises:
            NoNode: No node can run it.
            Overloaded: The queue is full.
        """
        self._queue.enter(task)
        self._live[task.id] = task

    async def store(self, task: NodeTask) -> None:
        """Put a task that stands for itself on disk, before it is accepted.

        Raises:
            StoreUnusable: It could not be written, and is none.
        """
        task.note("queued")
        try:
            await self._save(task).wait()
        except BaseException:
            self._drop(task)
            self._journal.post(partial(self._written.delete_task, task.id))
            raise

    def take_up(self, task: NodeTask, node: Node | None) -> bool:
        """Go on with a task of an earlier hub, which was given to `node`, if to any.

        Nobody waits for it any more; it has its own time. False: it has ended here.
        """
        task.is_stored = True
        self._live[task.id] = task
        record = task.record
        if record.output is not None:  # the hub ended in the middle of what it delegated
            self._end(task, "succeeded")
        elif record.state == "queued" and not task.is_detached:
            self._end(task, "interrupted", error=_error("interrupted", "The hub was started anew."))
        elif record.state == "queued":
            return self._queue_again(task)
        elif node is None:
            self._end(task, "lost", error=_error("node_lost", "Its node is not known any more."), owes=True)
        else:
            grant(node, task)
            task.is_sent, task.away_since = True, trio.current_time()
            return True
        return False

    def _queue_again(self, task: NodeTask) -> bool:
        try:
            self._queue.enter(task)
        except Overloaded as fault:
            self._end(task, "failed", error=_error(fault.code, fault.message), owes=True)
            return False
        return True

    async def run(self, task: NodeTask, flight: Flight) -> None:
        """Drive a task that has entered to its end, which is on disk when this returns.

        Cancellation: the node is told to stop. After an interrupt this waits until the node has said
        that it did, at most `cancel_wait_s`; a flight whose node has not is left as not confirmed.

        Raises:
            NoNode: It could not be run at all, as far as it never was.
            StoreUnusable: The disk failed.
        """
        task.flight = flight
        fault: ApexError | None = None
        try:
            async with trio.open_nursery() as task.nursery:
                try:
                    await self._drive(task)
                except ApexError as caught:
                    fault = caught
                task.nursery.cancel_scope.cancel(reason="the task is over")
        finally:
            task.nursery = None
            if not task.is_over:
                await self._abandon(task)
        if fault is not None:
            raise fault

    async def _drive(self, task: NodeTask) -> None:
        with trio.move_on_at(task.deadline):
            while not task.is_over:
                await self._step(task)
        while not task.is_over:
            if task.ending is None:
                self._cancel_on_node(task, "its time is over")
                self._end(
                    task, "timed_out", error=_error("timeout", "Its time was over."), owes=task.is_detached
                )
            await task.news()

    async def _step(self, task: NodeTask) -> None:
        if task.ending is not None or task.is_delegating:
            await task.news()
        elif task.node is None:
            await task.granted.wait()
        elif not task.is_sent:
            await self._assign(task)
        else:
            await self._watch(task)

    async def _assign(self, task: NodeTask) -> None:
        assert task.node is not None
        node = task.node
        task.record.attempt += 1
        task.record.node_id = node.id
        task.note("assigned")
        await self._save(task, lambda: self._send(task, node)).wait()
        if not task.is_sent and task.ending is None:  # the node left meanwhile, and never had it
            self._release(task)
            self._enter_again(task)

    def _send(self, task: NodeTask, node: Node) -> None:
        if task.node is not node or task.ending is not None or node.link is None:
            return
        record = task.record
        remaining_ms = max(0, round((task.deadline - trio.current_time()) * 1000))
        node.link.say(
            TaskAssign(
                task_id=task.id,
                node_id=node.id,
                tool_name=record.tool,
                tool_args=msgspec.Raw(record.args),
                timeout=record.timeout_ms,
                remaining_ms=remaining_ms,
                priority=record.priority,
                attempt=record.attempt,
                capability=record.capability,
                request_id=record.request_id,
                callback=task.callback,
                metadata=msgspec.json.decode(record.metadata) or None,
            )
        )
        node.given += 1
        task.is_sent, task.away_since = True, None

    async def _watch(self, task: NodeTask) -> None:
        """Wait until something has changed; a node that is away too long is lost, and its task with it."""
        lost_at = inf if task.away_since is None else task.away_since + self._config.rejoin_grace_s
        with trio.move_on_at(lost_at):
            await task.news()
            return
        await self._lose(task)

    async def _lose(self, task: NodeTask) -> None:
        assert task.node is not None
        node = task.node
        log.info("task lost its node", task=task.id, node=node.id, idempotent=task.record.idempotent)
        if task.record.idempotent and task.record.wanted_node is None:
            task.excluded.add(node.id)
            task.note("queued", f"the node {node.id} was lost; the task moves")
            self._release(task)
            try:
                self._enter_again(task)
                await self._save(task).wait()
            except Overloaded:
                pass
            else:
                return
        message = f"The node {node.id} was lost. The task may have run there."
        entry = self._end(task, "lost", error=_error("node_lost", message), owes=True)
        self._release(task)
        await entry.wait()

    def _enter_again(self, task: NodeTask) -> None:
        task.granted, task.confirmed = trio.Event(), trio.Event()
        task.is_sent, task.away_since = False, None
        self._queue.enter(task)

    async def _abandon(self, task: NodeTask) -> None:
        """Do what is to be done when nobody drives a task any more that is not over."""
        self._queue.discard(task)
        if self.is_closing and task.is_detached:
            self._live.pop(task.id, None)
            return  # it goes on; the next hub takes it up
        if task.ending is not None or not task.is_stored:
            if not task.is_stored:
                self._drop(task)
            return
        assert task.flight is not None
        is_stopped = any(flight.stop for flight in task.flight.lineage())
        is_late = not is_stopped and trio.current_time() >= min(task.deadline, task.flight.deadline)
        self._cancel_on_node(task, "interrupted" if is_stopped else "nobody waits for it any more")
        state: NodeTaskState = "timed_out" if is_late else "interrupted"
        message = "Its time was over." if is_late else "It was interrupted."
        entry = self._end(task, state, error=_error("timeout" if is_late else "interrupted", message))
        if is_stopped:
            # A receipt is to be true: it waits for the node, in a shield that is bounded.
            with trio.move_on_after(self._config.cancel_wait_s, shield=True):
                await self._is_written(entry)
                await task.confirmed.wait()
            task.flight.is_unconfirmed = not task.confirmed.is_set()

    async def _is_written(self, entry: Entry[None]) -> None:
        try:
            await entry.wait()
        except StoreUnusable as fault:
            log.error("the end of a task could not be written", reason=fault.message)

    def _cancel_on_node(self, task: NodeTask, reason: str) -> None:
        """Tell the node to stop; the task holds its slot until the node has said that it did."""
        node = task.node
        if node is None or not task.is_sent:
            self._release(task)
            return
        task.away_since = None
        if node.link is not None:
            node.link.say(TaskCancel(task.id, reason))

    def _release(self, task: NodeTask) -> None:
        """Give back the slot; nothing of the task runs on its node, as far as is known."""
        task.confirmed.set()
        node, task.node = task.node, None
        if node is not None and node.tasks.pop(task.id, None) is not None:
            self._queue.offer(node)

    def _drop(self, task: NodeTask) -> None:
        """Forget a task that nobody was told of."""
        self._queue.discard(task)
        self._live.pop(task.id, None)
        self._release(task)

    def on_result(self, link: NodeLink, result: TaskResult) -> None:
        """Take a result: it ends its task, or has no effect, and is acknowledged once that is on disk."""
        node = link.node
        assert node is not None
        task = self._live.get(result.task_id)
        if task is None or task.node is not node or task.ending is not None:
            self._on_late(link, node, result.task_id)
        else:
            outcome = read_outcome(result)
            node.count(succeeded=outcome.error is None, ms=result.execution_time)
            self.settle(task, outcome, lambda said: _ack(link, node, task.id, said))

    def _on_late(self, link: NodeLink, node: Node, task_id: str) -> None:
        if (told := node.tasks.get(task_id)) is not None:  # it was to stop, and has
            self._release(told)
        live = self._live.get(task_id)
        record = live.ending or live.record if live else self._read.task(task_id)
        if record is not None and record.node_id == node.id and record.state in {"succeeded", "failed"}:
            _ack(link, node, task_id, "")
            return
        log.info("a result came too late", task=task_id, node=node.id)
        self._journal.post(
            partial(self._written.note_late, task_id),
            lambda _: _ack(link, node, task_id, "It came too late.", is_stale=True),
        )

    def settle(self, task: NodeTask, outcome: Outcome, done: Callable[[str], None]) -> None:
        """Take the result of a task that has not ended, whichever way it came.

        Args:
            task: The task.
            outcome: What came.
            done: Called with an empty text once it is on disk, or with why it was not taken.
        """
        if outcome.delegations and self.delegate is not None and task.nursery is not None:
            task.record.output = outcome.output
            task.is_delegating = True
            self._save(task, lambda: done(""), lambda _: done("It could not be written; send it again."))
            task.nursery.start_soon(self._delegated, task, outcome, name=f"delegations of {task.id}")
            self._release(task)
            task.wake()
            return
        self._end(
            task,
            "succeeded" if outcome.error is None else "failed",
            output=outcome.output,
            error=outcome.error,
            owes=task.is_detached and outcome.error is not None,
            done=done,
        )
        self._release(task)
        task.wake()

    async def _delegated(self, task: NodeTask, outcome: Outcome) -> None:
        assert self.delegate is not None
        assert outcome.output is not None
        whole = await self.delegate(task, outcome.output, outcome.delegations)
        if task.ending is None:
            self._end(task, "succeeded", output=whole)

    def on_accepted(self, link: NodeLink, accepted: TaskAccepted) -> None:
        """Note that the node has begun."""
        task = self._live.get(accepted.task_id)
        is_its_own = task is not None and task.node is link.node and task.ending is None
        if task is not None and is_its_own and task.record.state == "assigned":
            task.note("running")
            self._save(task)

    def on_progress(self, link: NodeLink, progress: TaskProgress) -> None:
        """Show how far a task is, at its branch of the live tree."""
        task = self._live.get(progress.task_id)
        if task is not None and task.node is link.node and task.flight is not None:
            task.flight.remarks |= {"progress": progress.progress, "message": progress.message}

    def on_cancelled(self, link: NodeLink, cancelled: TaskCancelled) -> None:
        """Note that nothing of a task runs on its node any more."""
        assert link.node is not None
        if (gone := link.node.ongoing.get(cancelled.task_id)) is not None:
            gone.set()
        task = link.node.tasks.get(cancelled.task_id)
        if task is None:
            return
        if task.ending is not None or task.is_over:
            self._release(task)
        else:  # nobody here told it to: its own user did
            self._end(task, "interrupted", error=_error("interrupted", "The node has stopped it."))
            self._release(task)

    def resume(self, node: Node, register: NodeRegister) -> dict[str, list[str]]:
        """Go on with what a node that is let in still runs; says what it is to keep and to cancel."""
        running = register.active_tasks
        keep = []
        for task in list(node.tasks.values()):
            is_there = running is None or task.id in running
            if task.ending is None and is_there:
                keep.append(task.id)
                task.away_since = None
                task.wake()
        return {"keep": keep, "cancel": sorted(set(running or ()).difference(keep))}

    def ready(self, node: Node) -> None:
        """Give a node that may be told something what waits for it."""
        if node.is_up:
            for task in list(node.tasks.values()):
                if task.ending is not None and node.link is not None:
                    node.link.say(TaskCancel(task.id, "it is over"))
            self._queue.offer(node)

    def away(self, node: Node) -> None:
        """Begin to wait for a node whose connection has ended; what it was told to stop is not counted."""
        for task in list(node.tasks.values()):
            if task.ending is not None:
                node.tasks.pop(task.id)
                continue
            task.away_since = node.away_since
            task.wake()

    def forget_unconfirmed(self) -> None:
        """Free the slots of what was told to stop long ago."""
        limit = now_ms() - UNCONFIRMED_S * 1000
        for node in self._registry:
            for task in list(node.tasks.values()):
                if task.ending is not None and (task.ending.ended_ms or inf) < limit:
                    log.warning("a node never said that it has stopped a task", node=node.id, task=task.id)
                    node.tasks.pop(task.id)
            self._queue.offer(node)

    def _save(
        self,
        task: NodeTask,
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Entry[None]:
        """Write a task as it is now."""
        if task.is_stored:
            work = partial(self._written.advance_task, change_of(task.record))
        else:
            work = partial(self._written.add_task, row_of(task.record))
            task.is_stored = True
        return self._journal.post(work, (lambda _: after()) if after else None, failed=failed)

    def _end(
        self,
        task: NodeTask,
        state: NodeTaskState,
        *,
        output: bytes | None = None,
        error: dict[str, Any] | None = None,
        owes: bool = False,
        done: Callable[[str], None] | None = None,
    ) -> Entry[None]:
        """Decide a task's end; it counts once it is written."""
        task.end(state, "", output, error)
        assert task.ending is not None
        ending, row = task.ending, change_of(task.ending)
        notice = _notice(task, state, error) if owes else None

        def write() -> None:
            self._written.advance_task(row)
            if notice is not None:
                self._notices.owe(notice)

        def after(_: None) -> None:
            task.record = ending
            self._live.pop(task.id, None)
            task.over.set()
            task.wake()
            if done:
                done("")

        def failed(fault: Exception) -> None:
            log.error("the end of a task could not be written", task=task.id, reason=str(fault))
            task.ending = None
            if task.nursery is None:  # nobody is there to try again; on disk it has not ended
                self._live.pop(task.id, None)
            task.wake()
            if done:
                done("It could not be written; send it again.")

        return self._journal.post(write, after, failed=failed, size=len(output or b""))


def _ack(link: NodeLink, node: Node, task_id: str, said: str, *, is_stale: bool = False) -> None:
    success = is_stale or not said
    link.say(TaskResultAck(task_id, node.id, success, now_ms(), said, is_stale))


def _error(code: str, message: str) -> dict[str, Any]:
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
    owner: Principal = task.owner
    return Notice(
        task.id,
        owner.id,
        owner.tenant_id,
        owner.family_id,
        "warning",
        msgspec.json.encode(said).decode(),
        int(time.time() * 1000),
    )
