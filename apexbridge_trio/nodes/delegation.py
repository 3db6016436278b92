"""What a result asks for besides: other tasks, side by side, under the same deadline and owner."""

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from apexbridge_trio.errors import ApexError
from apexbridge_trio.nodes.outcome import Delegation
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.nodes.tool import result_of
from apexbridge_trio.nodes.wanted import Wanted
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import NodeTaskRecord

if TYPE_CHECKING:
    from apexbridge_trio.nodes.nodes import Nodes

# Contract §2.1; and no more at a time than a node might have meant.
MAX_DEPTH: Final = 3
MAX_DELEGATIONS: Final = 16
# As for a task that is asked for over HTTP.
MAX_TIMEOUT_MS: Final = 86_400_000.0


async def delegate(nodes: "Nodes", task: NodeTask, output: bytes, asked: tuple[Delegation, ...]) -> bytes:
    """Run what a result asks for, and return the result with the outcomes under ``delegationResults``.

    What an earlier hub has begun is not begun again, and what it had not begun is told as interrupted.

    Cancellation: reaches each of them.
    """
    asked = asked[: MAX_DELEGATIONS + 1]  # of all that are too many, one says so
    outcomes: list[dict[str, Any]] = [{} for _ in asked]

    async def run_one(number: int, wanted: Delegation) -> None:
        outcomes[number] = await _outcome(nodes, task, wanted, number + 1)

    async with trio.open_nursery() as nursery:
        for number, wanted in enumerate(asked):
            nursery.start_soon(run_one, number, wanted, name=f"delegation of {task.id}")
    whole: dict[str, Any] = msgspec.json.decode(output)
    return encode({**whole, "delegationResults": outcomes})


async def _outcome(nodes: "Nodes", task: NodeTask, wanted: Delegation, number: int) -> dict[str, Any]:
    task_id = f"{task.id}-delegation-{number}"
    try:
        result = await _run(nodes, task, wanted, task_id, number)
    except ApexError as fault:
        error = {"code": fault.code, "message": fault.message}
        return {"taskId": task_id, "success": False, "error": error}
    return {"taskId": task_id, "success": True, "result": result}


async def _run(nodes: "Nodes", task: NodeTask, wanted: Delegation, task_id: str, number: int) -> Any:
    if task.depth >= MAX_DEPTH or number > MAX_DELEGATIONS:
        raise ApexError(
            "A task may delegate three levels deep, and to 16 others.", code="too_many_delegations"
        )
    child = _taken_up(nodes, task, task_id) if task.is_taken_up else _begun(nodes, task, wanted, task_id)
    if isinstance(child, NodeTaskRecord):
        return result_of(child, nodes.config.max_output_bytes)
    child.depth = task.depth + 1
    assert task.flight is not None
    with task.flight.child(wanted.tool_name, "node") as flight:
        await nodes.tasks.run(child, flight)
    return result_of(child.record, nodes.config.max_output_bytes)


def _begun(nodes: "Nodes", task: NodeTask, wanted: Delegation, task_id: str) -> NodeTask:
    asked = Wanted(
        tool=wanted.tool_name,
        args=encode(wanted.args),
        task_id=task_id,
        request_id=task.record.request_id or task.id,
        parent_id=task.id,
        capability=wanted.capability,
        timeout_ms=min(max(wanted.timeout, 0.0), MAX_TIMEOUT_MS),
        metadata=wanted.metadata,
    )
    child = nodes.make(asked, task.owner, deadline=task.deadline)
    nodes.tasks.enter(child)
    return child


def _taken_up(nodes: "Nodes", task: NodeTask, task_id: str) -> NodeTask | NodeTaskRecord:
    """Return what an earlier hub has begun: still running, or with its end; nothing new is begun for it."""
    child = nodes.tasks.live(task_id)
    if child is not None:
        return child
    if (record := nodes.rows.task(task_id)) is not None:
        return record
    raise ApexError(f"The hub was started anew before {task.id} had this begun.", code="interrupted")
