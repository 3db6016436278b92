"""Rates and allowances; time is an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.limits import DAY_S, Allowance, Rate


def test_a_minutes_worth_at_once_and_then_one_at_a_time() -> None:
    rate = Rate(60)
    assert [rate.take(100.0) for _ in range(60)] == [0.0] * 60
    assert rate.take(100.0) == pytest.approx(1.0)
    assert rate.take(100.5) == pytest.approx(0.5)
    assert rate.take(101.0) == 0.0
    assert rate.take(101.0) == pytest.approx(1.0)


@given(st.integers(1, 1000), st.lists(st.floats(0, 10), max_size=300))
def test_never_more_than_the_rate_and_one_burst(per_minute: int, gaps: list[float]) -> None:
    rate, now, taken = Rate(per_minute), 0.0, 0
    for gap in gaps:
        now += gap
        taken += rate.take(now) == 0.0
    assert taken <= per_minute + now * per_minute / 60 + 1


def test_who_waits_as_told_gets_one() -> None:
    rate = Rate(7)
    now = 0.0
    for _ in range(100):
        if wait := rate.take(now):
            now += wait
            assert rate.take(now) == 0.0


def test_an_allowance_is_for_a_day() -> None:
    allowance = Allowance(10)
    assert allowance.is_left(0.0)
    allowance.use(9, 0.0)
    assert allowance.is_left(1.0)
    allowance.use(9, 1.0)
    assert not allowance.is_left(2.0)
    assert not allowance.is_left(DAY_S - 1)
    assert allowance.is_left(DAY_S)
    allowance.use(10, DAY_S)
    assert not allowance.is_left(DAY_S + 1)
