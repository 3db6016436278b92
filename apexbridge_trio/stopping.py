"""A task is stopped by its id, wherever it runs and whoever waits for it; the answer is a receipt."""

from typing import Any, Protocol

import trio

from apexbridge_trio.errors import NotFound, TaskSettled
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes import FINAL, Nodes
from apexbridge_trio.pending import Pendings
from apexbridge_trio.store import TaskRecord


class Rooms(Protocol):
    """Where something may run that is to stop."""

    @property
    def flights(self) -> Flights:
        """The live tree."""
        ...

    @property
    def nodes(self) -> Nodes:
        """Tasks of nodes."""
        ...

    @property
    def pendings(self) -> Pendings:
        """Tasks of plugins that answer later."""
        ...


async def stop_task(
    rooms: Rooms, task_id: str, principal: Principal, reason: str, wait_s: float
) -> dict[str, Any]:
    """Stop a task of a node, or one of a plugin that answers later.

    Returns:
        The receipt, as an interrupt has it.

    Raises:
        NotFound: There is no such task, for them.
        TaskSettled: It has ended already.
    """
    record = rooms.pendings.find(task_id, principal)
    try:
        if record is None:
            stop = rooms.flights.interrupt_task(task_id, principal, reason)
        else:
            path = rooms.pendings.path_of(record) or task_id
            stop = rooms.flights.interrupt(path, principal, reason)
        return await stop.receipt(wait_s)
    except NotFound:
        if record is None:
            raise _missing(rooms, task_id, principal) from None
    return await _withdraw(rooms, task_id, record)


def _missing(rooms: Rooms, task_id: str, principal: Principal) -> NotFound | TaskSettled:
    record = rooms.nodes.find(task_id, principal)
    if record is not None and record.state in FINAL:
        return TaskSettled(f"The task has ended already: {record.state}.", code="task_over")
    return NotFound(f"There is no task {task_id[:200]}.")


async def _withdraw(rooms: Rooms, task_id: str, record: TaskRecord) -> dict[str, Any]:
    """End a task that nobody waits for."""
    began = trio.current_time()
    if not await rooms.pendings.withdraw(record):
        raise TaskSettled(f"The task has ended already: {record.state}.", code="task_over")
    ms = round((trio.current_time() - began) * 1000)
    return {
        "success": True,
        "status": "success",
        "interrupted": True,
        "requestId": task_id,
        "message": "Everything has stopped.",
        "state": "stopped",
        "tookMs": ms,
        "branches": [{"path": task_id, "kind": "callback", "state": "stopped", "ms": ms}],
        "notStopped": [],
    }
