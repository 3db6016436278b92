"""RFC 7396 as its own examples have it, and masks that stand for what is there."""

from typing import Any

import pytest

from apexbridge_trio.config.patch import MAX_DEPTH, depth_of, masks_in, merged, nulls_in, unmasked


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge(target: Any, patch: Any, result: Any) -> None:
    before = repr(target)
    assert merged(target, patch) == result
    assert repr(target) == before


def test_depth_is_bounded_whatever_is_brought() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = {"a": deep}
    assert depth_of(deep) == MAX_DEPTH + 1
    several: list[Any] = [1, {}, {"a": 1}, {"a": [{}]}, {"a": [{"b": 1}]}]
    assert [depth_of(one) for one in several] == [0, 0, 1, 2, 3]


def test_nulls_are_named() -> None:
    assert list(nulls_in({"a": [{"b": None}], "c": 1})) == [("a", 0, "b")]


def test_a_mask_is_what_is_there_whatever_the_order() -> None:
    present = {"upstreams": [{"name": "a", "headers": {"X": "1"}}, {"name": "b", "headers": {"X": "2"}}]}
    wanted = {
        "upstreams": [
            {"name": "b", "headers": {"X": "***", "Y": "3"}},
            {"name": "c", "headers": {"X": "***"}},
        ]
    }
    filled = unmasked(wanted, present)
    assert filled == {
        "upstreams": [{"name": "b", "headers": {"X": "2", "Y": "3"}}, {"name": "c", "headers": {"X": "***"}}]
    }
    assert list(masks_in(filled)) == [("upstreams", 1, "headers", "X")]


def test_an_address_without_its_path_is_what_is_there() -> None:
    mcp = [{"name": "a", "url": "https://h/s/one"}, {"name": "b", "url": "https://h/s/two"}]
    present = {"plugins": {"mcp": mcp}, "triggers": [{"name": "a", "url": "https://h/hook"}]}
    shown = [{"name": name, "url": "https://h/***"} for name in "ba"]
    wanted = {"plugins": {"strict": True, "mcp": shown}, "triggers": shown}
    filled = unmasked(wanted, present)
    assert filled["plugins"] == {"strict": True, "mcp": mcp[::-1]}
    assert filled["triggers"][1]["url"] == "https://h/hook"
    assert list(masks_in(filled)) == [("triggers", 0, "url")]


@pytest.mark.parametrize("wanted", [{"plugins": 3}, {"plugins": {"mcp": 3}}, {"triggers": [3]}])
def test_addresses_in_what_is_no_config_are_left_to_who_checks_it(wanted: Any) -> None:
    assert unmasked(wanted, {"plugins": 3, "triggers": [3]}) == wanted


@pytest.mark.parametrize("wanted", [{"upstreams": 3}, {"upstreams": [3, {"headers": 3}]}, {"a": 1}, 3, None])
def test_what_is_no_config_is_left_to_who_checks_it(wanted: Any) -> None:
    assert unmasked(wanted, {"upstreams": [{"name": {}, "headers": {"X": "1"}}]}) == wanted
