"""What happens in one room, told in another: events, notices, and the ends that people are owed.

Rooms know nothing of each other; each has a callable to be set, and here they are set.
"""

from contextlib import suppress
from typing import Any, Final

from apexbridge_trio.errors import TooMany
from apexbridge_trio.events import Events
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.nodes import Node, Nodes, NodeTask, task_entry
from apexbridge_trio.notices import Notices
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.redaction import redact
from apexbridge_trio.reminders import Reminders
from apexbridge_trio.store import NodeTaskRecord
from apexbridge_trio.web.guards import LOCAL

# Whose those events are that nobody has asked for.
HUB: Final = Principal("hub")


def tell(events: Events, notices: Notices, pendings: Pendings, nodes: Nodes, reminders: Reminders) -> None:
    """Have what happens in the rooms told to whom it concerns."""
    pendings.owed = nodes.book.owed = reminders.owed = notices.owed
    pendings.progressed = notices.heard_progress

    def progressed(task: NodeTask, progress: float | None, message: str) -> None:
        notices.progress(task.owner, task.id, progress, message)

    def node_changed(node: Node, was: str, status: str, reason: str) -> None:
        said = {"nodeId": node.id, "from": was, "to": status, "reason": reason}
        events.publish("node.status", node.owner, said)

    def task_changed(record: NodeTaskRecord) -> None:
        events.publish("task.status", owner_of(record), task_entry(record))

    def reminded(owner: Principal, said: dict[str, Any]) -> None:
        if said["action"] != "notify":  # one that only tells is told as the notice that it owes
            events.publish("reminder", owner, said)

    reminders.fired = reminded
    nodes.reports.progressed = progressed
    nodes.changed = node_changed
    nodes.book.changed = task_changed


def tell_faults(events: Events, notices: Notices, pendings: Pendings, plugins: Plugins) -> None:
    """Have the faults of plugins told that no chat hears of."""

    def owed(call_id: str) -> None:
        notices.owed(call_id)
        record = pendings.of_call(call_id)
        if record is not None and record.state in {"failed", "timed_out"}:
            said = {"plugin": record.plugin, "tool": record.tool, "what": "task", "code": record.state}
            said |= {"message": f"{record.tool}: {record.state}", "taskId": record.task_id or call_id}
            events.publish("plugin.failed", owner_of(record), said)

    def down(name: str, reason: str) -> None:
        # Nobody has asked for it: it is the household's that the hub belongs to.
        said = {"plugin": name, "what": "down", "code": "plugin_down", "message": redact(reason)}
        events.publish("plugin.failed", HUB, said)

    pendings.owed = owed
    plugins.on_failed(down)


def tell_clock(notices: Notices, words: str) -> None:
    """Tell the people of the hub's own tenant what its clock does."""
    with suppress(TooMany):  # they have a thousand to read; the log has it
        notices.owe("notification", LOCAL, words, level="warning", title="Clock")
