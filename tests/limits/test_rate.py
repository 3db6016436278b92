"""Rates and allowances; time is an argument."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apexbridge_trio.limits import DAY_S, Allowance, Rate, Standing


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


@given(st.integers(1, 10_000), st.floats(0, 1e8), st.integers(0, 200))
@example(173, 67_108_854.0, 172)  # what 172 steps leave, after two years
def test_what_is_left_is_what_can_be_taken(per_minute: int, now: float, taken: int) -> None:
    rate = Rate(per_minute)
    for number in range(min(taken, per_minute)):
        assert rate.ask(now).remaining == per_minute - number - 1
    left = rate.remaining(now)
    assert left == max(0, per_minute - taken)
    assert (rate.wait_s(now) == 0.0) == (left > 0)


def test_it_says_how_one_stands() -> None:
    rate = Rate(2)
    assert rate.ask(10.0) == Standing(limit=2, remaining=1, full_at=40.0, wait_s=0.0)
    assert rate.ask(10.0) == Standing(limit=2, remaining=0, full_at=70.0, wait_s=0.0)
    assert rate.ask(10.0) == Standing(limit=2, remaining=0, full_at=70.0, wait_s=30.0)
    assert rate.ask(40.0) == Standing(limit=2, remaining=0, full_at=100.0, wait_s=0.0)


def test_who_waits_as_told_gets_one() -> None:
    rate = Rate(7)
    now = 0.0
    for _ in range(100):
        if wait := rate.take(now):
            now += wait
            assert rate.take(now) == 0.0


def test_another_rate_keeps_what_was_taken() -> None:
    rate = Rate(60)
    for _ in range(20):
        rate.take(5.0)
    rate.retune(30, 5.0)
    assert rate.remaining(5.0) == 10
    rate.retune(30, 5.0)
    assert rate.remaining(5.0) == 10
    rate.retune(100, 5.0)
    assert rate.remaining(5.0) == 80
    rate.retune(10, 5.0)  # twenty were taken, and there are only ten
    assert rate.remaining(5.0) == 0
    assert rate.wait_s(5.0) == pytest.approx(6.0)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 1000))
def test_a_change_and_back_gives_nothing_away(first: int, second: int, taken: int) -> None:
    rate = Rate(first)
    for _ in range(min(taken, first)):
        rate.take(0.0)
    before = rate.remaining(0.0)
    rate.retune(second, 0.0)
    assert rate.remaining(0.0) == max(0, second - min(taken, first))
    rate.retune(first, 0.0)
    assert rate.remaining(0.0) >= before  # a lower one has forgotten what it has no place for


def test_an_allowance_is_for_a_day() -> None:
    allowance = Allowance(10)
    assert allowance.is_left(0.0)
    allowance.use(9, 0.0)
    assert allowance.is_left(1.0)
    allowance.use(9, 1.0)
    assert not allowance.is_left(2.0)
    assert allowance.wait_s(2.0) == DAY_S - 2
    assert not allowance.is_left(DAY_S - 1)
    assert allowance.is_left(DAY_S)
    allowance.use(10, DAY_S)
    assert not allowance.is_left(DAY_S + 1)
    allowance.per_day = 11
    assert allowance.is_left(DAY_S + 1)
