"""``/v1/nodes``: who has joined, and what an administrator may do with them.

A change and its line in the audit are posted in one step: they are written in one transaction, also when
who asked has left by then.
"""

from typing import Final

from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.hub import Hub
from apexbridge_trio.nodes import Node, described
from apexbridge_trio.web.replies import current_actor, current_principal, reply, require_admin

STATUSES: Final = ("online", "busy", "draining", "offline")

_FORGOTTEN = "The node is forgotten. An agent that still runs registers anew; to keep it out, revoke its key."


def add_nodes(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/nodes``, but for the tasks of one."""
    registry, admission = hub.nodes.registry, hub.nodes.admission

    @app.get("/v1/nodes")
    async def nodes() -> Response:
        principal = current_principal()
        _require_a_status(request.args.get("status"))
        seen = [node for node in registry if principal.may_see(node.owner) and _is_asked_for(node)]
        return reply([described(node) for node in sorted(seen, key=lambda node: node.id)])

    @app.get("/v1/nodes/<node_id>")
    async def node(node_id: str) -> Response:
        return reply(described(registry.find(node_id, current_principal())))

    @app.delete("/v1/nodes/<node_id>")
    async def forget(node_id: str) -> Response:
        found = registry.find(node_id, require_admin())
        admission.forget(found)
        await hub.audit.note("node.forgotten", found.id, current_actor()).wait()
        return reply({"status": "success", "nodeId": found.id, "message": _FORGOTTEN})

    @app.post("/v1/nodes/<node_id>/drain")
    async def drain(node_id: str) -> Response:
        found = registry.find(node_id, require_admin())
        noted = hub.audit.note("node.drained", found.id, current_actor())  # see the module
        await admission.drain(found, is_draining=True)
        await noted.wait()
        return reply(described(found))

    @app.post("/v1/nodes/<node_id>/resume")
    async def resume(node_id: str) -> Response:
        found = registry.find(node_id, require_admin())
        noted = hub.audit.note("node.resumed", found.id, current_actor())  # see the module
        await admission.drain(found, is_draining=False)
        await noted.wait()
        return reply(described(found))


def _require_a_status(status: str | None) -> None:
    if status is not None and status not in STATUSES:
        raise BadRequest(f"status: expected one of {', '.join(STATUSES)}.", param="status")


def _is_asked_for(node: Node) -> bool:
    """Tell whether a node passes the filters of the query."""
    wanted = request.args
    return (
        wanted.get("status", node.status) == node.status
        and wanted.get("type", node.record.type) == node.record.type
        and ("capability" not in wanted or wanted["capability"] in node.capabilities)
    )
