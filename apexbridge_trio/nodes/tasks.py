"""Tasks for nodes, driven: queued, assigned, watched, moved, and ended once.

Whoever wants a task done drives it (`run`), inside the flight that interrupts it: a chat's tool call, or
the nodes' own nursery for a task that stands for itself. When a driver is cut, the node is told to stop;
an interrupt waits, for a while, until the node has said that it did. A task that stands for itself is
left alone when the hub ends: it is on disk, its node goes on, and the next hub takes it up.
"""

from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Final

import msgspec
import trio

from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.errors import ApexError, Overloaded, StoreUnusable
from apexbridge_trio.flights import Flight, Stop
from apexbridge_trio.journal import Entry
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.book import TaskBook, fault
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.queue import TaskQueue, grant, no_node
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.protocol.frames import TaskAssign, TaskCancel

# A disk that takes nothing is asked again so often.
DISK_AGAIN_S: Final = 5.0

log = get_logger("nodes")


class NodeTasks:
    """Drives tasks.

    Attributes:
        is_closing: The hub is about to end: what stands for itself, and what that delegates, is left alone
            from now on.
        delegate_on: Goes on with what a task delegates; set once, when the room is composed.
    """

    delegate_on: Callable[[NodeTask], None]

    def __init__(self, config: NodesConfig, book: TaskBook, queue: TaskQueue) -> None:
        self._config = config
        self._book = book
        self._queue = queue
        self.is_closing = False

    def __len__(self) -> int:
        return len(self._book.live)

    def __iter__(self) -> Iterator[NodeTask]:
        return iter(list(self._book.live.values()))

    def configure(self, config: NodesConfig) -> None:
        """Go by another config from the next decision on."""
        self._config = config

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def live(self, task_id: str) -> NodeTask | None:
        """Return a task that has not ended."""
        return self._book.live.get(task_id)

    def enter(self, task: NodeTask) -> None:
        """Give a new task a slot or a place in the queue.

        Raises:
            NoNode: No node can run it.
            Overloaded: The queue is full.
        """
        self._queue.enter(task)
        self._book.live[task.id] = task

    async def store(self, task: NodeTask) -> None:
        """Put a task that stands for itself on disk, before it is accepted.

        Raises:
            StoreUnusable: It could not be written, and is none.
        """
        task.note("queued")
        try:
            await self._book.save(task).wait()
        except BaseException:  # nothing is handled: cancelled too, nobody was told of it
            self._drop(task)
            self._book.delete(task)
            raise

    def take_up(self, task: NodeTask, node: Node | None) -> bool:
        """Go on with a task of an earlier hub, which was given to `node`, if to any.

        Nobody waits for it any more; it has its own time. False: it has ended here.
        """
        task.is_stored = task.is_written = task.is_taken_up = True
        self._book.live[task.id] = task
        record, end = task.record, self._book.end
        if record.output is not None:  # the hub ended in the middle of what it delegated
            task.is_delegating = True
            return True
        if record.state == "queued" and not task.is_detached:
            end(task, "interrupted", error=fault("interrupted", "The hub was started anew."))
        elif record.state == "queued":
            return self._queue_again(task)
        elif node is None:
            end(task, "lost", error=fault("node_lost", "Its node is not known any more."), owes=True)
        else:
            grant(node, task)
            task.is_sent, task.away_since = True, trio.current_time()
            return True
        return False

    def _queue_again(self, task: NodeTask) -> bool:
        try:
            self._queue.enter(task)
        except Overloaded as refusal:
            self._book.end(task, "failed", error=fault(refusal.code, refusal.message), owes=True)
            return False
        return True

    async def run(self, task: NodeTask, flight: Flight) -> None:
        """Drive a task that has entered to its end, which is on disk when this returns.

        Cancellation: the node is told to stop. After an interrupt this waits until the node has said
        that it did, at most `cancel_wait_s`; a flight whose node has not is left as not confirmed.

        Raises:
            NoNode: None could take it, and none may come back.
            StoreUnusable: The disk failed.
        """
        task.flight, flight.task_id, flight.due = flight, task.id, task.deadline
        failure: ApexError | None = None
        try:
            async with trio.open_nursery() as task.nursery:
                if task.is_delegating:
                    self.delegate_on(task)
                try:
                    await self._drive(task)
                except ApexError as caught:
                    failure = caught
                task.nursery.cancel_scope.cancel(reason="the task is over")
        finally:
            task.nursery = None
            stopped = None if task.is_over else self._abandon(task, flight)
            if stopped is not None:
                # A receipt is to be true: it waits for the node, in a shield that is bounded.
                with trio.move_on_after(self._config.cancel_wait_s, shield=True):
                    await _written(stopped)
                    await task.confirmed.wait()
                flight.is_unconfirmed = not task.confirmed.is_set()
        if failure is not None:
            raise failure

    async def _drive(self, task: NodeTask) -> None:
        with trio.move_on_at(task.deadline):
            while not task.is_over:
                await self._persist(self._step, task)
        while not task.is_over:
            await self._persist(self._time_out, task)

    async def _persist(self, step: Callable[[NodeTask], Awaitable[None]], task: NodeTask) -> None:
        """Go a step; what stands for itself waits for a disk that takes nothing, as it was accepted."""
        try:
            await step(task)
        except StoreUnusable as unusable:
            if not task.is_detached:
                raise
            log.error("a task waits for the disk", task=task.id, reason=unusable.message)
            await trio.sleep(DISK_AGAIN_S)

    async def _time_out(self, task: NodeTask) -> None:
        if task.ending is not None:
            await task.news()
            return
        self._queue.discard(task)
        self._cancel_on_node(task, "its time is over")
        error = fault("timeout", "Its time was over.")
        await self._book.end(task, "timed_out", error=error, owes=task.is_detached).wait()

    async def _step(self, task: NodeTask) -> None:
        if task.ending is not None or task.is_delegating:
            await task.news()
        elif task.node is None:
            await task.granted.wait()
            if task.node is None:
                await self._give_up(task)
        elif not task.is_sent:
            await self._assign(task)
        else:
            await self._watch(task)

    async def _give_up(self, task: NodeTask) -> None:
        """End a task that no node will take any more."""
        why = no_node(task)
        if not task.is_stored:
            raise why
        error = fault(why.code, why.message)
        await self._book.end(task, "failed", error=error, owes=task.is_detached).wait()

    async def _assign(self, task: NodeTask) -> None:
        assert task.node is not None
        node, before = task.node, task.record
        task.assign(node.id)
        try:
            await self._book.save(task, lambda: self._send(task, node)).wait()
        except StoreUnusable:
            task.record = before
            raise
        if task.is_sent or task.ending is not None:
            return
        self._queue.release(task)  # the node left meanwhile, and never had it
        try:
            self._enter_again(task)
        except Overloaded as refusal:
            error = fault(refusal.code, refusal.message)
            await self._book.end(task, "failed", error=error, owes=task.is_detached).wait()

    def _send(self, task: NodeTask, node: Node) -> None:
        # A node that has not heard yet that it is let in takes nothing.
        if task.node is not node or task.ending is not None or node.link is None or not node.is_up:
            return
        node.link.say(_assignment(task, node.id))
        node.given += 1
        if task.flight is not None:
            task.flight.remarks["nodeId"] = node.id
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
            self._queue.release(task)
            try:
                self._enter_again(task)
                await self._book.save(task).wait()
            except Overloaded:
                log.info("no other node can take it", task=task.id)
            else:
                return
        error = fault("node_lost", f"The node {node.id} was lost. The task may have run there.")
        await self._book.end(task, "lost", error=error, owes=True, frees=True).wait()

    def _enter_again(self, task: NodeTask) -> None:
        task.granted, task.confirmed = trio.Event(), trio.Event()
        task.is_sent, task.away_since = False, None
        self._queue.enter(task)

    def _abandon(self, task: NodeTask, flight: Flight) -> Entry[None] | None:
        """Do what is to be done when nobody drives a task any more that is not over.

        Returns:
            Its end, if it was interrupted, and the receipt waits for its node.
        """
        self._queue.discard(task)
        if not task.is_stored:
            self._drop(task)
        elif self.is_closing and any(above.survives for above in flight.lineage()):
            self._book.live.pop(task.id, None)  # it goes on; the next hub takes it up
        elif task.ending is None:
            return self._stop(task, flight)
        return None

    def _stop(self, task: NodeTask, flight: Flight) -> Entry[None] | None:
        stop = next((above.stop for above in flight.lineage() if above.stop), None)
        is_late = stop is None and trio.current_time() >= min(task.deadline, flight.deadline)
        why = _why(stop)
        self._cancel_on_node(task, why)
        if is_late:
            entry = self._book.end(task, "timed_out", error=fault("timeout", "Its time was over."))
        else:
            entry = self._book.end(task, "interrupted", error=fault("interrupted", f"It was stopped: {why}."))
        return entry if stop is not None else None

    def _cancel_on_node(self, task: NodeTask, reason: str) -> None:
        """Tell the node to stop; the task holds its slot until the node has said that it did."""
        node = task.node
        if node is None or not task.is_sent:
            self._queue.release(task)
            return
        task.away_since = None
        if node.link is not None:
            node.link.say(TaskCancel(task.id, reason))

    def _drop(self, task: NodeTask) -> None:
        """Forget a task that nobody was told of."""
        self._queue.discard(task)
        self._book.live.pop(task.id, None)
        self._queue.release(task)


def _why(stop: Stop | None) -> str:
    if stop is None:
        return "nobody waits for it any more"
    return f"interrupted: {stop.reason}" if stop.reason else "interrupted"


async def _written(entry: Entry[None]) -> None:
    try:
        await entry.wait()
    except StoreUnusable as unusable:
        log.error("the end of a task could not be written", reason=unusable.message)


def _assignment(task: NodeTask, node_id: str) -> TaskAssign:
    record = task.record
    return TaskAssign(
        task_id=task.id,
        node_id=node_id,
        tool_name=record.tool,
        tool_args=msgspec.Raw(record.args),
        timeout=record.timeout_ms,
        remaining_ms=max(0, round((task.deadline - trio.current_time()) * 1000)),
        priority=record.priority,
        attempt=record.attempt,
        capability=record.capability,
        request_id=record.request_id,
        callback=task.callback,
        metadata=msgspec.json.decode(record.metadata) or None,
    )
