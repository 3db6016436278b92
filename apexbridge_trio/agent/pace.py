"""How often a node is heard on a link, and how long its hub may be silent: the hub's word, within reason."""

from typing import Final

import trio

# Until the hub says what it wants: its own defaults.
INTERVAL_S: Final = 10.0
TIMEOUT_S: Final = 30.0
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 600.0


class Pace:
    """The pace of one link.

    Attributes:
        interval_s: Between two signs of life.
        timeout_s: A hub that says nothing for so long is gone.
    """

    def __init__(self) -> None:
        self.interval_s = INTERVAL_S
        self.timeout_s = TIMEOUT_S
        self._hurry = trio.Event()

    def take(self, heartbeat: dict[str, int]) -> None:
        """Go by what the hub has said: ``intervalMs`` and ``timeoutMs``."""
        interval_s = heartbeat.get("intervalMs", 0) / 1000 or self.interval_s
        timeout_s = heartbeat.get("timeoutMs", 0) / 1000 or 3 * interval_s
        self.interval_s = min(max(interval_s, _SHORTEST_S), _LONGEST_S)
        # Two signs of life fit into the patience of either end.
        self.timeout_s = min(max(timeout_s, 2 * self.interval_s), 3 * _LONGEST_S)

    def hurry(self) -> None:
        """Have the next sign of life given at once."""
        self._hurry.set()

    async def wait(self) -> None:
        """Wait until the next sign of life is due."""
        with trio.move_on_after(self.interval_s):
            await self._hurry.wait()
        self._hurry = trio.Event()

    def push(self, silence: trio.CancelScope) -> None:
        """Move the deadline of a silence: the hub was heard just now."""
        silence.deadline = trio.current_time() + self.timeout_s
