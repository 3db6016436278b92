"""Tasks that stand for themselves: nobody waits for them, so they are on disk before they are accepted.

Each runs here in a flight of its own. When the hub ends they go on at their nodes; the next hub takes
them up.
"""

import trio

from apexbridge_trio.clock import now_ms
from apexbridge_trio.errors import ApexError, Draining, StoreUnusable
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import owner_of
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.nodes.tasks import NodeTasks
from apexbridge_trio.store import NodeRows

log = get_logger("nodes")


class Detached:
    """Owns those tasks.

    Args:
        rows: The loop's connection to them.
    """

    def __init__(self, flights: Flights, registry: Registry, tasks: NodeTasks, rows: NodeRows) -> None:
        self._flights = flights
        self._registry = registry
        self._tasks = tasks
        self._rows = rows
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier hub has left, and own what is started from now on.

        Cancellation: those tasks go on at their nodes, and on disk; the next hub takes them up.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._recover(self._nursery)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

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
        self._tasks.enter(task)
        fault: StoreUnusable | None = await self._nursery.start(self._accept, task, name=f"task {task.id}")
        if fault is not None:
            raise fault

    async def _accept(self, task: NodeTask, *, task_status: trio.TaskStatus[StoreUnusable | None]) -> None:
        try:
            await self._tasks.store(task)
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
                await self._tasks.run(task, flight)
        except ApexError as fault:
            log.info("task was cut short", task=task.id, reason=fault.message)
        except Exception as fault:  # the boundary of a task that nobody waits for
            log.error("task failed", task=task.id, exc_info=fault)

    def _recover(self, nursery: trio.Nursery) -> None:
        now, wall_ms = trio.current_time(), now_ms()
        for node in self._registry:
            node.away_since = now
        records = self._rows.live_tasks()
        delegating = {record.id for record in records if record.output is not None}
        for record in records:
            # Never more than it was given, whatever became of the clock on the wall.
            left_ms = min(record.deadline_ms - wall_ms, record.timeout_ms)
            task = NodeTask(record, owner_of(record), now + left_ms / 1000)
            is_up = self._tasks.take_up(task, self._registry.get(record.node_id or ""))
            if is_up and record.parent_id not in delegating:  # else what delegates it drives it
                nursery.start_soon(self._run, task, name=f"task {task.id}")
        if records:
            log.info("tasks of an earlier run were taken up", tasks=len(records))
