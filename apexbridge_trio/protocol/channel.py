"""The node channel, sans IO: what each end may say next, and what the other end said.

Bytes in, values out. `HubEnd` is the hub's end, `NodeEnd` a node's; a frame that is wrong is never an
exception of a caller's: it becomes `Rejected`, with the frame to answer it, and the channel goes on.

==============  =======================================================================
state           the node may send
==============  =======================================================================
connected       ``node_register``
registering     anything: it is held until the hub has decided (results may follow at once)
registered      anything; ``node_register`` again changes what it offers
refused         ``node_register``; it may also be admitted later, unasked
left            nothing
==============  =======================================================================
"""

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, get_args

from msgspec import Struct

from apexbridge_trio.protocol.envelope import FrameInvalid, frame, read_data, read_envelope
from apexbridge_trio.protocol.frames import (
    ChannelError,
    FromHub,
    FromNode,
    Heartbeat,
    HeartbeatAck,
    LlmRequest,
    LlmResponse,
    NodeRegister,
    NodeRegistered,
    NodeUnregistered,
    TaskAssign,
    TaskCancelled,
    TaskFault,
    TaskResult,
    TaskResultAck,
)

State = Literal["connected", "registering", "registered", "refused", "left"]

# Frames that come behind a registration, until it is decided; more is a flood.
MOST_HELD: Final = 1000
MOST_HELD_BYTES: Final = 32 * 1024 * 1024

_FROM_NODE: Final[dict[str, type[Any]]] = {kind.frame: kind for kind in get_args(FromNode)}
_FROM_HUB: Final[dict[str, type[Any]]] = {kind.frame: kind for kind in get_args(FromHub)}


class Rejected(Struct, frozen=True):
    """A frame that was not taken.

    Args:
        reply: What to answer; empty if nothing.
        message: Why.
    """

    reply: bytes
    message: str


class Ignored(Struct, frozen=True):
    """A frame of a kind that is not known here; newer peers may send some."""

    type: str


class Placeholders(Struct, frozen=True):
    """Texts of a node for prompts, by name."""

    texts: dict[str, str]


class ForwardedCallback(Struct, frozen=True):
    """A plugin's callback that came to a node, which passes it on; `body` is JSON as it came."""

    plugin: str
    task_id: str
    body: bytes


Event = FromNode | Placeholders | ForwardedCallback | Rejected | Ignored


class Dialect(Protocol):
    """The hub's end, whatever the node speaks; what a dialect can not say is empty."""

    state: State
    node_id: str

    def receive(self, text: str | bytes) -> Event | None:
        """Take one frame; None: it is held until the registration is decided."""
        ...

    def admit(self, node_id: str, welcome: NodeRegistered) -> tuple[bytes, list[Event]]:
        """Take the node in; returns the frame that says so, and what was held."""
        ...

    def refuse(self, refusal: NodeRegistered) -> list[bytes]:
        """Do not take it in; returns what is said of that and of what was held."""
        ...

    def say(self, value: Any) -> bytes:
        """Write a frame of the hub's."""
        ...


class HubEnd:
    """The hub's end, Apex dialect.

    Attributes:
        node_id: Who is registered here; empty before that.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.state: State = "connected"
        self.node_id = ""
        self._now_ms = now_ms
        self._held: list[Event] = []
        self._held_bytes = 0

    def receive(self, text: str | bytes) -> Event | None:
        """Take one frame; None: it is held until the registration is decided."""
        kind = ""
        try:
            envelope = read_envelope(text)
            kind = envelope.type
            struct = _FROM_NODE.get(kind)
            if struct is None:
                return Ignored(kind[:64])
            value: Event = read_data(struct, envelope.data)
        except FrameInvalid as fault:
            return self._invalid(kind, fault.message)
        return self._take(value, len(text))

    def _take(self, value: Event, size: int) -> Event | None:
        if isinstance(value, NodeRegister):
            return self._register(value)
        if self.state == "registering":
            return self._hold(value, size)
        return self._checked(value)

    def _register(self, value: NodeRegister) -> Event:
        if self.state == "registering":
            return self._wrong("A registration is being decided already.")
        if self.state == "registered" and value.node_id not in {None, self.node_id}:
            return self._wrong(f"This connection is registered as {self.node_id}.")
        if self.state != "registered":
            self.state = "registering"
        return value

    def _hold(self, value: Event, size: int) -> Event | None:
        self._held_bytes += size
        if len(self._held) >= MOST_HELD or self._held_bytes > MOST_HELD_BYTES:
            return self._wrong("Too much came before the registration was answered.")
        self._held.append(value)
        return None

    def _checked(self, value: Event) -> Event:
        if self.state != "registered":
            return self._not_taken(value, "This connection has no registered node.", "not_registered")
        named = getattr(value, "node_id", None)
        if named not in {None, self.node_id}:
            return self._not_taken(value, f"This connection is registered as {self.node_id}.", "wrong_node")
        return value

    def admit(self, node_id: str, welcome: NodeRegistered) -> tuple[bytes, list[Event]]:
        """Take the node in; returns the frame that says so, and what was held."""
        self.state, self.node_id = "registered", node_id
        held, self._held, self._held_bytes = self._held, [], 0
        return frame(welcome), [self._checked(value) for value in held]

    def refuse(self, refusal: NodeRegistered) -> list[bytes]:
        """Do not take it in; returns what is said of that and of what was held."""
        if self.state != "registered":
            self.state = "refused"
        held, self._held, self._held_bytes = self._held, [], 0
        told = [self._checked(value) for value in held]
        return [frame(refusal), *(one.reply for one in told if isinstance(one, Rejected))]

    def say(self, value: Any) -> bytes:
        """Write a frame of the hub's."""
        return frame(value)

    def _invalid(self, kind: str, message: str) -> Rejected:
        if kind == NodeRegister.frame and self.state != "registering":
            return Rejected(
                frame(NodeRegistered(None, success=False, message=message, code="invalid_payload")), message
            )
        return self._wrong(message, "invalid_payload")

    def _wrong(self, message: str, code: str = "unexpected_frame") -> Rejected:
        return Rejected(frame(ChannelError(code, message)), message)

    def _not_taken(self, value: Event, message: str, code: str) -> Rejected:
        match value:
            case Heartbeat():
                reply = frame(
                    HeartbeatAck(
                        value.node_id,
                        success=False,
                        status="unknown",
                        timestamp=self._now_ms(),
                        message=message,
                    )
                )
            case TaskResult():
                reply = frame(
                    TaskResultAck(
                        value.task_id,
                        value.node_id or "",
                        success=False,
                        timestamp=self._now_ms(),
                        message=message,
                    )
                )
            case LlmRequest():
                reply = frame(
                    LlmResponse(
                        request_id=value.request_id,
                        node_id=value.node_id or "",
                        success=False,
                        stream=value.is_stream,
                        timestamp=self._now_ms(),
                        error=TaskFault(message, "node_not_found"),
                    )
                )
            case _:
                return self._wrong(message, code)
        return Rejected(reply, message)


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
            struct = _FROM_HUB.get(envelope.type)
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
