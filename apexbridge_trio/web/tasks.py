"""``/v1/tasks``: work for nodes, asked for, looked at, stopped and asked for again."""

from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta, Raw, Struct
from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.errors import BadRequest, NotFound
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.nodes import FINAL, NodeTask, Wanted, task_entry
from apexbridge_trio.pending import pending_entry, whole_pending_entry
from apexbridge_trio.protocol.frames import ToolName, Word
from apexbridge_trio.protocol.openai import Id, read_json
from apexbridge_trio.stopping import stop_task
from apexbridge_trio.web.reading import narrowed, require_json
from apexbridge_trio.web.replies import current_arrival, current_principal, reply, require_admin

# An interrupt by DELETE has no body to say how long its receipt is waited for.
WAIT_S: Final = 5.0
MOST_LISTED: Final = 500
STATES: Final = frozenset({*FINAL, "queued", "assigned", "running", "waiting_callback"})

Priority = Annotated[int, Meta(ge=0, le=100)]
Timeout = Annotated[float, Meta(gt=0, le=86_400_000)]


class CallbackUrl(Struct):
    """An address that the node is told; what it does there is its own."""

    url: Annotated[str, Meta(max_length=2000)]


class TaskRequest(Struct, rename="camel"):
    """The body of ``POST /v1/tasks``; `timeout` in milliseconds."""

    tool_name: ToolName
    tool_args: dict[str, Raw] = {}
    capability: Word | None = None
    timeout: Timeout | None = None
    priority: Priority = 5
    wait_for_result: bool = False
    metadata: dict[str, Any] = {}
    callback: Literal["ws", "http"] | CallbackUrl = "ws"
    idempotent: bool | None = None
    tenant_id: Id | None = None
    family_id: Id | None = None


_decode: Final = msgspec.json.Decoder(TaskRequest).decode


def add_tasks(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/tasks``, and that of one node's."""

    @app.get("/v1/tasks")
    async def tasks() -> Response:
        return reply(_listed(hub, current_principal()))

    @app.get("/v1/tasks/<task_id>")
    async def task(task_id: str) -> Response:
        return reply(_entry(hub, task_id, current_principal()))

    @app.post("/v1/tasks")
    async def create() -> Response:
        return await _create(hub, await _asked(), None)

    @app.post("/v1/nodes/<node_id>/tasks")
    async def create_at(node_id: str) -> Response:
        node = hub.nodes.registry.find(node_id, require_admin())
        return await _create(hub, await _asked(), node.id)

    @app.post("/v1/tasks/<task_id>/retry")
    async def retry(task_id: str) -> Response:
        return await _retry(hub, task_id, current_principal())

    @app.delete("/v1/tasks/<task_id>")
    async def stop(task_id: str) -> Response:
        return reply(await stop_task(hub, task_id, current_principal(), "the task was deleted", WAIT_S))


def _listed(hub: Hub, principal: Principal) -> list[dict[str, Any]]:
    state, node_id = request.args.get("state"), request.args.get("node")
    if state is not None and state not in STATES:
        raise BadRequest(f"state: expected one of {', '.join(sorted(STATES))}.", param="state")
    tenant = None if "admin" in principal.scopes else principal.tenant_id
    listed = hub.nodes.rows.list_tasks(tenant, state, node_id)
    entries = [task_entry(one) for one in listed if principal.may_see(owner_of(one))]
    if node_id is None:
        entries += [pending_entry(one) for one in hub.pendings.listed(principal, state)]
    return sorted(entries, key=_age, reverse=True)[:MOST_LISTED]


def _entry(hub: Hub, task_id: str, principal: Principal) -> dict[str, Any]:
    if (record := hub.nodes.find(task_id, principal)) is not None:
        return task_entry(record, whole=True)
    if (pending := hub.pendings.find(task_id, principal)) is not None:
        return whole_pending_entry(pending, hub.pendings.result(pending))
    raise _not_found(task_id)


async def _asked() -> TaskRequest:
    require_admin()
    require_json(current_arrival())
    return read_json(cast("bytes", await request.get_data()), _decode)


async def _create(hub: Hub, asked: TaskRequest, node_id: str | None) -> Response:
    owner = narrowed(current_principal(), current_arrival(), asked.tenant_id, asked.family_id)
    if node_id is not None:
        owner = _as_owner(owner, hub.nodes.registry.find(node_id, owner).owner)
    wanted = Wanted(
        tool=asked.tool_name,
        args=msgspec.json.encode(asked.tool_args),
        capability=asked.capability,
        node_id=node_id,
        timeout_ms=asked.timeout,
        priority=asked.priority,
        idempotent=asked.idempotent,
        metadata=asked.metadata,
        request_id=current_arrival().request_id if asked.wait_for_result else None,
    )
    task = hub.nodes.make(wanted, owner)
    if asked.callback == "http":
        hub.nodes.callbacks.give_token(task)
    elif isinstance(asked.callback, CallbackUrl):
        task.callback = {"mode": "url", "url": asked.callback.url}
    if asked.wait_for_result:
        return await _run(hub, task)
    await hub.nodes.detached.start(task)
    return reply({"taskId": task.id, "status": "accepted", "state": task.record.state}, 202)


async def _run(hub: Hub, task: NodeTask) -> Response:
    """Run a task within this request: who leaves, stops it."""
    root = hub.flights.open(current_arrival().request_id, "task", task.owner)
    current_arrival().opening.end = root.interrupt
    with root, root.child(task.record.tool, "node") as flight:
        hub.nodes.tasks.enter(task)
        await hub.nodes.tasks.run(task, flight)
    return reply({"success": task.record.state == "succeeded", **task_entry(task.record, whole=True)})


async def _retry(hub: Hub, task_id: str, principal: Principal) -> Response:
    record = hub.nodes.find(task_id, principal)
    if record is None and hub.pendings.find(task_id, principal) is not None:
        raise BadRequest("What a plugin was asked is not kept; ask for it again.", code="task_not_repeatable")
    if record is None:
        raise _not_found(task_id)
    if record.state not in FINAL:
        raise BadRequest("The task has not ended; there is nothing to try again.", code="task_not_over")
    wanted = Wanted(
        tool=record.tool,
        args=record.args,
        capability=record.capability,
        node_id=record.wanted_node,
        timeout_ms=record.timeout_ms,
        priority=record.priority,
        idempotent=record.idempotent,
        metadata={**msgspec.json.decode(record.metadata), "retryOf": record.id},
    )
    task = hub.nodes.make(wanted, owner_of(record))
    await hub.nodes.detached.start(task)
    said = {"taskId": task.id, "status": "accepted", "state": task.record.state, "retryOf": record.id}
    return reply(said, 202)


def _not_found(task_id: str) -> NotFound:
    return NotFound(f"There is no task {task_id[:200]}.")


def _age(entry: dict[str, Any]) -> int:
    made: int = entry["createdAt"]
    return made


def _as_owner(asking: Principal, node: Principal) -> Principal:
    """Return for whom an administrator has a node work: for the node's own household."""
    return Principal(asking.id, node.tenant_id, node.family_id, asking.scopes)
