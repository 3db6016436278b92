"""What is to be done by a node, as it is asked for."""

from typing import Any

from msgspec import Struct, field

from apexbridge_trio.clock import now_ms
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import NodeTaskRecord


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be done, as somebody asks for it.

    Attributes:
        args: A JSON object.
        request_id: The request it is part of; None: it stands for itself.
        node_id: The only node that may run it.
        timeout_ms: None: what its node or the config says.
        idempotent: None: as the tool's node says.
    """

    tool: str
    args: bytes
    task_id: str | None = None
    request_id: str | None = None
    parent_id: str | None = None
    capability: str | None = None
    node_id: str | None = None
    timeout_ms: float | None = None
    priority: int = 5
    idempotent: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def record(
        self, owner: Principal, *, idempotent: bool, timeout_ms: float, left_ms: float
    ) -> NodeTaskRecord:
        """Return the record of a new task.

        Args:
            owner: For whom it is.
            idempotent: Whether a second run of it does no harm.
            timeout_ms: What it is given.
            left_ms: What of that there is, as what it is part of ends sooner.
        """
        made_ms = now_ms()
        return NodeTaskRecord(
            id=self.task_id or new_id("task"),
            tool=self.tool,
            capability=self.capability,
            wanted_node=self.node_id,
            args=self.args,
            priority=self.priority,
            idempotent=idempotent,
            timeout_ms=round(timeout_ms),
            created_ms=made_ms,
            deadline_ms=made_ms + round(left_ms),
            request_id=self.request_id,
            parent_id=self.parent_id,
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            metadata=encode(self.metadata).decode(),
        )
