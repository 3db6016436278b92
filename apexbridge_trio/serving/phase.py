"""What a connection waits for, and how long it may."""

from enum import Enum, auto
from math import inf
from typing import Final

import trio

from apexbridge_trio.serving.limits import ServingLimits

# nginx's lingering_timeout and lingering_time: how long a peer that was told the end may go on
# sending, without a byte and in all. Closing earlier resets the connection under our last reply.
LINGER_SILENCE_S: Final = 5.0
LINGER_S: Final = 30.0
# Apache's mod_reqtimeout, MinRate: a body slower than that on the whole only holds a place.
BODY_BYTES_PER_S: Final = 500


class Phase(Enum):
    """See the table of the package."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    IDLE = auto()
    SOCKET = auto()
    LINGER = auto()


class Patience:
    """One moving deadline for a connection's reader: no task and no scope per request.

    Args:
        limits: Where the times come from.

    Attributes:
        limits: The same; another one counts from the next phase on.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self.scope = trio.CancelScope()
        self.phase = Phase.HEAD
        self.limits = limits
        self._since = trio.current_time()
        self.deadline = self._since + limits.header_timeout_s

    def renew(self) -> trio.CancelScope:
        """Return a fresh scope for the reader, after the last one has ended."""
        self.scope = trio.CancelScope(deadline=self.deadline)
        return self.scope

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return trio.current_time() >= self.deadline

    def enter(self, phase: Phase) -> None:
        """Begin to wait for something else."""
        self.phase = phase
        self._since = trio.current_time()
        self.until(self._since + self._bound_s())

    def until(self, deadline: float) -> None:
        """Move the deadline, in Trio time.

        The scope only follows to an earlier one: a reader woken too soon looks at `is_over` and goes
        on, at most once a head timeout, where each request would move the scope four times.
        """
        self.deadline = deadline
        if deadline < self.scope.deadline:  # noqa: PLR1730 - min() would set it each time, which costs
            self.scope.deadline = deadline

    def heard(self, total_bytes: int) -> None:
        """Take note of more bytes of a body, or of what is read only to be dropped."""
        now = trio.current_time()
        if self.phase is Phase.BODY:
            least_rate = self._since + self.limits.body_timeout_s + total_bytes / BODY_BYTES_PER_S
            self.until(min(now + self.limits.body_timeout_s, least_rate))
        elif self.phase is Phase.LINGER:
            self.until(min(now + LINGER_SILENCE_S, self._since + LINGER_S))

    def _bound_s(self) -> float:
        match self.phase:
            case Phase.HEAD:
                return self.limits.header_timeout_s
            case Phase.BODY:
                return self.limits.body_timeout_s
            case Phase.IDLE:
                return self.limits.idle_timeout_s
            case Phase.LINGER:
                return LINGER_SILENCE_S
            case _:
                return inf
