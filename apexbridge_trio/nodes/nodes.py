"""All of the nodes' room: who is here, what they run, and what the rest of the hub may ask of them."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import trio

from apexbridge_trio.clock import WallClock, now_ms
from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.errors import NotFound
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.admission import Admission
from apexbridge_trio.nodes.book import TaskBook
from apexbridge_trio.nodes.callbacks import Callbacks
from apexbridge_trio.nodes.delegation import delegate
from apexbridge_trio.nodes.detached import Detached
from apexbridge_trio.nodes.lines import NodeLines
from apexbridge_trio.nodes.llm import NodeLlm
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.queue import TaskQueue
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.nodes.reports import Reports
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.nodes.tasks import NodeTasks
from apexbridge_trio.nodes.tool import NodeTool
from apexbridge_trio.nodes.wanted import Wanted
from apexbridge_trio.protocol.frames import Drain, Heartbeat
from apexbridge_trio.store import NodeRows, NodeTaskRecord, Store, Tasks

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
        changed: Told of each change of a node's status: the node, from, to, why.
        book: The tasks; its listeners are set when the hub is composed.
    """

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
        self._journal = journal
        self._keep_s = keep_s
        self._clock = clock
        self.registry = Registry(self.rows.nodes(), self._written, journal, self._on_change)
        self.changed: Callable[[Node, str, str, str], None] = _nobody
        self._queue = queue = TaskQueue(self.registry, config.max_queued)
        self.book = book = TaskBook(journal, queue, written=self._written, notices=Tasks(written))
        self.tasks = NodeTasks(config, book, queue)
        self.reports = Reports(book, queue)
        self._flights = flights
        self.llm = NodeLlm(config, flights, self.tasks, self.rows)
        self.admission = Admission(self.registry, config.heartbeat_interval_s, self.reports)
        self.reports.delegate = partial(delegate, self)
        self.tasks.delegate_on = self.reports.delegate_on
        self._delete_at = 0.0
        self.lines = NodeLines()
        self.callbacks = Callbacks(callback_url, book, self.reports, self.rows)
        self.detached = Detached(flights, self.registry, self.tasks, self.rows)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks that stand for themselves, and sweep.

        Cancellation: those tasks go on at their nodes, and on disk; the next hub takes them up.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.detached.run, name="tasks that stand for themselves")
            task_status.started()
            while True:
                await trio.sleep(SWEEP_S)
                self.sweep()

    def configure(self, config: NodesConfig, keep_s: float) -> None:
        """Go by another config: what runs keeps its time, whoever registers is told the new one."""
        self.config = config
        self._keep_s = keep_s
        self.admission.interval_s = config.heartbeat_interval_s
        self._queue.most = config.max_queued
        self.tasks.configure(config)
        self.llm.configure(config)

    @property
    def is_draining(self) -> bool:
        """Whether the hub is about to end."""
        return self._flights.is_draining

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
        record = wanted.record(owner, idempotent=is_idempotent, timeout_ms=timeout_ms, left_ms=left_ms)
        return NodeTask(record, owner, now + left_ms / 1000)

    def find(self, task_id: str, principal: Principal) -> NodeTaskRecord | None:
        """Return a task that somebody may see, as it is now."""
        task = self.tasks.live(task_id)
        record = task.record if task is not None else self.rows.task(task_id)
        return record if record is not None and principal.may_see(owner_of(record)) else None

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
        self.lines.sweep(self.registry)
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

    def _on_change(self, node: Node, was: str, status: str, reason: str) -> None:
        self.changed(node, was, status, reason)


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


def _log_unwritten(fault: Exception) -> None:
    log.error("old tasks could not be deleted", reason=str(fault))
