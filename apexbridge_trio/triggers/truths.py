"""What is so when a hub starts, as far as the store knows; and what has happened that nobody has heard.

No node is here then. Since when one is away is known if it left while a hub was there; a node that was here
when the hub ended has left because of that, so for it only the start counts.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from apexbridge_trio.events import Kind
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes import FINAL, HUB_ENDED, is_away, task_entry
from apexbridge_trio.notices import told
from apexbridge_trio.protocol.happened import ENDS
from apexbridge_trio.store import NodeRecord, NodeRows, NodeTaskRecord, Store, Tasks, UnheardKind


class Truth(Struct, frozen=True):
    """How something is, told as the event that would tell it.

    Attributes:
        since_ms: Since when; None: not longer than the hub that starts.
    """

    kind: Kind
    owner: Principal
    data: dict[str, Any]
    since_ms: int | None


class Truths:
    """What the store knows, through the loop's connection."""

    def __init__(self, read: Store) -> None:
        self._nodes = NodeRows(read)
        self._notices = Tasks(read)

    def all(self) -> Iterator[Truth]:
        """Yield how every node is, and every task that has not ended."""
        for node in self._nodes.nodes():
            yield _of_node(node)
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


def _of_node(record: NodeRecord) -> Truth:
    owner = Principal(record.principal_id, record.tenant_id, record.family_id)
    is_known = is_away(record) and record.left_reason != HUB_ENDED
    reason = record.left_reason if is_known else "the hub was started anew"
    data = {"nodeId": record.id, "from": "online", "to": "offline", "reason": reason}
    return Truth("node.status", owner, data, record.left_ms if is_known else None)


def _of_task(record: NodeTaskRecord) -> Truth:
    owner = Principal(record.principal_id, record.tenant_id, record.family_id)
    history: list[dict[str, Any]] = msgspec.json.decode(record.history)
    since_ms = record.ended_ms if record.state in FINAL else None
    since_ms = since_ms or (history[-1].get("at") if history else None) or record.created_ms
    return Truth("task.status", owner, task_entry(record), since_ms)
