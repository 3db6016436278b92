"""What runs on this node: each task once, in its turn, within its deadline, to one end.

A task belongs to the node and not to a connection: a link that is lost stops nothing, and what a task
came to is kept until some later link delivers it.

===========  ================================================================================
state        the task is
===========  ================================================================================
waiting      in line: `most` others run
running      marked as begun, told as accepted; its flight is open
keeping      ended; its result is on its way to the disk, and nothing stops that
ongoing      answered with "pending": processes of it go on until they end or are cancelled
===========  ================================================================================

Everything here is decided without an await; the tool's call and the disk are what is waited for.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import trio
from msgspec import Struct, field

from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.outcome import ToolUnknown, arguments_of, callback_of, done, failed, of_fault
from apexbridge_trio.agent.tally import Tally
from apexbridge_trio.errors import ApexError, Interrupted
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins import CallContext, Pending, Tool
from apexbridge_trio.plugins.ongoing import Running
from apexbridge_trio.protocol.frames import TaskAccepted, TaskAssign, TaskCancelled, TaskResult

# All that runs here is the hub's.
OWNER: Final = Principal("hub")
# The hub respects how many tasks a node takes, so a line is short; one that has forgotten it is hurt.
MOST_WAITING: Final = 1000

Tell = Callable[[TaskAccepted | TaskCancelled | TaskResult], None]
Deliver = Callable[[str], None]

log = get_logger("agent")


class Task(Struct, eq=False):
    """One task that is here.

    Attributes:
        turn: Set when it may run.
        is_unwanted: The hub has cancelled it.
    """

    assign: TaskAssign
    flight: Flight
    turn: trio.Event = field(default_factory=trio.Event)
    is_unwanted: bool = False
    began: float | None = None

    @property
    def task_id(self) -> str:
        """The hub's."""
        return self.assign.task_id


