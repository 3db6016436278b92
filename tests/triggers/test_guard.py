"""How often, how deep, and what a text says: without a hub, and time is an argument."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.identity import Principal
from apexbridge_trio.protocol.happened import FIELDS
from apexbridge_trio.triggers.depth import depth_of, principal_of
from apexbridge_trio.triggers.guard import HOUR_S, Guard
from apexbridge_trio.triggers.happening import MOST_CHARS, Happening
from tests.triggers.test_triggers import trigger

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
SEEN = Happening.of(
    "alert", Principal("a"), {"message": "水 {level}", "level": "info", "n": 7, "late": True}, 0
)


@given(st.lists(st.floats(0, 10_000), max_size=400).map(sorted), st.integers(1, 5))
def test_never_more_than_so_many_in_an_hour_from_the_first_and_one_word_of_it(
    times: list[float], most: int
) -> None:
    guard, hours = Guard(most), dict[float, list[str]]()
    for now in times:
        word = guard.take(now)
        hours.setdefault(guard.until, []).append(word)
        assert guard.is_muted(now) == (word != "fire")
    for words in hours.values():
        rest = len(words) - most
        assert words == [
            *["fire"] * min(most, len(words)),
            *["just muted"] * (rest > 0),
            *["muted"] * (rest - 1),
        ]


def test_a_clock_that_is_put_back_mutes_nobody_for_longer() -> None:
    guard = Guard(1)
    assert [guard.take(1e9), guard.take(1e9)] == ["fire", "just muted"]
    assert not guard.is_muted(1e9 - 2 * HOUR_S)
    assert guard.take(1e9 - 2 * HOUR_S) == "fire"


def test_the_depth_is_in_the_name_and_no_key_can_claim_it() -> None:
    one = trigger("a.b-c", on="alert", tenant="t", family="f")
    for depth in range(4):
        owner = principal_of(one, depth)
        assert (depth_of(owner), owner.tenant_id, owner.family_id, owner.scopes) == (
            depth,
            "t",
            "f",
            frozenset({"chat"}),
        )
    for other in ("local", "hub", "4669052471ce7bab", "trigger", "trigger:x:y", ""):
        assert depth_of(Principal(other)) == 0


@pytest.mark.parametrize("kind", FIELDS)
def test_an_event_that_is_made_up_fits_and_has_every_field(kind: str) -> None:
    name, field = next(iter(FIELDS[kind].items()))
    one = trigger(on=kind, when={name: [field[-1] if isinstance(field, tuple) else "x"]})
    seen = Happening.made_up(one, 0)
    assert seen.fits(one)
    assert seen.is_for(one)
    assert seen.fields.keys() == FIELDS[kind].keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{message}", "水 {level}"),
        ("{n} {late} {level}{nodeId}!", "7 true info!"),
        ("{event} {tenant} {at}", "alert default 1970-01-01T00:00:00.000+00:00"),
        ("{{level}} { level } {} {1}", "{{level}} { level } {} {1}"),
        ('{"a": "{level}"}', '{"a": "info"}'),
    ],
)
def test_what_a_text_says(text: str, said: str) -> None:
    assert SEEN.fill(text) == said


def test_an_argument_that_is_only_a_field_is_the_value_itself() -> None:
    wanted = {"a": "{n}", "b": ["{late}", "{n}!", 3, None], "c": {"d": "{nodeId}"}}
    assert SEEN.fill_all(wanted) == {"a": 7, "b": [True, "7!", 3, None], "c": {"d": None}}


@given(st.dictionaries(st.text(max_size=9), JSON | st.text(max_size=5000), max_size=9), st.text(max_size=50))
def test_whatever_an_event_holds_it_is_read_and_bounded(data: dict[str, Any], text: str) -> None:
    seen = Happening.of("alert", Principal("a"), data, 0)
    assert all(len(value) <= MOST_CHARS for value in seen.data.values() if isinstance(value, str))
    for name in data:
        seen.fill(text + "{" + name + "}")
