"""Nodes: other machines of the house, which join by WebSocket, take tasks and ask for model answers.

::

    registry ─ who is known, and how they stand    link ─ one live connection: reads, hands on, posts
    admission ─ who is let in, and who goes        offers ─ what they offer, and to whom
    queue ─ who runs a task                        tasks ─ drives tasks to their one end
    detached ─ those that stand for themselves     callbacks ─ results that do not come as frames
    tool ─ a node's tool as the hub's own          llm ─ model answers for nodes

What is decided is decided synchronously, in memory; what is told is on disk before.
"""

from apexbridge_trio.nodes.link import HUB_ENDED, NodeLink
from apexbridge_trio.nodes.llm import Said
from apexbridge_trio.nodes.node import Node, described
from apexbridge_trio.nodes.nodes import Nodes
from apexbridge_trio.nodes.record import is_away
from apexbridge_trio.nodes.task import FINAL, NodeTask, task_entry
from apexbridge_trio.nodes.tool import NodeTool, fault_of, result_of
from apexbridge_trio.nodes.wanted import Wanted

__all__ = [
    "FINAL",
    "HUB_ENDED",
    "Node",
    "NodeLink",
    "NodeTask",
    "NodeTool",
    "Nodes",
    "Said",
    "Wanted",
    "described",
    "fault_of",
    "is_away",
    "result_of",
    "task_entry",
]
