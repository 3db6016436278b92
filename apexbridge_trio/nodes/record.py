"""What is kept of a node, made of what it says of itself and of who it is."""

from typing import Any

import msgspec

from apexbridge_trio.clock import now_ms
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.protocol.frames import NodeRegister
from apexbridge_trio.store import NodeRecord


def record_of(before: NodeRecord | None, link: NodeLink, asked: NodeRegister, node_id: str) -> NodeRecord:
    """Return the record of a node that registers; `before` is what was kept of it until now."""
    principal = link.principal
    # A VCP node may come back with its address first; it keeps its tools until it names others.
    kept_tools = before.tools if before and link.is_vcp and not asked.tools else None
    fresh: dict[str, Any] = {
        "id": node_id,
        "tenant_id": before.tenant_id if before else principal.tenant_id,
        "family_id": principal.family_id,
        "principal_id": principal.id,
        "name": asked.name,
        "type": asked.type,
        "version": asked.version,
        "capabilities": msgspec.json.encode(asked.capabilities).decode(),
        "tools": kept_tools or msgspec.json.encode(asked.specs).decode(),
        "instance_id": asked.instance_id,
        "last_seen_ms": max(now_ms(), (before.left_ms or 0) + 1) if before else now_ms(),
    }
    if before is not None:
        return msgspec.structs.replace(before, **fresh)
    return NodeRecord(first_seen_ms=now_ms(), **fresh)


def is_same(one: NodeRecord, other: NodeRecord) -> bool:
    """Tell whether two records differ in no more than when the node was seen."""
    return msgspec.structs.replace(one, last_seen_ms=0) == msgspec.structs.replace(other, last_seen_ms=0)


def is_away(record: NodeRecord) -> bool:
    """Tell whether a record says that its node has left and not come again."""
    return record.left_ms is not None and record.left_ms >= record.last_seen_ms
