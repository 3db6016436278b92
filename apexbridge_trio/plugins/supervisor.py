"""What stays up: started again when it ends, but not for ever.

::

    starting ──up──▶ running
       ▲                │ it ends
       └──── delay ─── restarting          1 s, doubled with each end within the last minute
                        │ too many ends
                      failed               tried again every `LATER_S`, for a server that comes back

`Supervisor.want` says what shall be up; `run` compares that with what is, so a reload of plugins is
only another wish. What is not wanted any more is ended once nothing uses it, and what has its name is
begun when it is gone: two of one service would fight for one port. A new MCP server that is to be there
first is wanted beside the old one.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol

import trio

from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.boundary import told

# More ends than this within the window: it will not get better by itself.
MOST_ENDS: Final = 5
WINDOW_S: Final = 60.0
FIRST_DELAY_S: Final = 1.0
# A server in another room may be switched on later; one try in five minutes costs nothing.
LATER_S: Final = 300.0

State = Literal["starting", "running", "restarting", "failed", "ended"]

# Hears a plugin's name, and why it is down.
Failed = Callable[[str, str], None]

log = get_logger("plugins")


class Standing(Protocol):
    """Something that is to be up all the time."""

    @property
    def name(self) -> str:
        """The plugin's."""
        ...

    async def run(self, up: Callable[[], None]) -> None:
        """Be up until the end; call `up` when it works. To return is as much a fault as to raise.

        Raises:
            ToolFailed: Why it is not up any more.
        """
        ...

    def note_end(self, fault: str, retry_in_s: float) -> None:
        """Hear that `run` has ended, why, and when it is begun again: in `math.inf` seconds, if never."""
        ...

    async def idle(self) -> None:
        """Wait until nothing uses it, so that it may be ended."""
        ...


class Pace:
    """When to begin again; time is an argument, in seconds."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=MOST_ENDS + 1)

    def after_end(self, now: float) -> tuple[float, bool]:
        """Return the delay, and whether there were too many ends."""
        self._ends.append(now)
        recent = sum(now - end < WINDOW_S for end in self._ends)
        if recent > MOST_ENDS:
            return LATER_S, True
        return FIRST_DELAY_S * 2.0 ** (recent - 1), False


class Keeping:
    """One thing that is kept up, and how it fares.

    Args:
        failed: Told when there were too many ends.

    Attributes:
        restarts: How often it was begun again.
        last_error: Why it ended the last time.
        scope: To be cancelled when it is not wanted any more.
        ended: Set once nothing of it is left.
    """

    def __init__(self, standing: Standing, failed: Failed = lambda _name, _reason: None) -> None:
        self.standing = standing
        self._failed = failed
        self.state: State = "starting"
        self.restarts = 0
        self.last_error = ""
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def run(self) -> None:
        """Keep it up until `scope` is cancelled."""
        pace = Pace()
        with self.scope:
            while True:
                self.state = "starting"
                fault = await self._once()
                delay, is_failed = pace.after_end(trio.current_time())
                self._note(fault, delay, is_failed=is_failed)
                await trio.sleep(delay)
                self.restarts += 1
        self.state = "ended"
        self.standing.note_end("it was changed or removed", math.inf)
        self.ended.set()

    async def _once(self) -> str:
        fault = "It has ended by itself."
        try:
            await self.standing.run(self._up)
        # With a star: when it falls over in the very moment in which it is cancelled, the
        # cancellation goes on, and only the fault ends here.
        except* Exception as faults:  # noqa: BLE001  # the trust boundary of what stays up
            fault = told(faults)
        return fault

    def _up(self) -> None:
        self.state = "running"

    def _note(self, fault: str, delay: float, *, is_failed: bool) -> None:
        self.state = "failed" if is_failed else "restarting"
        self.last_error = fault
        self.standing.note_end(fault, delay)
        if is_failed:
            self._failed(self.standing.name, fault)
        tell = log.error if is_failed else log.warning
        tell("plugin is down", plugin=self.standing.name, reason=fault, state=self.state, retry_in_s=delay)


class Supervisor:
    """Keeps up what is wanted.

    Attributes:
        failed: Told of what ends too often: the plugin's name, and why it ended the last time.
    """

    def __init__(self) -> None:
        self.failed: Failed = lambda _name, _reason: None
        self._wanted: tuple[Standing, ...] = ()
        self._kept: dict[Standing, Keeping] = {}
        self._leaving: list[Keeping] = []
        self._changed = trio.Event()

    def want(self, standings: Iterable[Standing]) -> None:
        """Say what shall be up from now on; what is up already is left alone."""
        self._wanted = tuple(standings)
        self._changed.set()

    def keeping(self, standing: Standing) -> Keeping | None:
        """Return how something fares; None before `run` has begun it."""
        return self._kept.get(standing)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it all up; when cancelled, all of it is ended. Started means: all has been begun."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                self._retire(nursery)
                self._begin(nursery)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._changed.wait()

    def _begin(self, nursery: trio.Nursery) -> None:
        taken = {keeping.standing.name for keeping in self._leaving}
        for standing in self._wanted:
            if standing not in self._kept and standing.name not in taken:
                self._kept[standing] = keeping = Keeping(standing, self._fail)
                nursery.start_soon(keeping.run, name=f"keep {standing.name}")

    def _fail(self, name: str, reason: str) -> None:
        self.failed(name, reason)

    def _retire(self, nursery: trio.Nursery) -> None:
        for standing in [one for one in self._kept if one not in self._wanted]:
            keeping = self._kept.pop(standing)
            self._leaving.append(keeping)
            nursery.start_soon(self._end, keeping, name=f"retire {standing.name}")

    async def _end(self, keeping: Keeping) -> None:
        await keeping.standing.idle()
        keeping.scope.cancel(reason="the plugin was changed or removed")
        await keeping.ended.wait()
        self._leaving.remove(keeping)
        self._changed.set()
