"""One live connection of a node: what comes is read, understood and handed on at once; nothing waits here.

The reader is one task with a moving deadline: first that of the registration, then that of the node's
silence, which each piece of a message breaks: a large one on a slow line lets no heartbeat through. What
goes out is posted without waiting (`Socket.post`); a node that does not read is cut. The model's answers
it asks for that serve no task run in the link's nursery, and end with it.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from apexbridge_trio.audit import Actor
from apexbridge_trio.clock import now_ms
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.links import DID_NOT_READ, POLICY, SLOW_READER, Receive, Socket, hear
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.protocol.channel import (
    Dialect,
    ForwardedCallback,
    HubEnd,
    Ignored,
    Placeholders,
    Rejected,
)
from apexbridge_trio.protocol.envelope import FrameInvalid, read_envelope
from apexbridge_trio.protocol.frames import (
    ConnectionAck,
    Heartbeat,
    HeartbeatAck,
    LlmCancel,
    LlmRequest,
    NodeLog,
    NodeRegister,
    NodeRegistered,
    NodeUnregister,
    NodeUnregistered,
    TaskAccepted,
    TaskCancelled,
    TaskProgress,
    TaskResult,
)
from apexbridge_trio.protocol.vcp import FIRST_FRAMES, VcpEnd

if TYPE_CHECKING:
    from apexbridge_trio.nodes.nodes import Nodes

# Why a node has left that did not leave.
HUB_ENDED: Final = "the hub is about to end"

# Contract §2: what a connection may send at a time before it has registered.
MAX_FIRST_BYTES: Final = 64 * 1024
# A VCP node's first frame holds the whole manifests of all its plugins.
MAX_FIRST_VCP_BYTES: Final = 4 * 1024 * 1024
# What a message that nobody wants weighs, in messages: some fifty a second are taken of a flood.
UNWANTED_WEIGHT: Final = 20
# Heartbeats that follow each other faster are no signs of life, but a flood.
SOON_S: Final = 0.1

log = get_logger("nodes")


class NodeLink:
    """One connection; `run` is its whole life.

    Attributes:
        by: Who it is for the audit.
        node: Who is registered here, once it is let in.
        instance_id: Of the agent's run.
        code: What the connection is closed with.
    """

    def __init__(
        self, nodes: "Nodes", socket: Socket, principal: Principal, by: Actor, *, is_vcp_path: bool
    ) -> None:
        self._nodes = nodes
        self.socket = socket
        self.principal = principal
        self.by = by
        self.connection_id = new_id("conn")
        self.node: Node | None = None
        self.instance_id: str | None = None
        self.code = 1000
        self.reason = "the node has gone"
        self.answers: dict[str, trio.CancelScope] = {}
        self._max_first_bytes = MAX_FIRST_VCP_BYTES if is_vcp_path else MAX_FIRST_BYTES
        self._dialect: Dialect = HubEnd(now_ms)
        self._is_first = True
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._silence_s = inf
        self._beat_at = -inf
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            NodeRegister: self._on_register,
            Heartbeat: self._on_heartbeat,
            TaskResult: lambda event: nodes.reports.result(self, event),
            TaskAccepted: lambda event: nodes.reports.accepted(self, event),
            TaskProgress: lambda event: nodes.reports.progress(self, event),
            TaskCancelled: lambda event: nodes.reports.cancelled(self, event),
            LlmRequest: lambda event: nodes.llm.ask(self, event),
            LlmCancel: self._on_llm_cancel,
            NodeLog: lambda event: nodes.lines.take(self, event),
            NodeUnregister: self._on_unregister,
            Placeholders: self._on_placeholders,
            ForwardedCallback: lambda event: nodes.callbacks.pass_on(self, event),
            Rejected: self._on_rejected,
            Ignored: lambda _event: self.unwanted(),
        }

    @property
    def is_vcp(self) -> bool:
        """Whether the node speaks the VCP dialect."""
        return isinstance(self._dialect, VcpEnd)

    async def run(self, receive: Receive) -> None:
        """Serve the connection until it ends, from either side.

        Cancellation: as any other end; the node is offline when this returns.
        """
        self.socket.limit(self._max_first_bytes)
        self._scope.deadline = trio.current_time() + self._nodes.config.register_timeout_s
        self.code, self.reason = POLICY, "it did not register in time"
        self.say(ConnectionAck(self.connection_id, self._nodes.server_id, "Connected.", now_ms()))
        is_ours = True
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    cut = await hear(receive, self._take, self._scope)
                    self.code, self.reason = 1000, cut or "the node has gone"
                    self._nursery.cancel_scope.cancel(reason=self.reason)
            is_ours = False
        finally:
            self._nursery = None
            for scope in self.answers.values():  # those of tasks run in the tasks' nurseries
                scope.cancel(reason="the node has gone")
            # In a drain it is the hub that hangs up, whoever is heard of first.
            is_ours = is_ours or self._nodes.is_draining
            self._nodes.admission.leave(self, HUB_ENDED if is_ours else self.reason)

    def _take(self, text: str | bytes) -> None:
        if self._is_first:
            self._choose_dialect(text)
        event = self._dialect.receive(text)
        if event is not None:
            self._handlers[type(event)](event)

    def _choose_dialect(self, text: str | bytes) -> None:
        self._is_first = False
        try:
            kind = read_envelope(text).type
        except FrameInvalid:
            return
        if kind in FIRST_FRAMES:
            self._dialect = VcpEnd(self.connection_id)

    def unwanted(self) -> None:
        """Note that the node said what is of no use: it is read more slowly, and others do not notice."""
        self.socket.slow(UNWANTED_WEIGHT)

    def say(self, value: Any) -> None:
        """Post a frame, as far as the node's dialect has one for it."""
        self.post(self._dialect.say(value))

    def post(self, text: bytes) -> None:
        """Send a frame without waiting; a node that does not read is cut, and may come back."""
        if text and not self.socket.post(text):
            self.end(SLOW_READER, DID_NOT_READ)

    def end(self, code: int, reason: str) -> None:
        """End the connection; its node is offline at once."""
        self._nodes.admission.leave(self, reason)
        self.code, self.reason = code, reason
        self._scope.cancel(reason=reason)

    def start(self, work: Callable[..., Awaitable[None]], *args: Any, name: str) -> None:
        """Run something for this connection; it is cancelled with it."""
        if self._nursery is not None:
            self._nursery.start_soon(work, *args, name=name)

    @property
    def nursery(self) -> trio.Nursery | None:
        """Where what belongs to this connection alone runs, while it lives."""
        return self._nursery

    def admit(self, welcome: NodeRegistered, *, silence_s: float) -> None:
        """Tell the node that it is in, and take what it sent meanwhile."""
        assert welcome.node_id is not None
        if not self.is_vcp:  # which sends no heartbeats: the server's pings tell
            self._silence_s = silence_s
        self._listen_on()
        self.code, self.reason = POLICY, "it was silent for too long"
        self.socket.attend(self._listen_on)
        text, held = self._dialect.admit(welcome.node_id, welcome)
        self.post(text)
        for event in held:
            self._handlers[type(event)](event)

    def refuse(self, refusal: NodeRegistered) -> None:
        """Tell the node that it is not let in; it may stay, and may be let in later."""
        self._scope.deadline = inf  # the server's pings tell whether it lives
        for text in self._dialect.refuse(refusal):
            self.post(text)

    def _listen_on(self) -> None:
        self._scope.deadline = trio.current_time() + self._silence_s

    def _on_register(self, event: NodeRegister) -> None:
        self.instance_id = event.instance_id
        self.socket.limit(self._nodes.config.max_frame_bytes)
        if isinstance(self._dialect, VcpEnd) and self._dialect.left_out:
            log.warning("tools are left out", node=event.node_id, tools=self._dialect.left_out[:20])
        self._nodes.admission.register(self, event)

    def _on_heartbeat(self, event: Heartbeat) -> None:
        if trio.current_time() < self._beat_at + SOON_S:
            self.unwanted()
        self._beat_at = trio.current_time()
        assert self.node is not None
        self._nodes.on_heartbeat(self.node, event)
        self.say(HeartbeatAck(self.node.id, success=True, status=self.node.status, timestamp=now_ms()))

    def _on_llm_cancel(self, event: LlmCancel) -> None:
        if scope := self.answers.get(event.request_id):
            scope.cancel(reason="the node wants it no more")

    def _on_placeholders(self, event: Placeholders) -> None:
        assert self.node is not None
        self.node.texts = event.texts

    def _on_unregister(self, event: NodeUnregister) -> None:
        assert self.node is not None
        self.say(NodeUnregistered(self.node.id))
        self.end(1000, f"it has left: {event.reason}" if event.reason else "it has left")

    def _on_rejected(self, event: Rejected) -> None:
        self.unwanted()
        log.debug("a frame was not taken", connection=self.connection_id, reason=event.message)
        self.post(event.reply)
