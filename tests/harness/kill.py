"""Run a scenario once for each scheduler step, cancelled just before that step.

A scenario that is right under every cut is right under every interrupt, deadline, disconnect and
drain: they are all a cancel scope that ends.
"""

from collections.abc import Awaitable, Callable

import trio


class _CutBefore(trio.abc.Instrument):
    """Cancel `scope` just before step `cut` of the run (counted from when it is installed)."""

    def __init__(self, scope: trio.CancelScope, cut: int) -> None:
        self.scope = scope
        self.cut = cut
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.steps == self.cut:
            self.scope.cancel(reason=f"killed before step {self.cut}")
        self.steps += 1


async def kill_at_every_step(
    scenario: Callable[[], Awaitable[None]],
    check: Callable[[bool], Awaitable[None]],
    *,
    at_most: int = 5000,
) -> int:
    """Cut `scenario` before every step it takes, until one run is left whole.

    Args:
        scenario: Makes its own world, does the work, and leaves nothing.
        check: Called after each run, with whether the scenario came to its own end.
        at_most: Steps after which the scenario is taken to be endless.

    Returns:
        How many cuts were made.
    """
    for cut in range(at_most):
        with trio.CancelScope() as scope:
            instrument = _CutBefore(scope, cut)
            trio.lowlevel.add_instrument(instrument)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check(not scope.cancelled_caught)
        if instrument.steps <= cut:
            return cut
    raise AssertionError(f"not finished after {at_most} cuts")
