"""All of the nodes' room: who is here, what they run, and what the rest of the hub may ask of them."""

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from math import inf
from typing import Final

import trio

from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.errors import ApexError, Draining, NotFound, StorageFailed, StoreUnusable
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Journal
from apexbridge_trio.ledger import Verdict
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.admission import Admission
from apexbridge_trio.nodes.book import TaskBook
from apexbridge_trio.nodes.delegation import delegate
from apexbridge_trio.nodes.lines import NodeLines
from apexbridge_trio.nodes.link import NodeLink, now_ms
from apexbridge_trio.nodes.llm import NodeLlm
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.outcome import Outcome, of_callback
from apexbridge_trio.nodes.queue import TaskQueue
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.nodes.reports import Reports
from apexbridge_trio.nodes.task import NodeTask, Wanted
from apexbridge_trio.nodes.tasks import NodeTasks
from apexbridge_trio.nodes.tool import NodeTool
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.channel import ForwardedCallback
from apexbridge_trio.protocol.frames import Drain, Heartbeat, LlmRequest, NodeLog, TaskCancel
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import RETRY_AFTER_S, NodeRows, NodeTaskRecord, Store, Tasks

SWEEP_S: Final = 5.0
# Rarer: it is a write, and a hub that has nothing to do leaves the disk alone.
DELETE_S: Final = 3600.0
MOST_SWEPT: Final = 200
_TOKEN_PREFIX: Final = "apx_cb_"  # noqa: S105  # the shape by which a token is masked in the log

log = get_logger("nodes")


