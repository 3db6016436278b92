"""Waits between connections: bounded, growing, and spread over all agents of a house."""

import random

import pytest

from apexbridge_trio.agent.backoff import FIRST_S, LONGEST_S, LONGEST_WITH_WORK_S, Backoff
from apexbridge_trio.config import Nodes

MOST = 0.999999


def waits(jitter, count, **ended):
    backoff, now, found = Backoff(lambda: jitter), 100.0, []
    for _ in range(count):
        found.append(round(backoff.after_end(now, **ended), 2))
        now += found[-1]
    return found


def test_the_window_doubles_as_long_as_the_hub_is_missed():
    assert waits(MOST, 9) == [0.5, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_only_the_first_wait_may_be_none():
    assert waits(0.0, 2) == [0, 0]
    assert waits(0.5, 7) == [0.25, 0.38, 0.47, 0.82, 1.44, 2.52, 4.41]


def test_who_has_work_is_back_within_the_hubs_grace():
    assert waits(MOST, 9, has_work=True)[-3:] == [8, 8, 8]
    assert Nodes().rejoin_grace_s > LONGEST_WITH_WORK_S


def test_a_link_that_held_begins_anew():
    backoff = Backoff(lambda: MOST)
    backoff.after_end(0.0)
    assert backoff.after_end(100.0) == pytest.approx(LONGEST_S, abs=0.001)
    assert backoff.after_end(130.0, held=True) == pytest.approx(FIRST_S, abs=0.001)
    assert backoff.after_end(140.0) == pytest.approx(10, abs=0.001)


def test_what_a_person_has_to_mend_is_asked_slowly():
    assert waits(0.0, 2, slow=True) == [15, 15]
    assert waits(MOST, 2, slow=True) == [30, 30]


def test_the_hub_is_given_what_it_asks_for_and_not_by_all_at_once():
    assert waits(0.0, 2, least_s=5.0) == [5, 7.5]
    assert waits(MOST, 2, least_s=5.0) == [10, 15]


@pytest.mark.parametrize("has_work", [False, True])
@pytest.mark.parametrize("outage_s", [0.0, 0.5, 2.0, 3.0, 5.0, 10.0, 30.0, 120.0])
def test_300_agents_come_back_without_a_peak(outage_s, has_work):
    jitter = random.Random(7).random
    back = sorted(first_try_after(outage_s, Backoff(jitter), has_work) for _ in range(300))
    width = back[-1] / 20
    bins = [sum(1 for at in back if n * width <= at < (n + 1) * width) for n in range(20)]
    assert max(bins) <= 3 * len(back) / 20
    assert back[-1] <= max(FIRST_S, min(outage_s, LONGEST_S))


def first_try_after(outage_s, backoff, has_work):
    """When an agent whose hub went at 0 tries for the first time after it is back, counted from then."""
    now = backoff.after_end(0.0, held=True, has_work=has_work)
    while now < outage_s:
        now += backoff.after_end(now, has_work=has_work)
    return now - outage_s
