"""A node's end of the channel, Apex dialect."""

from typing import Any, Final, get_args

from apexbridge_trio.protocol.channel.events import Ignored, Rejected, State
from apexbridge_trio.protocol.envelope import FrameInvalid, frame, read_data, read_envelope
from apexbridge_trio.protocol.frames import (
    FromHub,
    NodeRegister,
    NodeRegistered,
    NodeUnregistered,
    TaskAssign,
    TaskCancelled,
    TaskResult,
)

_KINDS: Final[dict[str, type[Any]]] = {kind.frame: kind for kind in get_args(FromHub)}

HubSaid = FromHub | Ignored | Rejected


class NodeEnd:
    """A node's end, Apex dialect.

    Attributes:
        node_id: What the hub calls this node; empty until it has said so.
        open_tasks: Assigned here, and neither answered nor cancelled.
    """

    def __init__(self) -> None:
        self.state: State = "connected"
        self.node_id = ""
        self.open_tasks: set[str] = set()

    def receive(self, text: str | bytes) -> HubSaid:
        """Take one frame of the hub's; `Rejected` has no reply: a node does not argue."""
        try:
            envelope = read_envelope(text)
            struct = _KINDS.get(envelope.type)
            if struct is None:
                return Ignored(envelope.type[:64])
            value: HubSaid = read_data(struct, envelope.data)
        except FrameInvalid as fault:
            return Rejected(b"", fault.message)
        return self._taken(value)

    def _taken(self, value: HubSaid) -> HubSaid:
        match value:
            case NodeRegistered(success=True) if value.node_id:
                self.state, self.node_id = "registered", value.node_id
            case NodeRegistered():
                self.state = "refused"
            case NodeUnregistered():
                self.state = "left"
            case TaskAssign() if self.state != "registered":
                return Rejected(b"", "A task came before the registration was answered.")
            case TaskAssign() if value.task_id in self.open_tasks:
                return Rejected(b"", f"The task {value.task_id} is here already.")
            case TaskAssign():
                self.open_tasks.add(value.task_id)
        return value

    def register(self, value: NodeRegister) -> bytes:
        """Ask to be taken in."""
        self.state = "registering"
        self.open_tasks = set(value.active_tasks or ())
        return frame(value)

    def end_task(self, value: TaskResult | TaskCancelled) -> bytes:
        """Say that a task has ended here; once for each."""
        self.open_tasks.discard(value.task_id)
        return frame(value)

    def say(self, value: Any) -> bytes:
        """Write any other frame of a node's."""
        return frame(value)