class Nodes:
    """The nodes of the hub, and their tasks.

    Args:
        read: The loop's connection.
        written: The journal's.
        keep_s: How long tasks that have ended are kept.
        callback_url: Where results may be brought over HTTP.

    Attributes:
        forward: Takes a callback that came to a node; set once, when the hub is composed.
        changed: Told of each change of a node's status: the node, from, to, why.
        book: The tasks; its listeners are set when the hub is composed.
    """

    forward: Callable[[Principal, ForwardedCallback], Awaitable[str]]

    def __init__(
        self,
        config: NodesConfig,
        flights: Flights,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        keep_s: float,
        callback_url: Callable[[], str],
        clock: WallClock | None = None,
    ) -> None:
        self.config = config
        self.server_id = new_id("hub")
        self.rows = NodeRows(read)
        self._written = NodeRows(written)
        self._flights = flights
        self._journal = journal
        self._keep_s = keep_s
        self._clock = clock
        self._callback_url = callback_url
        self.registry = Registry(self.rows.nodes(), self._written, journal, self._on_change)
        self.changed: Callable[[Node, str, str, str], None] = _nobody
        self._queue = queue = TaskQueue(self.registry, config.max_queued)
        self.book = book = TaskBook(journal, queue, written=self._written, notices=Tasks(written))
        self.tasks = NodeTasks(config, book, queue)
        self.reports = Reports(book, queue)
        self.llm = NodeLlm(config, flights, self.tasks)
        self.admission = Admission(self.registry, config.heartbeat_interval_s, self.reports)
        self.reports.delegate = partial(delegate, self)
        self._delete_at = 0.0
        self._lines = NodeLines()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier hub has left, own the tasks that stand for themselves, and sweep.

        Cancellation: those tasks go on at their nodes, and on disk; the next hub takes them up.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._recover()
                task_status.started()
                while True:
                    await trio.sleep(SWEEP_S)
                    self.sweep()
        finally:
            self._nursery = None

    def configure(self, config: NodesConfig, keep_s: float) -> None:
        """Go by another config: what runs keeps its time, whoever registers is told the new one."""
        self.config = config
        self._keep_s = keep_s
        self.admission.interval_s = config.heartbeat_interval_s
        self._queue.most = config.max_queued
        self.tasks.configure(config)
        self.llm.configure(config)

    def close(self) -> None:
        """Leave from now on what stands for itself alone when it is cancelled: the hub is about to end."""
        self.tasks.is_closing = True

    def drain(self) -> None:
        """Tell every node that the hub is about to end."""
        for node in self.registry:
            if node.link is not None:
                node.link.say(Drain())

    def tools(self, owner: Principal, node_id: str | None = None) -> dict[str, NodeTool]:
        """Return the tools that nodes, or one of them, offer to somebody.

        Raises:
            NotFound: There is no such node, for them.
        """
        if node_id is None:
            return {name: NodeTool(self, spec) for name, spec in self.registry.offers.tools(owner).items()}
        node = self.registry.get(node_id)
        if node is None or not node.serves(owner):
            raise NotFound(f"There is no node {node_id}.", param="apex.node")
        return {name: NodeTool(self, spec, node_id) for name, spec in node.tools.items()}

    def make(self, wanted: Wanted, owner: Principal, *, deadline: float = inf) -> NodeTask:
        """Make a task; nobody knows of it before it enters.

        Args:
            wanted: What is to be done.
            owner: For whom.
            deadline: Trio time, of what it is part of; its own is never later.
        """
        is_idempotent = wanted.idempotent
        if is_idempotent is None:
            is_idempotent = self.registry.offers.is_idempotent(wanted.tool, owner)
        node = self.registry.get(wanted.node_id) if wanted.node_id else None
        default_ms = node.limits.default_timeout_ms if node else None
        timeout_ms = wanted.timeout_ms or default_ms or self.config.task_timeout_s * 1000
        now = trio.current_time()
        left_ms = min(timeout_ms, (deadline - now) * 1000)
        record = NodeTaskRecord(
            id=wanted.task_id or new_id("task"),
            tool=wanted.tool,
            capability=wanted.capability,
            wanted_node=wanted.node_id,
            args=wanted.args,
            priority=wanted.priority,
            idempotent=is_idempotent,
            timeout_ms=round(timeout_ms),
            created_ms=now_ms(),
            deadline_ms=now_ms() + round(left_ms),
            request_id=wanted.request_id,
            parent_id=wanted.parent_id,
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            metadata=encode(wanted.metadata).decode(),
        )
        return NodeTask(record, owner, now + left_ms / 1000)

    def give_token(self, task: NodeTask) -> None:
        """Let the result of a task come over HTTP too; its node is told where."""
        token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        task.record.token_hash = _hash_of(token)
        url = f"{self._callback_url()}/~{token}/{task.record.tool}/{task.id}"
        task.callback = {"mode": "http", "url": url}

    def task_of(self, token: str) -> NodeTaskRecord | None:
        """Return the task whose result a token may bring."""
        return self.rows.task_of_token(_hash_of(token))

    async def accept(self, record: NodeTaskRecord, callback: Callback) -> Verdict:
        """Take the result of a task over HTTP; what is "accepted" is on disk when this returns.

        Cancellation: it may be accepted all the same; sent again, it is a duplicate.

        Raises:
            StoreUnusable: It could not be written.
        """
        task, outcome = self.tasks.live(record.id), of_callback(callback)
        if task is not None and task.is_answered:
            await self.book.settled()
            task = self.tasks.live(record.id)
        if task is None or task.is_answered:
            return _verdict_of_ended(self.rows.task(record.id) or record, outcome)
        if callback.status == "progress":
            if task.flight is not None:
                task.flight.remarks |= {"progress": callback.progress, "message": callback.message}
                self.reports.progressed(task, callback.progress, callback.message)
            return Verdict("progress")
        written, faults = trio.Event(), []

        def done(fault: str) -> None:
            faults.append(fault)
            written.set()

        node = task.node
        self.reports.settle(task, outcome, done)
        await written.wait()
        if faults[0]:
            raise StorageFailed(faults[0], retry_after_s=RETRY_AFTER_S)
        if node is not None and node.link is not None:
            # It may have come from a node that was lost: what has the task now need not go on.
            node.link.say(TaskCancel(task.id, "its result has come over HTTP"))
        return Verdict("accepted")

    def find(self, task_id: str, principal: Principal) -> NodeTaskRecord | None:
        """Return a task that somebody may see, as it is now."""
        task = self.tasks.live(task_id)
        record = task.record if task is not None else self.rows.task(task_id)
        return record if record is not None and principal.may_see(_owner_of(record)) else None

    def path_of(self, task_id: str, principal: Principal) -> str:
        """Return where a task is in the live tree; the id itself if it is no living one that one may see."""
        task = self.tasks.live(task_id)
        if task is None or task.flight is None or not principal.may_see(task.owner):
            return task_id
        return task.flight.path

    async def start(self, task: NodeTask) -> None:
        """Accept a task that stands for itself: it is on disk when this returns.

        Raises:
            Draining: The hub is about to end.
            NoNode: No node can run it.
            Overloaded: They are full, and so is the queue.
            StoreUnusable: It could not be written.
        """
        if self._nursery is None or self._flights.is_draining:
            raise Draining("The hub is about to end; ask again in a moment.", retry_after_s=5)
        self.tasks.enter(task)
        fault: StoreUnusable | None = await self._nursery.start(self._accept, task, name=f"task {task.id}")
        if fault is not None:
            raise fault

    async def _accept(self, task: NodeTask, *, task_status: trio.TaskStatus[StoreUnusable | None]) -> None:
        try:
            await self.tasks.store(task)
        except StoreUnusable as fault:
            task_status.started(fault)
            return
        task_status.started(None)
        await self._run(task)

    async def _run(self, task: NodeTask) -> None:
        """Drive a task that stands for itself, in a flight of its own."""
        try:
            root = self._flights.open(task.id, "task", task.owner, survives=True)
            with root, root.child(task.record.tool, "node") as flight:
                await self.tasks.run(task, flight)
        except ApexError as fault:
            log.info("task was cut short", task=task.id, reason=fault.message)
        except Exception as fault:  # the boundary of a task that nobody waits for
            log.error("task failed", task=task.id, exc_info=fault)

    def _recover(self) -> None:
        assert self._nursery is not None
        now, wall_ms = trio.current_time(), now_ms()
        for node in self.registry:
            node.away_since = now
        records = self.rows.live_tasks()
        for record in records:
            # Never more than it was given, whatever became of the clock on the wall.
            left_ms = min(record.deadline_ms - wall_ms, record.timeout_ms)
            task = NodeTask(record, _owner_of(record), now + left_ms / 1000)
            if self.tasks.take_up(task, self.registry.get(record.node_id or "")):
                self._nursery.start_soon(self._run, task, name=f"task {task.id}")
        if records:
            log.info("tasks of an earlier run were taken up", tasks=len(records))

    def sweep(self) -> None:
        """Forget what is over: absences, what was never confirmed, and tasks that ended long ago.

        What could not be written is tried again.
        """
        self.registry.forget_absence(self.config.rejoin_grace_s)
        self._queue.give_up()
        self.book.write_again()
        for node in self.registry:
            self.reports.forget_unconfirmed(node)
        self.llm.keep_only(self.registry)
        self._lines.sweep(self.registry)
        if trio.current_time() >= self._delete_at:
            self._delete_at = trio.current_time() + DELETE_S
            if self._clock is not None and not self._clock.forgets:
                return  # what is old is not known
            before_ms = now_ms() - int(self._keep_s * 1000)
            self._journal.post(
                partial(self._written.delete_ended, before_ms, MOST_SWEPT), self._swept, failed=_log_unwritten
            )

    def _swept(self, number: int) -> None:
        if number >= MOST_SWEPT:  # there are more
            self._delete_at = 0.0

    def on_heartbeat(self, node: Node, heartbeat: Heartbeat) -> None:
        """Take note of how a node is."""
        was = node.status
        node.heard, node.heard_ms = heartbeat, now_ms()
        self.registry.note(node, was, "it says so")
        if was != node.status:
            self.reports.ready(node)

    def on_llm_request(self, link: NodeLink, request: LlmRequest) -> None:
        """Begin to answer what a node asks of a model."""
        self.llm.ask(link, request)

    def on_log(self, link: NodeLink, line: NodeLog) -> None:
        """Write a line of a node's log into the hub's."""
        self._lines.take(link, line)

    def on_forwarded(self, link: NodeLink, callback: ForwardedCallback) -> None:
        """Take a plugin's callback that a node passes on."""
        link.start(self._forward, link, callback, name=f"callback of {callback.plugin}")

    def _on_change(self, node: Node, was: str, status: str, reason: str) -> None:
        self.changed(node, was, status, reason)

    async def _forward(self, link: NodeLink, callback: ForwardedCallback) -> None:
        try:
            word = await self.forward(link.principal, callback)
        except ApexError as fault:
            word = fault.message
        log.info(
            "a callback was passed on", connection=link.connection_id, plugin=callback.plugin, taken=word
        )


def _verdict_of_ended(record: NodeTaskRecord, outcome: Outcome) -> Verdict:
    is_delegating = record.ended_ms is None and record.output is not None
    if record.state not in {"succeeded", "failed"} and not is_delegating:
        return Verdict("gone")
    said = encode(outcome.error).decode() if outcome.error else None
    is_same = (record.output, record.error) == (outcome.output, said)
    return Verdict("duplicate" if is_same else "conflict")


def _hash_of(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


def _owner_of(record: NodeTaskRecord) -> Principal:
    return Principal(record.principal_id, record.tenant_id, record.family_id)


def _log_unwritten(fault: Exception) -> None:
    log.error("old tasks could not be deleted", reason=str(fault))
