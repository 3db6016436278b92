"""What is so now, as far as the hub knows: when it starts, or has other triggers; and what nobody has heard.

Since when a node is away is known if it left while a hub was there; one that was here when the hub before
this one ended has left because of that, so for it only the start counts. No node is here when a hub starts.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from apexbridge_trio.events import Kind
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes import FINAL, HUB_ENDED, is_away, task_entry
from apexbridge_trio.notices import told
from apexbridge_trio.protocol.happened import ENDS
from apexbridge_trio.store import NodeRecord, NodeRows, NodeTaskRecord, Store, Tasks, UnheardKind

# The nodes that are known, each with the status that was told last, and when; None: not by this hub.
Standing = Callable[[], Iterable[tuple[NodeRecord, str, int | None]]]


class Truth(Struct, frozen=True):
    """How something is, told as the event that would tell it.

    Attributes:
        since_ms: Since when; None: not longer than the hub.
    """

    kind: Kind
    owner: Principal
    data: dict[str, Any]
    since_ms: int | None


class Truths:
    """What the hub knows.

    Args:
        read: The loop's connection.
        nodes: The nodes; what they have done a moment ago may not be on disk.
    """

    def __init__(self, read: Store, nodes: Standing) -> None:
        self._standing = nodes
        self._nodes = NodeRows(read)
        self._notices = Tasks(read)

    def all(self) -> Iterator[Truth]:
        """Yield how every node is, and every task that has not ended."""
        for record, status, told_ms in self._standing():
            yield _of_node(record, status, told_ms)
        for task in self._nodes.live_tasks():
            yield _of_task(task)

    def of_task(self, task_id: str) -> Truth | None:
        """Return how a task is, ended or not; None: it is not known any more."""
        record = self._nodes.task(task_id)
        return None if record is None else _of_task(record)

    def unheard(self, kind: UnheardKind, name: str) -> Truth | None:
        """Return what has happened; None: it is of no use any more."""
        if kind == "task":
            return self.of_task(name)
        notice = self._notices.notice(name)
        if notice is None:
            return None
        owner = Principal(notice.principal_id, notice.tenant_id, notice.family_id)
        return Truth(notice.kind, owner, told(notice), notice.created_ms)  # type: ignore[arg-type]  # as written


def unheard_of(kind: str, data: Any) -> tuple[UnheardKind, str] | None:
    """Return what an event is on disk, if it is a notice or the end of a task; None: it is neither."""
    if not isinstance(data, dict):
        return None
    if kind == "task.status":
        field, ends = ENDS[kind]
        return ("task", str(data.get("taskId"))) if data.get(field) in ends else None
    return ("notice", str(data["id"])) if kind in NOTICES and "id" in data else None


NOTICES = frozenset({"notification", "alert", "reminder"})


def _of_node(record: NodeRecord, status: str, told_ms: int | None) -> Truth:
    owner = Principal(record.principal_id, record.tenant_id, record.family_id)
    data = {"nodeId": record.id, "from": "offline", "to": status, "reason": "it is so"}
    if status != "offline":
        return Truth("node.status", owner, data, told_ms)
    is_known = is_away(record) and record.left_reason != HUB_ENDED
    reason = record.left_reason if is_known else "the hub was started anew"
    data |= {"from": "online", "reason": reason}
    return Truth("node.status", owner, data, record.left_ms if is_known else None)


def _of_task(record: NodeTaskRecord) -> Truth:
    owner = Principal(record.principal_id, record.tenant_id, record.family_id)
    history: list[dict[str, Any]] = msgspec.json.decode(record.history)
    since_ms = record.ended_ms if record.state in FINAL else None
    since_ms = since_ms or (history[-1].get("at") if history else None) or record.created_ms
    return Truth("task.status", owner, task_entry(record), since_ms)
