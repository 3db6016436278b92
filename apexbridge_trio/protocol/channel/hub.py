"""The hub's end of the channel, Apex dialect."""

from collections.abc import Callable
from typing import Any, Final, get_args

from apexbridge_trio.protocol.channel.events import Event, Ignored, Rejected, State
from apexbridge_trio.protocol.channel.held import Held
from apexbridge_trio.protocol.channel.refusal import INVALID, bare, refusal_of
from apexbridge_trio.protocol.envelope import Envelope, FrameInvalid, frame, read_data, read_envelope
from apexbridge_trio.protocol.frames import (
    ChannelError,
    FromNode,
    LlmRequest,
    NodeRegister,
    NodeRegistered,
    TaskResult,
)

# What is no result, no question to a model and no registration has no reason to be larger. To decode what
# nobody needs holds up everybody: a heartbeat of 6 MB of empty lists took a second, and 150 MB.
MOST_SAID_BYTES: Final = 128 * 1024
_LARGE: Final = frozenset({TaskResult, LlmRequest, NodeRegister})
_KINDS: Final[dict[str, type[Any]]] = {kind.frame: kind for kind in get_args(FromNode)}


class HubEnd:
    """The hub's end, Apex dialect.

    Attributes:
        node_id: Who is registered here; empty before that.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.state: State = "connected"
        self.node_id = ""
        self._now_ms = now_ms
        self._held = Held()

    def receive(self, text: str | bytes) -> Event | None:
        """Take one frame; None: it is held until the registration is decided."""
        try:
            envelope = read_envelope(text)
        except FrameInvalid as fault:
            return self._wrong(fault.message, INVALID)
        struct = _KINDS.get(envelope.type)
        if struct is None:
            return Ignored(envelope.type[:64])
        if len(envelope.data) > MOST_SAID_BYTES and struct not in _LARGE:
            return self._invalid(envelope, f"A {envelope.type} has at most {MOST_SAID_BYTES} bytes.")
        try:
            value: Event = read_data(struct, envelope.data)
        except FrameInvalid as fault:
            return self._invalid(envelope, fault.message)
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
        if self._held.hold(value, size):
            return None
        return self._wrong("Too much came before the registration was answered.")

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
        return frame(welcome), [self._checked(value) for value in self._held.take()]

    def refuse(self, refusal: NodeRegistered) -> list[bytes]:
        """Do not take it in; returns what is said of that and of what was held."""
        if self.state != "registered":
            self.state = "refused"
        told = [self._checked(value) for value in self._held.take()]
        return [frame(refusal), *(one.reply for one in told if isinstance(one, Rejected))]

    def say(self, value: Any) -> bytes:
        """Write a frame of the hub's."""
        return frame(value)

    def _invalid(self, envelope: Envelope, message: str) -> Rejected:
        if envelope.type == NodeRegister.frame and self.state != "registering":
            return Rejected(
                frame(NodeRegistered(None, success=False, message=message, code=INVALID)), message
            )
        return self._not_taken(bare(envelope.type, envelope.data), message, INVALID)

    def _wrong(self, message: str, code: str = "unexpected_frame") -> Rejected:
        return Rejected(frame(ChannelError(code, message)), message)

    def _not_taken(self, value: Event | None, message: str, code: str) -> Rejected:
        said = refusal_of(value, message, code, self._now_ms())
        return self._wrong(message, code) if said is None else Rejected(frame(said), message)
