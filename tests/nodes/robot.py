"""A node that does its work by itself: what it is given it runs once, and what it is told to stop it stops."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import trio
from wsproto.utilities import LocalProtocolError

from apexbridge_trio.protocol.frames import Heartbeat, TaskAccepted, TaskAssign, TaskCancel, TaskResultAck
from tests.harness.node import FakeNode


@dataclass
class Robot:
    """What runs at a machine, over all its connections.

    Attributes:
        runs: How often each task was begun.
        kept: Results that were not acknowledged, by task.
        acks: What was said of each result.
    """

    runs: dict[str, int] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    acks: list[TaskResultAck] = field(default_factory=list)
    work_s: float = 0.0

    async def serve(self, node: FakeNode) -> None:
        """Take part in one connection until it ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat, node)
            while (said := await node.hear()) is not None:
                match said:
                    case TaskAssign():
                        nursery.start_soon(self._run, node, said.task_id)
                    case TaskCancel():
                        self.running.discard(said.task_id)
                        self.kept.pop(said.task_id, None)
                        await _send(node.confirm, said.task_id)
                    case TaskResultAck(success=True):
                        self.acks.append(said)
                        self.kept.pop(said.task_id, None)
            nursery.cancel_scope.cancel()

    async def _beat(self, node: FakeNode) -> None:
        while True:
            await trio.sleep(5)
            await _send(node.tell, Heartbeat())

    async def _run(self, node: FakeNode, task_id: str) -> None:
        self.runs[task_id] = self.runs.get(task_id, 0) + 1
        self.running.add(task_id)
        await _send(node.tell, TaskAccepted(task_id))
        await trio.sleep(self.work_s)
        if task_id in self.running:
            self.running.discard(task_id)
            self.kept[task_id] = f"did {task_id}"
            await _send(node.answer, task_id, self.kept[task_id])

    @property
    def active(self) -> list[str]:
        """What a registration says is here."""
        return sorted({*self.running, *self.kept})


async def _send(say: Any, *args: Any) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
        await say(*args)
