"""When to try again: for ever, ever more rarely, and not together with all the others.

Agents that lost their hub in one moment must not come back in one. So the first wait has full jitter: it
is anything between nothing and a window. A hub that is not back by then is tried again after the later
half of the window, anywhere in it: by their first wait the agents are spread already.

The window is as long as the hub has been missed, from `FIRST_S` to `LONGEST_S`, so it doubles and
doubles while the hub stays away. It goes by the time and not by the number of tries: 300 agents that
double with each try are in windows of different lengths when the hub returns, and then the fullest of
20 equal parts of their return holds 4 to 6 times the mean. By the time, and with full jitter for every
wait, it is 2.5 times; as it is here 2 times, with a third fewer tries (tests/agent/test_backoff.py).

Pure: time is an argument, in seconds.
"""

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
# For an agent that has something for the hub: below the grace in which a hub that has come back waits
# for it before it gives its tasks up (`nodes.rejoin_grace_s`, 10 s).
LONGEST_WITH_WORK_S: Final = 8.0


class Backoff:
    """The waits of one agent.

    Args:
        jitter: Gives numbers from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._missed_since: float | None = None

    def after_end(
        self,
        now: float,
        *,
        held: bool = False,
        slow: bool = False,
        has_work: bool = False,
        least_s: float = 0.0,
    ) -> float:
        """Return how long to wait, after a connection that ended or was never made.

        Args:
            now: The time.
            held: It was a good one for a while: what was before it does not count any more.
            slow: Asking again soon is of no use; a person has to change something first.
            has_work: Tasks run, or results wait for the hub.
            least_s: What the hub asked for.
        """
        if held or self._missed_since is None:
            self._missed_since = now
        missed_s = now - self._missed_since
        if slow:
            return least_s + self._of(LONGEST_S, later=True)
        # Who was asked for patience together with others does not come back together with them either.
        longest_s = LONGEST_WITH_WORK_S if has_work else LONGEST_S
        window_s = min(longest_s, max(FIRST_S, least_s, missed_s))
        return least_s + self._of(window_s, later=missed_s > 0)

    def _of(self, window_s: float, *, later: bool) -> float:
        jitter = self._jitter()
        return window_s * ((1 + jitter) / 2 if later else jitter)
