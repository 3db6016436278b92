"""An agent: one node of a hub, for as long as it runs.

::

    Agent.run
    ├─ tasks                     what runs here; a link that is lost does not touch it
    ├─ plugins                   processes that go on after a pending answer, and what stays up
    ├─ plugin folders            notices that one was changed
    ├─ offer                     tells the hub when the tools are others
    └─ connection                a Link, and after it another one, for ever

The order of an end: no new tasks; what runs may finish; results are delivered; the hub is told; the
connection is closed. `drain` does it, and `run` returns when it is over.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from threading import get_ident
from typing import Any, Final

import trio
from msgspec import Struct

from apexbridge_trio.agent import machine
from apexbridge_trio.agent.address import HubAddress
from apexbridge_trio.agent.backoff import Backoff
from apexbridge_trio.agent.ended import Ended
from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.link import Link
from apexbridge_trio.agent.outcome import failed
from apexbridge_trio.agent.registration import Profile, registration, specs_of
from apexbridge_trio.agent.socket import Connect, connect
from apexbridge_trio.agent.tasks import Tasks
from apexbridge_trio.config import Secret
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import get_logger, tap
from apexbridge_trio.notify import notify
from apexbridge_trio.plugins import Plugins, watch
from apexbridge_trio.protocol.frames import Heartbeat, NodeLog, NodeRegister, ToolSpec

# For the acknowledgements of what was finished during the drain.
ACK_S: Final = 5.0
# What is interrupted at the end of a drain ends within this: longer than the grace that processes have.
LAST_WORDS_S: Final = 10.0
# Lines of these levels are sent to the hub.
_TOLD: Final = frozenset({"warning", "error", "critical"})

log = get_logger("agent")


class Door(Struct, frozen=True):
    """How the hub is reached.

    Args:
        address: Where it is.
        read_key: Reads the key; done anew for each connection, as it may have been exchanged.
        dial: Connects; for tests.
    """

    address: HubAddress
    read_key: Callable[[], Secret]
    dial: Connect = connect


class Agent:
    """One node.

    Args:
        door: How the hub is reached.
        profile: Who the node is.
        plugins: What it can; it is kept up while `run` is there.
        kept: Its results; of the node's own folder.
        watches: Whether a changed plugin folder counts without a restart.
        notifies: Whether the service manager is told how it stands.
        jitter: Gives numbers from 0 to 1; for tests.

    Attributes:
        state: ``connecting``, ``registering``, ``refused``, ``registered`` or ``waiting``.
        links: How many connections were begun.
    """

    def __init__(
        self,
        door: Door,
        profile: Profile,
        plugins: Plugins,
        kept: Kept,
        *,
        watches: bool = True,
        notifies: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.state = "connecting"
        self.links = 0
        self.tasks = Tasks(lambda: plugins.tools, kept, profile.max_concurrent, self._tell, self._deliver)
        self._door = door
        self._profile = profile
        self._plugins = plugins
        self._kept = kept
        self._backoff = Backoff(jitter)
        self._link: Link | None = None
        self._is_leaving = False
        self._specs: list[ToolSpec] = specs_of(plugins.tools)
        self._watches = watches
        self._notifies = notifies
        self._thread = get_ident()
        self._told_reason = ""
        self._left = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until `drain` is over, or until cancelled; started means that tasks can run.

        Cancellation: the connection is cut, and tasks are ended without a result.
        """
        with tap(self._forward_line):
            async with trio.open_nursery() as nursery:
                await nursery.start(self._plugins.run, name="plugins")
                await nursery.start(self.tasks.run, name="tasks")
                if self._watches:
                    nursery.start_soon(watch, self._plugins, partial(trio.sleep, 0), name="plugin folders")
                nursery.start_soon(self._tell_offer, name="offer")
                nursery.start_soon(self._stay_connected, name="connection")
                task_status.started()
                await self._left.wait()
                nursery.cancel_scope.cancel(reason="the node has left")

    async def drain(self, timeout_s: float, hurry: trio.Event) -> None:
        """Finish, deliver, leave; `run` returns after it.

        Args:
            timeout_s: What runs may go on for so long; then it is interrupted.
            hurry: Set it, and what runs is interrupted at once.
        """
        self.tasks.is_closed = True
        if self._link is not None:
            self._link.beat()
        with trio.move_on_after(timeout_s) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, hurry, patience, name="hurry")
                await self.tasks.idle()
                nursery.cancel_scope.cancel(reason="nothing runs any more")
        self.tasks.stop_all("the node is about to end")
        with trio.move_on_after(LAST_WORDS_S):
            await self.tasks.idle()
        with trio.move_on_after(ACK_S):
            await self._kept.empty()
        if left := len(self._kept):
            log.warning("results that the hub has not taken stay on disk, for the next start", count=left)
        self._is_leaving = True
        if self._link is not None:
            await self._link.leave("the node was stopped")
        self._left.set()

    async def _stay_connected(self) -> None:
        while not self._is_leaving:
            ended = await self._connect()
            if ended.too_large in self._kept:
                text = "The hub does not take a result of this size."
                await self._kept.keep(failed(ended.too_large, "result_too_large", text))
            delay_s = self._backoff.after_end(
                trio.current_time(),
                held=ended.held,
                slow=ended.is_slow,
                has_work=bool(self.tasks.active),
                least_s=ended.retry_after_s,
            )
            if not self._is_leaving:
                self._note_end(ended, delay_s)
                await trio.sleep(delay_s)

    async def _connect(self) -> Ended:
        try:
            key = self._door.read_key()
        except ConfigInvalid as fault:
            return Ended(reason=f"no key: {fault.message}", is_slow=True)
        self.links += 1
        link = self._link = Link(
            self._door.address,
            key,
            register=self._registration,
            beat=self._heartbeat,
            work=self.tasks,
            kept=self._kept,
            on_state=self._note_state,
            dial=self._door.dial,
        )
        try:
            return await link.run()
        finally:
            self._link = None

    def _note_state(self, state: str) -> None:
        self.state = state
        if state == "registered":
            log.info(
                "registered", hub=str(self._door.address), node=self._profile.node_id, kept=len(self._kept)
            )
            self._told_reason = ""
        self._tell_manager(state)

    def _note_end(self, ended: Ended, delay_s: float) -> None:
        """Say why there is no connection: once, until there was one or the reason is another."""
        self.state = "waiting"
        tell = log.debug if ended.reason == self._told_reason else log.warning
        tell("not connected", hub=str(self._door.address), reason=ended.reason, retry_in_s=round(delay_s, 1))
        self._told_reason = ended.reason
        self._tell_manager(f"not connected: {ended.reason}")

    def _tell_manager(self, state: str) -> None:
        if self._notifies:
            notify(f"STATUS={self._profile.name} at {self._door.address}: {state}")

    async def _tell_offer(self) -> None:
        while True:
            specs = specs_of(self._plugins.tools)
            if specs != self._specs:
                self._specs = specs
                if self._link is not None:
                    self._link.register()
            await self._plugins.exchanged()

    def _registration(self) -> NodeRegister:
        return registration(
            self._profile, self._specs, self.tasks.active, self.tasks.tally.stats(self.tasks.running)
        )

    def _heartbeat(self) -> Heartbeat:
        running, most = self.tasks.running, self.tasks.most
        return Heartbeat(
            self._profile.node_id,
            status="offline" if self.tasks.is_closed else "busy" if running >= most else "online",
            stats=self.tasks.tally.stats(running),
            load=machine.load(running, most),
            resources=machine.resources(),
        )

    def _tell(self, said: object) -> None:
        if self._link is not None:
            self._link.tell(said)

    def _deliver(self, task_id: str) -> None:
        if self._link is not None:
            self._link.deliver(task_id)

    def _forward_line(self, entry: Mapping[str, Any]) -> None:
        """Send a line of the log, as it was written, to the hub; of this loop's thread only."""
        if self._link is None or entry["level"] not in _TOLD or get_ident() != self._thread:
            return
        fields = {name: value for name, value in entry.items() if name not in {"event", "level", "timestamp"}}
        self._link.tell_line(NodeLog(str(entry["event"]), str(entry["level"]), fields=fields))


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel(reason="told to hurry")
