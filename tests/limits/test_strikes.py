"""Wrong keys slow their address, and never a right key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.limits import MOST_METERS, Strikes

HOME, AWAY = "192.0.2.7", "198.51.100.1"


def slowed(per_minute: int = 5) -> Strikes:
    """After a device of the household has come with an old key until it was slowed."""
    strikes = Strikes(per_minute)
    strikes.right("right")
    for _ in range(per_minute):
        assert strikes.wait_s(HOME, "old", 0.0) == 0.0
        strikes.wrong(HOME, 0.0, "old")
    return strikes


def test_an_address_is_slowed_after_so_many() -> None:
    strikes = slowed()
    assert strikes.wait_s(HOME, "another", 0.0) == pytest.approx(12.0)
    assert strikes.quiet_s(HOME, 0.0) == pytest.approx(12.0)
    assert strikes.wait_s(HOME, "another", 12.0) == 0.0
    assert strikes.quiet_s(HOME, 12.0) == 0.0


def test_another_address_is_not() -> None:
    assert slowed().wait_s(AWAY, "another", 0.0) == 0.0
    assert slowed().quiet_s(AWAY, 0.0) == 0.0


def test_a_key_that_was_right_before_is_served() -> None:
    assert slowed().wait_s(HOME, "right", 0.0) == 0.0


def test_a_key_that_was_right_before_and_is_wrong_now_is_as_any_other() -> None:
    """A device whose key was revoked asks every second, for ever."""
    strikes = slowed()
    strikes.wrong(HOME, 0.0, "right")
    assert strikes.wait_s(HOME, "right", 0.0) > 0.0


def test_the_key_that_was_wrong_last_takes_no_turn_of_others() -> None:
    """A device with an old key asks for ever; a new device of the same house gets its turn."""
    strikes = slowed()
    assert strikes.wait_s(HOME, "old", 13.0) == pytest.approx(12.0)
    assert strikes.wait_s(HOME, "new", 13.0) == 0.0


def test_a_minute_without_wrong_keys_and_all_is_forgotten() -> None:
    strikes = slowed()
    assert strikes.wait_s(HOME, "old", 59.0) > 0.0
    assert strikes.wait_s(HOME, "old", 60.0) == 0.0
    strikes.wrong(HOME, 60.0, "old")
    assert strikes.wait_s(HOME, "old", 60.0) == 0.0


def test_a_right_key_is_forgotten_when_very_many_others_were_right() -> None:
    strikes = slowed()
    for number in range(MOST_METERS):
        strikes.right(f"key {number}")
    assert strikes.wait_s(HOME, "right", 0.0) > 0.0
    assert strikes.wait_s(HOME, f"key {MOST_METERS - 1}", 0.0) == 0.0


def test_another_number_counts_at_once() -> None:
    strikes = slowed()
    strikes.per_minute = 0
    assert strikes.wait_s(HOME, "another", 0.0) == 0.0
    strikes.wrong(HOME, 0.0, "another")
    assert len(strikes) == 1
    strikes.per_minute = 10
    assert strikes.wait_s(HOME, "another", 0.0) == 0.0  # five of ten


def test_none_is_counted_with_no_limit() -> None:
    strikes = Strikes(0)
    for _ in range(100):
        strikes.wrong(HOME, 0.0, "old")
    assert len(strikes) == 0
    assert strikes.wait_s(HOME, "old", 0.0) == 0.0


def test_a_key_with_half_a_character_is_a_key() -> None:
    strikes = slowed()
    assert strikes.wait_s(HOME, "\ud800", 0.0) > 0.0


@given(st.integers(1, 30), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), max_size=200))
def test_a_guesser_has_no_more_than_the_rate(per_minute: int, tries: list[tuple[float, int]]) -> None:
    strikes, now, looked_up = Strikes(per_minute), 0.0, 0
    for gap, key in tries:
        now += gap
        if not strikes.wait_s(HOME, f"guess {key}", now):
            looked_up += 1
            strikes.wrong(HOME, now, f"guess {key}")
        assert strikes.wait_s(AWAY, "any", now) == 0.0
    assert looked_up <= per_minute + now * per_minute / 60 + 1
