"""One connection to the hub, from the first packet to its end.

Four tasks: the reader (receives, dispatches, waits for nothing else), the writer (takes from the
outbox), the beat (posts signs of life, ahead of all else) and the library's own reader. Around them is
one scope whose deadline every byte of the hub moves: a hub that is silent for too long is gone, whatever
TCP says.

A link owns no work. What it hears goes to the tasks of the node, and when it ends they go on.

===========  ==========================================================================
state        the link
===========  ==========================================================================
registering  has said who it is
refused      is alive, and waits: the hub admits it unasked when the other one is gone
registered   takes tasks, delivers results, is heard of
===========  ==========================================================================
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import trio
import trio_websocket

from apexbridge_trio.agent.address import HubAddress
from apexbridge_trio.agent.delivery import Delivery
from apexbridge_trio.agent.ended import BROKEN, Ended, closed, refused
from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.outbox import KeptResult, Outbox
from apexbridge_trio.agent.pace import Pace
from apexbridge_trio.agent.registration import first_of
from apexbridge_trio.agent.socket import Connect, Ear, Unreachable, connect, refusal_of, upgrade
from apexbridge_trio.config import Secret
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.channel import HubSaid, NodeEnd, Rejected
from apexbridge_trio.protocol.frames import (
    ChannelError,
    Drain,
    Heartbeat,
    NodeRegister,
    NodeRegistered,
    NodeUnregister,
    NodeUnregistered,
    TaskAssign,
    TaskCancel,
    TaskCancelled,
    TaskResult,
    TaskResultAck,
)

# A link that was registered for so long was a good one.
HELD_S: Final = 10.0
# For the hub's word that the node has left, and for the closing handshake.
FAREWELL_S: Final = 2.0

# A hub that has not said in this time whether it takes the node never will.
REGISTER_S: Final = 30.0

DUPLICATE: Final = "duplicate_node"

T = TypeVar("T", bound=Exception)

log = get_logger("agent")


class Work(Protocol):
    """What a link needs of the node's tasks."""

    def assign(self, assign: TaskAssign) -> None:
        """Take a task."""
        ...

    def cancel(self, task_id: str, reason: str = "") -> None:
        """Stop one."""
        ...