class _Ongoing(Struct, eq=False):
    """Processes that go on after a pending answer."""

    running: trio.abc.AsyncResource
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Tasks:
    """The tasks of one node.

    Args:
        tools: What there is now, by name.
        kept: Where results are.
        most: How many run at a time.
        tell: Called with what the hub should hear; without a link it is lost, and not needed.
        deliver: Called with the id of a task whose result is kept.

    Attributes:
        is_closed: New tasks are refused: the node is about to end.
        tally: What became of the tasks of this process.
    """

    def __init__(
        self, tools: Callable[[], Mapping[str, Tool]], kept: Kept, most: int, tell: Tell, deliver: Deliver
    ) -> None:
        self.most = most
        self.is_closed = False
        self.tally = Tally()
        self._tools = tools
        self._kept = kept
        self._tell = tell
        self._deliver = deliver
        self._flights = Flights()
        self._tasks: dict[str, Task] = {}
        self._waiting: deque[Task] = deque()
        self._running = 0
        self._ongoing: dict[str, _Ongoing] = {}
        self._nursery: trio.Nursery | None = None
        self._idle = trio.Event()

    @property
    def running(self) -> int:
        """How many run now."""
        return self._running

    @property
    def active(self) -> list[str]:
        """Ids of what is here: waiting, running, going on, or with a result that is kept."""
        return list(dict.fromkeys([*self._kept, *self._tasks, *self._ongoing]))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks until cancelled; then all are ended, and those that were cut have no result."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def assign(self, assign: TaskAssign) -> None:
        """Take a task. One that is here already is not run again; a result that is kept is sent again."""
        task_id = assign.task_id
        if task_id in self._tasks or task_id in self._ongoing:
            log.info("a task was assigned twice", task=task_id)
        elif task_id in self._kept:
            self._deliver(task_id)
        else:
            self._begin(assign)

    def cancel(self, task_id: str, reason: str = "") -> None:
        """Stop a task for the hub; it hears of the end when nothing of it is left, by the link of then."""
        if task := self._tasks.get(task_id):
            if task.flight.ended is None:
                task.is_unwanted = True
                self._flights.interrupt(task_id, OWNER, reason)
        elif ongoing := self._ongoing.get(task_id):
            ongoing.scope.cancel(reason=f"cancelled by the hub: {reason}")
        else:
            self._tell(TaskCancelled(task_id))

    def stop_all(self, reason: str) -> None:
        """Stop everything; what it came to is told as interrupted."""
        self._flights.interrupt_all(reason)
        for ongoing in self._ongoing.values():
            ongoing.scope.cancel(reason=reason)

    async def idle(self) -> None:
        """Wait until nothing runs, waits or goes on."""
        while self._tasks or self._ongoing:
            await self._idle.wait()

    def _begin(self, assign: TaskAssign) -> None:
        refusal = self._refusal()
        if refusal or self._nursery is None:
            code, message = refusal or ("draining", "The node is about to end.")
            self._refuse(assign, code, message)
            return
        timeout_s = max(0.0, assign.remaining_ms / 1000)
        flight = self._flights.open(assign.task_id, "task", OWNER, timeout_s=timeout_s)
        task = self._tasks[assign.task_id] = Task(assign, flight)
        self._waiting.append(task)
        self._nursery.start_soon(self._run, task, name=f"task {task.task_id}")
        self._next()

    def _refusal(self) -> tuple[str, str] | None:
        if self.is_closed:
            return "draining", "The node is about to end."
        if self._kept.is_full:
            return "node_full", "Results that the hub has not taken fill the node's folder."
        if len(self._waiting) >= MOST_WAITING:
            return "node_full", f"{MOST_WAITING} tasks wait on the node already."
        return None

    def _refuse(self, assign: TaskAssign, code: str, message: str) -> None:
        log.warning("a task is refused", task=assign.task_id, tool=assign.tool_name, reason=message)
        self._tell(failed(assign.task_id, code, message))

    def _next(self) -> None:
        while self._waiting and self._running < self.most:
            task = self._waiting.popleft()
            self._running += 1
            task.turn.set()

    async def _run(self, task: Task) -> None:
        try:
            result = await self._result(task)
            if result is not None:
                # Shielded: the work is done, and whoever ends the agent now must not undo it. Bounded
                # by the disk.
                with trio.CancelScope(shield=True):
                    await self._kept.keep(result)
        finally:
            del self._tasks[task.task_id]
            self._note_idle()
        if result is None:
            self._kept.end(task.task_id)
            self._tell(TaskCancelled(task.task_id))
        else:
            self._deliver(task.task_id)

    async def _result(self, task: Task) -> TaskResult | None:
        """Run a task to its end; None: the hub has cancelled it."""
        task_id = task.task_id
        try:
            with task.flight:
                try:
                    await self._turn(task)
                    value = await self._call(task)
                finally:
                    self._leave(task)
        except Interrupted as fault:
            return None if task.is_unwanted else of_fault(task_id, fault, self._took_ms(task))
        except ApexError as fault:
            self.tally.failed += 1
            return of_fault(task_id, fault, self._took_ms(task))
        except Exception as fault:  # the boundary of a task: the others go on
            self.tally.failed += 1
            log.error("a task fell over", task=task_id, tool=task.assign.tool_name, exc_info=fault)
            return failed(task_id, "internal_error", "The node has made a mistake.", self._took_ms(task))
        self.tally.succeeded(self._took_ms(task))
        if isinstance(value, Pending):
            self._go_on(task_id, value)
        return done(task_id, value, self._took_ms(task))

    async def _turn(self, task: Task) -> None:
        await task.turn.wait()
        task.began = trio.current_time()
        self.tally.begun += 1
        self._kept.begin(task.task_id)
        self._tell(TaskAccepted(task.task_id))

    async def _call(self, task: Task) -> object:
        assign = task.assign
        tool = self._tools().get(assign.tool_name)
        if tool is None:
            raise ToolUnknown(f"This node has no tool {assign.tool_name[:100]}.")
        address = callback_of(assign.callback) if tool.later else None
        return await tool.call(arguments_of(assign), CallContext(task.flight, address))

    def _leave(self, task: Task) -> None:
        if task.turn.is_set():
            self._running -= 1
        else:
            self._waiting.remove(task)
        self._next()

    def _took_ms(self, task: Task) -> float:
        if task.began is None:
            return 0.0
        return round((trio.current_time() - task.began) * 1000, 1)

    def _go_on(self, task_id: str, pending: Pending) -> None:
        if pending.running is not None and self._nursery is not None:
            ongoing = self._ongoing[task_id] = _Ongoing(pending.running)
            self._nursery.start_soon(self._look_after, task_id, ongoing, name=f"ongoing {task_id}")

    async def _look_after(self, task_id: str, ongoing: _Ongoing) -> None:
        try:
            with ongoing.scope:
                if isinstance(ongoing.running, Running):
                    await ongoing.running.ended.wait()
                else:
                    await trio.sleep_forever()
            if ongoing.scope.cancelled_caught:
                await ongoing.running.aclose()
                self._tell(TaskCancelled(task_id))
        finally:
            del self._ongoing[task_id]
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._tasks and not self._ongoing:
            self._idle.set()
            self._idle = trio.Event()
