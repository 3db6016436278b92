"""The pace is the hub's word, within what either end can bear."""

import pytest
import trio

from apexbridge_trio.agent.pace import INTERVAL_S, TIMEOUT_S, Pace


def test_what_the_hub_does_not_say_stays_or_follows():
    pace = Pace()
    assert (pace.interval_s, pace.timeout_s) == (INTERVAL_S, TIMEOUT_S)
    pace.take({"intervalMs": 500, "timeoutMs": 4000})
    assert (pace.interval_s, pace.timeout_s) == (0.5, 4.0)
    pace.take({})
    assert (pace.interval_s, pace.timeout_s) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"intervalMs": 500, "timeoutMs": 1}, (0.5, 1.0)),
        ({"intervalMs": 1, "timeoutMs": 1}, (0.1, 0.2)),
        ({"intervalMs": 10**12}, (600, 1800)),
    ],
)
def test_nothing_unreasonable_is_taken(said, kept):
    pace = Pace()
    pace.take(said)
    assert (pace.interval_s, pace.timeout_s) == kept


async def test_who_hurries_is_not_made_to_wait_and_only_once(autojump_clock):
    pace, start = Pace(), trio.current_time()
    pace.hurry()
    await pace.wait()
    assert trio.current_time() == start
    await pace.wait()
    assert trio.current_time() - start == INTERVAL_S
