"""A node's tool as any other tool of the hub."""

from typing import TYPE_CHECKING, Any

import msgspec
import trio
from msgspec import Struct

from apexbridge_trio.errors import NodeLost, Overloaded, ToolFailed, ToolTimeout
from apexbridge_trio.flights import Flight
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.nodes.wanted import Wanted
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tool import CallContext, Kind, Later, Pending
from apexbridge_trio.protocol.frames import TaskCancel, ToolSpec
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import NodeTaskRecord

if TYPE_CHECKING:
    from apexbridge_trio.nodes.nodes import Nodes

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


class NodeTool(Struct, frozen=True):
    """A tool that nodes offer.

    Args:
        spec: As the first of them has worded it.
        node_id: The only one that is asked, if the request has chosen one.
    """

    nodes: "Nodes"
    spec: ToolSpec
    node_id: str | None = None

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.spec.name

    @property
    def description(self) -> str:
        """What the model reads."""
        return self.spec.description

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments; the node checks them."""
        return self.spec.parameters or _ANY_OBJECT

    @property
    def plugin(self) -> str:
        """Who a callback names; without a word of the node's, the tool itself."""
        return self.spec.plugin or self.spec.name

    @property
    def kind(self) -> Kind:
        """What a call of it is, in the live tree."""
        return "node"

    @property
    def max_execution_s(self) -> float:
        """Seconds after which a call is cancelled."""
        return self.nodes.config.task_timeout_s

    @property
    def idempotent(self) -> bool:
        """Whether a second run does no harm."""
        return self.spec.idempotent

    @property
    def later(self) -> Later | None:
        """How a result that comes by callback is waited for."""
        return Later() if self.spec.later else None

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any | Pending:
        """Have a node run it, and return what it has said.

        Cancellation: the node is told to stop; after an interrupt, this waits for its word.

        Raises:
            ToolFailed: No node could run it, or the one that did has failed.
            NodeLost: Its node has gone, and it may have run.
            ToolTimeout: Its time was over first.
        """
        wanted = Wanted(
            tool=self.name,
            args=encode(arguments),
            request_id=context.flight.path.partition("/")[0],
            node_id=self.node_id,
        )
        task = self.nodes.make(wanted, context.flight.owner, deadline=context.flight.deadline)
        task.is_called = True
        if context.callback is not None:
            url = f"{context.callback.base_url}/{self.plugin}/{task.id}"
            task.callback = {"mode": "http", "url": url}
        try:
            self.nodes.tasks.enter(task)
            await self.nodes.tasks.run(task, context.flight)
        except Overloaded as fault:
            raise ToolFailed(fault.message, code=fault.code) from None
        value = result_of(task.record, self.nodes.config.max_output_bytes)
        match value:
            case {"status": "pending", "taskId": str(named)} if self.later and context.callback:
                node = self.nodes.registry.get(task.record.node_id or "")
                return Pending(named, Remote(task, node, context.flight, self.nodes.config.cancel_wait_s))
        return value


class Remote(trio.abc.AsyncResource):
    """What goes on at a node after a pending answer."""

    def __init__(self, task: NodeTask, node: Node | None, flight: Flight, wait_s: float) -> None:
        self._task = task
        self._node = node
        self._flight = flight
        self._wait_s = wait_s

    async def aclose(self) -> None:
        """Have the node end it, and wait for its word, not longer than an interrupt does."""
        node, task = self._node, self._task
        if node is None or node.link is None:
            self._miss()  # it may go on there; nobody can ask
            return
        task.confirmed = trio.Event()
        node.ongoing[task.id] = task.confirmed
        node.link.say(TaskCancel(task.id, "its result is not waited for any more"))
        # Shielded: whoever closes says next that it is gone; bounded.
        with trio.move_on_after(self._wait_s, shield=True):
            await task.confirmed.wait()
        node.ongoing.pop(task.id, None)
        if not task.confirmed.is_set():
            self._miss()

    def _miss(self) -> None:
        self._flight.is_unconfirmed = True
        if self._node is not None:
            self._node.miss(self._task)


def result_of(record: NodeTaskRecord, most_bytes: int) -> Any:
    """Return the value of a task that has succeeded, cut to a size.

    Raises:
        ToolFailed: It has not; why. Or its value is JSON that nothing here can hold, such as 1e999.
    """
    if record.state != "succeeded":
        raise fault_of(record)
    output = record.output or b"null"
    try:
        return Output(output, len(output)).within(most_bytes)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise ToolFailed(f"The node's result can not be read: {fault}", code="invalid_result") from None


def fault_of(record: NodeTaskRecord) -> ToolFailed:
    """Return why a task has not succeeded."""
    said: dict[str, Any] = msgspec.json.decode(record.error or '{"code": "tool_failed", "message": ""}')
    message, code = said["message"], said["code"]
    match record.state:
        case "timed_out":
            return ToolTimeout(message)
        case "lost":
            return NodeLost(message)
    return ToolFailed(message, code=code)
