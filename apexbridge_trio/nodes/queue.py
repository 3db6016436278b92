"""Who runs a task: the least loaded node that can, or, while all are full, the first that has room again.

Choosing and taking the slot are one synchronous step, so no slot is given twice. The queue is bounded:
who comes when it is full is told to come again, and nobody else is hurt.
"""

from bisect import insort
from collections.abc import Iterable
from itertools import count

from apexbridge_trio.errors import NoNode, Overloaded
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.task import NodeTask

# Who is told that all is full comes again after so many seconds.
RETRY_AFTER_S = 2.0


def can_run(node: Node, task: NodeTask) -> bool:
    """Tell whether a node may run a task, now or once it has room."""
    wanted = task.record
    if wanted.wanted_node not in {None, node.id} or node.id in task.excluded or not node.serves(task.owner):
        return False
    if wanted.capability is not None and wanted.capability not in node.capabilities:
        return False
    if wanted.tool in node.tools or wanted.tool in node.capabilities:
        return True
    # A node that names no tools is asked for what it was chosen for by other means.
    return not node.tools and (wanted.capability or wanted.wanted_node) is not None


def choose(nodes: Iterable[Node], task: NodeTask) -> Node | None:
    """Return the least loaded node that can run a task now; of equals the first by id."""
    able = (node for node in nodes if node.takes_tasks and node.has_room and can_run(node, task))
    return min(able, key=_burden, default=None)


def _burden(node: Node) -> tuple[bool, float, float, str]:
    taken = len(node.tasks) / node.limits.max_concurrent
    return node.heard.status == "busy", taken, node.heard.load or 0.0, node.id


class TaskQueue:
    """The tasks that wait for a slot: higher priority first, then who came first.

    Args:
        nodes: All nodes; looked at anew for each task.
        most: How many may wait.
    """

    def __init__(self, nodes: Iterable[Node], most: int) -> None:
        self._nodes = nodes
        self.most = most
        self._number = count()
        self._waiting: list[tuple[int, int, NodeTask]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, task: NodeTask) -> None:
        """Give a task a slot, or a place in the queue; `task.granted` is set with the slot.

        Raises:
            NoNode: No node that is here, or was a moment ago, can run it.
            Overloaded: They are all full, and so is the queue.
        """
        if (node := choose(self._nodes, task)) is not None:
            grant(node, task)
            return
        if not self._has_hope(task):
            raise no_node(task)
        if len(self._waiting) >= self.most:
            raise Overloaded("All nodes are busy, and many tasks wait already.", retry_after_s=RETRY_AFTER_S)
        insort(self._waiting, (-task.record.priority, next(self._number), task))

    def give_up(self) -> None:
        """Let those go that wait for nodes of which none may come back; they are granted nothing."""
        for entry in self._waiting.copy():
            if not self._has_hope(entry[2]):
                self._waiting.remove(entry)
                entry[2].granted.set()

    def _has_hope(self, task: NodeTask) -> bool:
        return any(_may_come(node) and can_run(node, task) for node in self._nodes)

    def discard(self, task: NodeTask) -> None:
        """Take a task out, if it waits."""
        self._waiting = [entry for entry in self._waiting if entry[2] is not task]

    def release(self, task: NodeTask) -> None:
        """Give a task's slot back: nothing of it runs on its node, as far as is known."""
        task.confirmed.set()
        if task.flight is not None:
            task.flight.confirm()
        node, task.node = task.node, None
        if node is not None and node.tasks.pop(task.id, None) is not None:
            self.offer(node)

    def offer(self, node: Node) -> None:
        """Give what waits the room that a node has."""
        while node.takes_tasks and node.has_room:
            entry = next((entry for entry in self._waiting if can_run(node, entry[2])), None)
            if entry is None:
                return
            self._waiting.remove(entry)
            grant(node, entry[2])


def _may_come(node: Node) -> bool:
    return node.takes_tasks or node.away_since is not None or (node.link is not None and not node.is_ready)


def no_node(task: NodeTask) -> NoNode:
    """Return why a task can not be run."""
    return NoNode(f"No node that is online can run {task.record.tool}.", retry_after_s=RETRY_AFTER_S)


def grant(node: Node, task: NodeTask) -> None:
    """Give a task one of a node's slots."""
    task.node = node
    node.tasks[task.id] = task
    task.granted.set()