class Link:
    """One connection, used once.

    Args:
        address: Of the hub.
        key: Shown to it.
        register: Makes the registration as it would be now.
        beat: Makes a sign of life as it would be now.
        work: Hears of tasks.
        kept: Results to deliver.
        on_state: Called when the state changes.
        dial: Connects; for tests.
    """

    def __init__(
        self,
        address: HubAddress,
        key: Secret,
        *,
        register: Callable[[], NodeRegister],
        beat: Callable[[], Heartbeat],
        work: Work,
        kept: Kept,
        on_state: Callable[[str], None],
        dial: Connect = connect,
    ) -> None:
        self._address = address
        self._key = key
        self._register = register
        self._make_beat = beat
        self._work = work
        self._kept = kept
        self._delivery = Delivery(kept)
        self._on_state = on_state
        self._dial = dial
        self._end = NodeEnd()
        self._outbox = Outbox()
        self._socket: trio_websocket.WebSocketConnection
        self._scope = trio.CancelScope()
        self._ended: Ended | None = None
        self._registered_at: float | None = None
        self._is_partial = False
        self._is_pinging = False
        self._pace = Pace()
        self._answered = trio.Event()
        self._left = trio.Event()
        self._over = trio.Event()

    @property
    def is_registered(self) -> bool:
        """Whether the hub has the node now."""
        return self._end.state == "registered" and self._ended is None

    async def run(self) -> Ended:
        """Connect, register, serve until the connection ends, and say why it did.

        Cancellation: the connection is cut.
        """
        try:
            stream = await self._dial(self._address)
            async with Ear(stream) as ear:
                await self._talk(ear)
        except* trio_websocket.ConnectionRejected as group:
            self._note(refused(refusal_of(_first(group))))
        except* Unreachable as group:
            self._note(Ended(reason=str(_first(group))))
        # The boundary of a connection: whatever the library or the hub makes of it, the node goes on.
        except* Exception as group:
            log.error("the connection fell over", exc_info=group)
            self._note(Ended(reason="a fault of the connection"))
        finally:
            self._over.set()
        assert self._ended is not None
        return self._ended

    def register(self) -> None:
        """Tell the hub what the node is and can now; before it is registered that is told anyway."""
        if self.is_registered:
            self._outbox.post(self._end.say(self._register()))

    def beat(self) -> None:
        """Give a sign of life at once: what it says has changed."""
        self._pace.hurry()

    def tell(self, said: Any) -> None:
        """Send a frame of a task's, if the hub has the node now."""
        if self.is_registered:
            ends = isinstance(said, TaskResult | TaskCancelled)
            self._post(self._end.end_task(said) if ends else self._end.say(said))

    def deliver(self, task_id: str) -> None:
        """Send a kept result, if the hub has the node now; else it is sent when it has."""
        if self.is_registered:
            self._post(KeptResult(task_id))

    def tell_line(self, line: Any) -> None:
        """Send a line of the log, if there is room for it."""
        if self.is_registered:
            self._outbox.post_line(self._end.say(line))

    async def leave(self, reason: str) -> None:
        """Tell the hub that the node leaves, and close; bounded by three times `FAREWELL_S`."""
        if self.is_registered:
            self._outbox.post(self._end.say(NodeUnregister(self._end.node_id, reason)))
            with trio.move_on_after(FAREWELL_S):
                await self._left.wait()
        if self._ended is None:
            self._note(Ended(reason=reason, is_ours=True))
            with trio.move_on_after(2 * FAREWELL_S):
                await self._over.wait()

    async def _talk(self, ear: Ear) -> None:
        with trio.CancelScope() as silence:
            async with trio.open_nursery() as nursery:
                self._socket = await upgrade(nursery, ear, self._address, self._key)
                ear.heard = lambda: self._pace.push(silence)
                ear.heard()
                await self._serve()
                if self._ended is not None and self._ended.is_ours:
                    with trio.move_on_after(FAREWELL_S):
                        await self._socket.aclose()
                nursery.cancel_scope.cancel(reason="the connection is over")
        if silence.cancelled_caught:
            self._note(Ended(reason=f"the hub was silent for {self._pace.timeout_s:g} s", held=self._held()))

    async def _serve(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, name="reader")
                nursery.start_soon(self._write, name="writer")
                nursery.start_soon(self._beat, nursery, name="beat")
                nursery.start_soon(self._await_answer, name="registration")
                first = self._register()
                sent = first_of(first)
                self._is_partial = sent is not first
                self._outbox.post(self._end.register(sent))
                self._on_state("registering")

    def _note(self, ended: Ended) -> None:
        """Take the first reason for which the connection ends, and end it."""
        self._ended = self._ended or ended
        self._left.set()
        self._scope.cancel(reason=ended.reason)

    def _held(self) -> bool:
        return self._registered_at is not None and trio.current_time() - self._registered_at >= HELD_S

    async def _read(self) -> None:
        while True:
            try:
                text = await self._socket.get_message()
            except trio_websocket.ConnectionClosed as end:
                code, words = (end.reason.code, end.reason.reason) if end.reason else (BROKEN, None)
                self._note(closed(code, words or "", held=self._held(), largest=self._delivery.largest()))
                return
            self._hear(self._end.receive(text))

    async def _write(self) -> None:
        while True:
            entry = await self._outbox.next()
            if isinstance(entry, KeptResult):
                result = await self._delivery.load(entry.task_id)
                if result is None:
                    continue
                result.node_id = self._end.node_id
                entry = self._end.end_task(result)
            try:
                await self._socket.send_message(entry.decode())
            except trio_websocket.ConnectionClosed:
                return  # the reader knows why

    async def _beat(self, nursery: trio.Nursery) -> None:
        while True:
            if self.is_registered:
                self._outbox.post_beat(self._end.say(self._make_beat()))
                for task_id in self._delivery.take_owed():
                    self.deliver(task_id)
            elif not self._is_pinging:
                # The hub knows of no node yet that could have a heartbeat. A task of its own, since a
                # send that is cancelled may leave half of a frame behind.
                nursery.start_soon(self._ping, name="ping")
            await self._pace.wait()

    async def _await_answer(self) -> None:
        with trio.move_on_after(REGISTER_S):
            await self._answered.wait()
            return
        self._note(Ended(reason="the hub does not answer the registration"))

    async def _ping(self) -> None:
        self._is_pinging = True
        try:
            await self._socket.ping()
        except trio_websocket.ConnectionClosed:
            return  # the reader knows why
        self._is_pinging = False

    def _post(self, entry: bytes | KeptResult) -> None:
        self._outbox.post(entry)
        if self._outbox.is_over:
            self._note(Ended(reason="the hub does not read what it is sent", held=self._held()))

    def _hear(self, said: HubSaid) -> None:
        match said:
            case NodeRegistered():
                self._on_registered(said)
            case TaskAssign():
                self._work.assign(said)
            case TaskCancel():
                self._work.cancel(said.task_id, said.reason)
            case TaskResultAck(success=True):
                self._delivery.acknowledged(said.task_id)
            case TaskResultAck():
                self._delivery.not_taken(said.task_id)
                log.warning("the hub has not taken a result", task=said.task_id, reason=said.message)
            case Drain():
                log.info("the hub is about to end")
            case NodeUnregistered():
                self._left.set()
            case ChannelError():
                log.warning("the hub has not taken a frame", code=said.code, reason=said.message)
            case Rejected():
                log.warning("a frame of the hub is left aside", reason=said.message)

    def _on_registered(self, said: NodeRegistered) -> None:
        self._answered.set()
        if not said.success:
            self._on_refused(said)
            return
        self._pace.take(said.heartbeat or {})
        if self._registered_at is None:
            self._registered_at = trio.current_time()
            for task_id in self._kept:
                self._outbox.post(KeptResult(task_id))
            self._on_state("registered")
            self.beat()
        for task_id in (said.resume or {}).get("cancel", ()):
            if task_id not in self._kept:
                self._work.cancel(task_id, "the hub has given it up")
        if self._is_partial:
            self._is_partial = False
            self.register()

    def _on_refused(self, said: NodeRegistered) -> None:
        if said.code == DUPLICATE:
            log.warning("another agent is registered with this node's id; waiting until it leaves")
            self._on_state("refused")
        else:
            self._note(Ended(reason=f"the hub refuses this node: {said.message}", is_slow=True))


def _first(group: BaseExceptionGroup[T]) -> T:
    found: T | BaseExceptionGroup[T] = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
