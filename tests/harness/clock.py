"""Real processes on a clock that stands: no limit passes before the step that a test is about.

With Trio's own clock a limit of half a second may be over before a busy machine has started the
process. With ``mock_clock`` it is over when the test says so, and no earlier; all that is waited for
besides (a pipe, a socket, a child's end) comes in its own time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio
from trio.testing import MockClock


@contextmanager
def net(seconds: float) -> Iterator[None]:
    """Fail what is still going on after so many real seconds, whatever clock the test has.

    A safety net for a test that would hang, not a bound that is tested.
    """
    with trio.CancelScope() as scope:
        cut = partial(_cut, scope, trio.lowlevel.current_clock())
        token = trio.lowlevel.current_trio_token()
        timer = threading.Timer(seconds, token.run_sync_soon, [cut])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
    if scope.cancelled_caught:
        raise trio.TooSlowError


def _cut(scope: trio.CancelScope, clock: trio.abc.Clock) -> None:
    if isinstance(clock, MockClock):  # what is ended now may take its time, and no more
        clock.rate = 1.0
    scope.cancel(reason="the safety net of a test")


def elapse(clock: MockClock, seconds: float) -> None:
    """Have a limit over now; from here on time passes as it does elsewhere."""
    clock.jump(seconds)
    clock.rate = 1.0
