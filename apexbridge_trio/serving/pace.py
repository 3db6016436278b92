"""How fast a peer of a WebSocket may talk, so that one that floods is slowed and nobody else is.

What the kernel had for us in one read may be ten thousand small messages, and taking them is one step of the
loop. So a peer has turns: in each, some of its messages are taken, and then all others have theirs. After a
turn it waits as long as what it has said is worth; the rest of it lies here, and what it sends meanwhile in
the kernel.
"""

from typing import Final

import trio

# Some 200 µs of the loop. It is also what a peer that was quiet may say without any wait.
MESSAGES_A_TURN: Final = 8
# So many seconds' worth may come above the rate,
BURST_S: Final = 1.0
# but no faster than so many times the rate: in one breath, others would have to wait for all of it.
RUSH: Final = 2


class Pace:
    """One peer's messages, counted as they are taken.

    Args:
        per_s: Messages a second that are taken on the whole.
    """

    def __init__(self, per_s: int) -> None:
        self._step_s = 1.0 / per_s
        self._free_at = self._next_at = 0.0
        self._taken = 0

    @property
    def is_spent(self) -> bool:
        """Whether this turn is over."""
        return self._taken >= MESSAGES_A_TURN

    def note(self, weight: int = 1) -> None:
        """Count a message, of whatever kind; what is more work, or unwanted, weighs as many."""
        self._taken += weight

    def pause_s(self) -> float:
        """End a turn, and return how long to wait before the next."""
        taken, self._taken = self._taken, 0
        now, rush_s = trio.current_time(), self._step_s / RUSH
        self._free_at = max(self._free_at, now) + taken * self._step_s
        self._next_at = max(self._next_at, now) + taken * rush_s
        return max(0.0, self._free_at - now - BURST_S, self._next_at - now - MESSAGES_A_TURN * rush_s)
