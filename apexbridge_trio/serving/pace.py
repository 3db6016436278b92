"""How fast a peer of a WebSocket may talk, so that one that floods is slowed and nobody else is."""

from typing import Final

import trio

# A read may hold thousands of small messages, and taking them is one step of the loop, in which nobody
# else has a turn. So what is read at a time shrinks until so many are in it.
MESSAGES_A_READ: Final = 16
LEAST_BYTES: Final = 1024
FIRST_BYTES: Final = 4096
MOST_BYTES: Final = 64 * 1024
# So many seconds' worth may come at once.
BURST_S: Final = 1.0


class Pace:
    """One peer's messages, counted as they come.

    The peer is hurt: its bytes stay in the kernel until it is its turn, and then in its own.

    Args:
        per_s: Messages a second that are taken without a pause.
    """

    def __init__(self, per_s: int) -> None:
        self.read_bytes = FIRST_BYTES
        self._step_s = 1.0 / per_s
        self._free_at = 0.0
        self._messages = 0

    def note(self, weight: int = 1) -> None:
        """Count a message, of whatever kind; one that nobody wanted may weigh as many."""
        self._messages += weight

    def pause_s(self) -> float:
        """Return how long to wait before the next read, after one that brought what was counted."""
        taken, self._messages = self._messages, 0
        if taken > MESSAGES_A_READ:
            self.read_bytes = max(LEAST_BYTES, self.read_bytes * MESSAGES_A_READ // taken)
        else:
            self.read_bytes = min(MOST_BYTES, self.read_bytes * 2)
        now = trio.current_time()
        self._free_at = max(self._free_at, now) + taken * self._step_s
        return max(0.0, self._free_at - now - BURST_S)
