"""A machine the hub knows: what it is and can, whether it is here, and what it runs."""

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.protocol.frames import Heartbeat, NodeRegister, TaskLimits, ToolSpec
from apexbridge_trio.store import NodeRecord

if TYPE_CHECKING:
    from apexbridge_trio.nodes.link import NodeLink
    from apexbridge_trio.nodes.task import NodeTask

_read_tools = msgspec.json.Decoder(list[ToolSpec]).decode
_read_words = msgspec.json.Decoder(list[str]).decode

# What a node may confirm late; of older ones the receipt stays as it was.
MOST_LEFT: Final = 100


class Node:
    """One node, as it is now; made from its record and kept until it is forgotten.

    Attributes:
        record: What is kept of it.
        on_disk: What is known to be on disk; None while that is being changed, or never was.
        tools: What it offers, by name.
        capabilities: What it can do; its type is one of them.
        limits: How much it takes.
        link: Its connection, from the moment that it is let in.
        is_ready: Its registration is on disk and it was told so.
        away_since: Trio time at which its connection ended; None while it has one, or never had.
        tasks: What holds one of its slots: what it runs, and what it was told to stop and has not
            confirmed.
        left: What it was told to stop and has not confirmed in time, or before it left; it holds no slot.
        ongoing: What goes on after a task's answer and was told to stop: set once the node says so.
        texts: What prompts may have of it, by name.
        suitors: Other connections that wait for this id.
        told: The status that was told last.
        told_ms: When that was; None: nothing was told of it since the hub began.
    """

    def __init__(self, record: NodeRecord) -> None:
        self.tools: dict[str, ToolSpec] = {}
        self.capabilities: frozenset[str] = frozenset()
        self.keep(record)
        self.on_disk: NodeRecord | None = None
        self.limits = TaskLimits()
        self.features: frozenset[str] = frozenset()
        self.link: NodeLink | None = None
        self.is_ready = False
        self.away_since: float | None = None
        self.tasks: dict[str, NodeTask] = {}
        self.left: dict[str, NodeTask] = {}
        self.ongoing: dict[str, trio.Event] = {}
        self.texts: dict[str, str] = {}
        self.suitors: list[tuple[NodeLink, NodeRegister]] = []
        self.told = "offline"
        self.told_ms: int | None = None
        self.heard = Heartbeat()
        self.heard_ms: int | None = None
        self.connected_ms: int | None = None
        self.latency_ms: float | None = None
        self.completed = self.failed = self.given = 0
        self.worked_ms = 0.0

    @property
    def id(self) -> str:
        """The record's."""
        return self.record.id

    @property
    def owner(self) -> Principal:
        """Whose it is."""
        return owner_of(self.record)

    def keep(self, record: NodeRecord) -> None:
        """Go by another record from now on."""
        self.record = record
        self.tools = {spec.name: spec for spec in _read_tools(record.tools)}
        self.capabilities = frozenset((*_read_words(record.capabilities), record.type))

    @property
    def is_up(self) -> bool:
        """Whether it can be told something."""
        return self.link is not None and self.is_ready

    @property
    def takes_tasks(self) -> bool:
        """Whether it wants to be given tasks."""
        return self.is_up and not self.record.is_draining and self.heard.status != "offline"

    @property
    def has_room(self) -> bool:
        """Whether one more task may run there."""
        return len(self.tasks) < self.limits.max_concurrent

    @property
    def status(self) -> str:
        """``online``, ``busy``, ``draining`` or ``offline``."""
        if not self.is_up:
            return "offline"
        if self.record.is_draining or self.heard.status == "offline":
            return "draining"
        return "busy" if self.heard.status == "busy" or not self.has_room else "online"

    def serves(self, owner: Principal) -> bool:
        """Tell whether somebody's work may be done here: within its tenant, and its family if it has one."""
        mine = self.record
        return mine.tenant_id == owner.tenant_id and mine.family_id in {None, owner.family_id}

    def miss(self, task: "NodeTask") -> None:
        """Keep what it has not confirmed, in case that it does later."""
        self.left[task.id] = task
        if len(self.left) > MOST_LEFT:
            del self.left[next(iter(self.left))]

    def confirm(self, task_id: str) -> None:
        """Note that nothing of a task runs there any more, if that was not known."""
        task = self.left.pop(task_id, None)
        if task is not None and task.flight is not None:
            task.flight.confirm()

    def count(self, *, succeeded: bool, ms: float | None) -> None:
        """Count a task that has ended here."""
        self.completed += succeeded
        self.failed += not succeeded
        self.worked_ms += ms or 0.0


def described(node: Node) -> dict[str, Any]:
    """Say how a node is, as ``GET /v1/nodes/{id}`` shows it."""
    record, ended = node.record, node.completed + node.failed
    return {
        "id": record.id,
        "name": record.name,
        "type": record.type,
        "version": record.version,
        "status": node.status,
        "tenantId": record.tenant_id,
        "familyId": record.family_id,
        "capabilities": _read_words(record.capabilities),
        "tools": list(node.tools.values()),
        "maxConcurrent": node.limits.max_concurrent,
        "load": node.heard.load,
        "resources": node.heard.resources,
        "stats": {
            "activeTasks": len(node.tasks),
            "totalTasks": node.given,
            "completedTasks": node.completed,
            "failedTasks": node.failed,
            "averageResponseTimeMs": round(node.worked_ms / ended, 1) if ended else None,
        },
        "connectedAt": node.connected_ms,
        "lastHeartbeatAt": node.heard_ms,
        "latencyMs": node.latency_ms,
        "firstSeenAt": record.first_seen_ms,
        "lastDisconnect": {"at": record.left_ms, "reason": record.left_reason} if record.left_ms else None,
    }
