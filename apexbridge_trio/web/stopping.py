"""A task is stopped by its id, wherever it runs and whoever waits for it; the answer is a receipt."""

from typing import Any

import trio

from apexbridge_trio.errors import NotFound, TaskSettled
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes import FINAL
from apexbridge_trio.store import TaskRecord


async def stop_task(
    hub: Hub, task_id: str, principal: Principal, reason: str, wait_s: float
) -> dict[str, Any]:
    """Stop a task of a node, or one of a plugin that answers later.

    Returns:
        The receipt, as an interrupt has it.

    Raises:
        NotFound: There is no such task, for them.
        TaskSettled: It has ended already.
    """
    record = hub.pendings.find(task_id, principal)
    path = hub.nodes.path_of(task_id, principal)
    if record is not None:
        path = hub.pendings.path_of(record) or task_id
    try:
        return await hub.flights.interrupt(path, principal, reason).receipt(wait_s)
    except NotFound:
        if record is None:
            raise _missing(hub, task_id, principal) from None
    return await _withdraw(hub, task_id, record)


def _missing(hub: Hub, task_id: str, principal: Principal) -> NotFound | TaskSettled:
    record = hub.nodes.find(task_id, principal)
    if record is not None and record.state in FINAL:
        return TaskSettled(f"The task has ended already: {record.state}.", code="task_over")
    return NotFound(f"There is no task {task_id[:200]}.")


async def _withdraw(hub: Hub, task_id: str, record: TaskRecord) -> dict[str, Any]:
    """End a task that nobody waits for."""
    began = trio.current_time()
    if not await hub.pendings.withdraw(record):
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
