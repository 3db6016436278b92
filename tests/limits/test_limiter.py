"""The meters of the hub, by the numbers of the configuration as they are now."""

from typing import Any

import pytest

from apexbridge_trio.config import KeyLimits, Limits
from apexbridge_trio.errors import HubFull, QuotaUsed, TooMany
from apexbridge_trio.limits import DAY_S, Asker, Kind, Limiter

KEY, OTHER, ADDRESS = Asker("key"), Asker("other"), Asker("192.0.2.7", has_key=False)
KINDS: list[Kind] = ["chat", "callback", "control"]


def limiter(**limits: Any) -> Limiter:
    return Limiter(Limits(**limits))


def taken(one: Limiter, asker: Asker, kind: Kind, now: float = 0.0, most: int = 100) -> int:
    """How many may be taken at once."""
    number = 0
    while number < most and (standing := one.take(asker, kind, now)) and not standing.wait_s:
        number += 1
    return number


def test_each_kind_and_each_key_has_its_own() -> None:
    one = limiter(chats_per_minute=3, callbacks_per_minute=4, control_per_minute=5, keyless_per_minute=6)
    assert [taken(one, KEY, kind) for kind in KINDS] == [3, 4, 5]
    assert [taken(one, OTHER, kind) for kind in KINDS] == [3, 4, 5]
    assert [taken(one, ADDRESS, kind) for kind in KINDS] == [6, 6, 6]
    assert [taken(one, KEY, kind, 60.0) for kind in KINDS] == [3, 4, 5]


def test_zero_is_no_limit() -> None:
    one = limiter(chats_per_minute=0, callbacks_per_minute=0, control_per_minute=0, keyless_per_minute=0)
    assert [one.take(asker, kind, 0.0) for asker in (KEY, ADDRESS) for kind in KINDS] == [None] * 6


def test_a_key_may_have_numbers_of_its_own() -> None:
    own = KeyLimits(chats_per_minute=1, callbacks_per_minute=2, control_per_minute=0)
    one = limiter(keys={"key": own}, chats_per_minute=5)
    assert (taken(one, KEY, "chat"), taken(one, KEY, "callback")) == (1, 2)
    assert one.take(KEY, "control", 0.0) is None
    assert taken(one, OTHER, "chat") == 5


def test_other_numbers_count_at_once_and_what_was_used_stays_used() -> None:
    one = limiter(chats_per_minute=10)
    assert [one.take(KEY, "chat", 0.0).remaining for _ in range(4)] == [9, 8, 7, 6]  # type: ignore[union-attr]
    one.replace(Limits(chats_per_minute=5, wrong_keys_per_minute=7))
    assert taken(one, KEY, "chat") == 1
    assert one.strikes.per_minute == 7
    one.replace(Limits(chats_per_minute=20))
    assert taken(one, KEY, "chat") == 15


def test_chats_in_flight_are_bounded_and_left_with_the_block() -> None:
    one = limiter(concurrent_chats=2, concurrent_streams=1)
    with one.hold_chat("key", is_stream=True, now=0.0):
        with pytest.raises(TooMany, match="1 streams in flight"):
            one.hold_chat("key", is_stream=True, now=0.0)
        with one.hold_chat("key", is_stream=False, now=0.0) as held:
            with pytest.raises(TooMany, match="2 chats in flight") as refused:
                one.hold_chat("key", is_stream=False, now=0.0)
            assert (refused.value.code, refused.value.should_retry) == ("too_many_in_flight", True)
            assert (one.held("chats"), one.held("streams")) == (2, 1)
            with one.hold_chat("other", is_stream=True, now=0.0):
                assert one.held("streams") == 2
            held.release()
            held.release()
            assert one.held("chats") == 1
    assert (one.held("chats"), one.held("streams"), len(one._held)) == (0, 0, 0)


def test_a_place_is_left_whatever_ends_the_block() -> None:
    one = limiter(concurrent_chats=1)
    with pytest.raises(KeyboardInterrupt), one.hold_chat("key", is_stream=False, now=0.0):
        raise KeyboardInterrupt
    assert one.held("chats") == 0


def test_a_place_is_taken_over_once() -> None:
    one = limiter()
    with one.hold_chat("key", is_stream=False, now=0.0) as held:
        later = held.taken_over()
    assert one.held("chats") == 1
    with later:
        assert one.held("chats") == 1
    assert one.held("chats") == 0


def test_no_limit_still_counts() -> None:
    one = limiter(concurrent_chats=0, concurrent_streams=0, channels_per_key=0)
    held = [one.hold_chat("key", is_stream=True, now=0.0) for _ in range(1000)]
    held += [one.hold_channel("key") for _ in range(1000)]
    one.replace(Limits(concurrent_chats=1, concurrent_streams=1, channels_per_key=1))
    with pytest.raises(TooMany):
        one.hold_chat("key", is_stream=False, now=0.0)
    with pytest.raises(HubFull):
        one.hold_channel("key")
    for place in held:
        place.release()
    one.hold_chat("key", is_stream=True, now=0.0).release()


def test_channels_are_bounded() -> None:
    one = limiter(channels_per_key=1, keys={"other": KeyLimits(channels=2)})
    with one.hold_channel("key"), one.hold_channel("other"), one.hold_channel("other"):
        for key in ("key", "other"):
            with pytest.raises(HubFull) as refused:
                one.hold_channel(key)
            assert refused.value.status == 503
    assert one.held("channels") == 0


def test_tokens_of_a_day() -> None:
    one = limiter(tokens_per_day=100, keys={"other": KeyLimits(tokens_per_day=0)})
    spend = one.spender("key")
    assert spend is not None
    spend(99, 10.0)
    one.hold_chat("key", is_stream=False, now=11.0).release()
    spend(50, 12.0)  # what was begun below it may go over it
    with pytest.raises(QuotaUsed) as refused:
        one.hold_chat("key", is_stream=False, now=13.0)
    assert refused.value.retry_after_s == DAY_S - 3
    assert (refused.value.status, refused.value.type) == (429, "rate_limit_error")
    assert not refused.value.should_retry
    assert one.held("chats") == 0
    assert one.spender("other") is None
    one.use_tokens("other", 1000, 13.0)
    one.hold_chat("other", is_stream=False, now=13.0).release()
    one.hold_chat("key", is_stream=False, now=10.0 + DAY_S).release()


def test_a_higher_number_of_tokens_counts_at_once() -> None:
    one = limiter(tokens_per_day=100)
    one.use_tokens("key", 150, 0.0)
    one.replace(Limits(tokens_per_day=200))
    one.hold_chat("key", is_stream=False, now=1.0).release()
    one.replace(Limits(tokens_per_day=150))
    with pytest.raises(QuotaUsed):
        one.hold_chat("key", is_stream=False, now=1.0)
    one.replace(Limits())
    one.hold_chat("key", is_stream=False, now=1.0).release()
