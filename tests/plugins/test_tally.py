"""Calls are counted by how they end."""

import pytest
import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.tally import Tally


def counts(tally: Tally) -> tuple[int, ...]:
    return tally.started, tally.running, tally.succeeded, tally.failed, tally.stopped


async def test_each_call_ends_in_one_count() -> None:
    tally = Tally()
    with tally.count():
        assert counts(tally) == (1, 1, 0, 0, 0)
    with pytest.raises(ToolFailed), tally.count():
        raise ToolFailed("no ink")
    assert (tally.is_failing, tally.last_error) == (True, "no ink")
    with trio.CancelScope() as scope:
        scope.cancel(reason="the user said stop")
        with tally.count():
            await trio.sleep_forever()
    assert counts(tally) == (3, 0, 1, 1, 1)
    assert tally.is_failing, "a call that was stopped says nothing of its tool"
    with tally.count():
        pass
    assert (tally.is_failing, tally.last_error) == (False, "no ink")
