"""When to try again: for ever, ever more rarely, and not together with all the others.

Full jitter: each wait is anything between nothing and a window, so that agents that lost their hub in
one moment do not come back in one. The window is as long as the hub has been missed, from `FIRST_S`
to `LONGEST_S`: it doubles and doubles while the hub stays away. It is the time and not the number of
tries that counts: 300 agents that count tries are spread over windows of different lengths when the
hub returns, and their peak is 4 to 6 times their mean; those that look at the time keep below 3
(tests/agent/test_backoff.py).

Pure: time is an argument, in seconds.
"""

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0


class Backoff:
    """The waits of one agent.

    Args:
        jitter: Gives numbers from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._missed_since: float | None = None

    def after_end(self, now: float, *, held: bool = False, slow: bool = False, least_s: float = 0.0) -> float:
        """Return how long to wait, after a connection that ended or was never made.

        Args:
            now: The time.
            held: It was a good one for a while: what was before it does not count any more.
            slow: Asking again soon is of no use; a person has to change something first.
            least_s: What the hub asked for.
        """
        if held or self._missed_since is None:
            self._missed_since = now
        if slow:
            return max(least_s, LONGEST_S * (1 + self._jitter()) / 2)
        window_s = min(LONGEST_S, max(FIRST_S, now - self._missed_since))
        return least_s + window_s * self._jitter()
