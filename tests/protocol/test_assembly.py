"""Any split of deltas assembles the same, and what providers get wrong is repaired."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.protocol import assembly
from apexbridge_trio.protocol.assembly import Assembly, add_usage, total_tokens


def chunk(delta, index=0, finish=None, **head):
    return {"id": "c1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **head}


def build(*chunks):
    made = Assembly()
    for one in chunks:
        made.feed(one)
    return made.build()


def calls_of(*deltas):
    message = build(*(chunk({"tool_calls": [delta]}) for delta in deltas))["choices"][0]["message"]
    return [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message["tool_calls"]
    ]


@given(st.text(max_size=60), st.text(max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_any_split_of_the_text_gives_the_same_message(content, thought, places):
    def split(text):
        edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
        return [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]

    whole = build(
        chunk({"role": "assistant", "reasoning_content": thought, "content": content}),
        chunk({}, finish="stop"),
    )
    parts = [
        *(chunk({"reasoning_content": part}) for part in split(thought)),
        *(chunk({"content": part}) for part in split(content)),
        chunk({}, finish="stop"),
    ]
    assert build(chunk({"role": "assistant"}), *parts) == whole


@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=12), max_size=3).map(json.dumps),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(["index", "no index", "index 0"]),
)
def test_any_split_of_calls_with_any_index_fault_gives_the_same_calls(arguments, sizes, fault):
    deltas = []
    for number, text in enumerate(arguments):
        index = {"index": {"index": number}, "no index": {}, "index 0": {"index": 0}}[fault]
        deltas.append(
            index | {"id": f"call_{number}", "function": {"name": f"tool{number}", "arguments": ""}}
        )
        at, turn = 0, 0
        while at < len(text):
            size = sizes[turn % len(sizes)]
            deltas.append(index | {"function": {"arguments": text[at : at + size]}})
            at, turn = at + size, turn + 1
    expected = [(f"call_{number}", f"tool{number}", text) for number, text in enumerate(arguments)]
    assert calls_of(*deltas) == expected


def test_interleaved_calls_are_told_apart_by_index():
    got = calls_of(
        {"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}},
        {"index": 1, "id": "b", "function": {"name": "y", "arguments": "["}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "function": {"arguments": "]"}},
    )
    assert got == [("a", "x", "{}"), ("b", "y", "[]")]


def test_an_id_and_a_name_on_each_delta_are_one_call():
    delta = {"index": 0, "id": "a", "function": {"name": "x", "arguments": "1"}}
    assert calls_of(delta, delta) == [("a", "x", "11")]


def test_an_id_that_comes_late_belongs_to_the_call_at_its_index():
    got = calls_of(
        {"index": 0, "function": {"name": "x"}}, {"index": 0, "id": "a", "function": {"arguments": "{}"}}
    )
    assert got == [("a", "x", "{}")]


def test_calls_without_ids_get_some_and_objects_become_text():
    got = calls_of({"function": {"name": "x", "arguments": {"a": 1}}}, {"function": {"name": "y"}})
    assert got == [("call_0", "x", '{"a":1}'), ("call_1", "y", "{}")]


def test_an_id_without_name_or_known_index_begins_a_call():
    assert calls_of({"id": "a", "function": {"arguments": "{}"}}) == [("a", "", "{}")]


def test_several_choices_usage_logprobs_and_unknown_fields_are_kept():
    document = build(
        chunk({"content": "b", "audio": {"id": 1}}, index=1, model="m", usage=None),
        chunk({"content": "a"}, index=0),
        {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [1]}, "finish_reason": "stop"}]},
        chunk({}, index=1, finish="length", usage={"total_tokens": 3}),
    )
    assert [choice["message"]["content"] for choice in document["choices"]] == ["a", "b"]
    assert [choice["finish_reason"] for choice in document["choices"]] == ["stop", "length"]
    assert document["choices"][0]["logprobs"] == {"content": [1]}
    assert document["choices"][1]["message"]["audio"] == {"id": 1}
    assert document["usage"] == {"total_tokens": 3}
    assert document["object"] == "chat.completion"


def test_what_a_call_brings_beside_its_function_is_kept():
    signature = {"google": {"thought_signature": "s"}}
    message = build(
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "extra_content": signature}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "x", "arguments": "{", "strict": True}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
    )["choices"][0]["message"]
    assert message["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "x", "arguments": "{}", "strict": True},
            "extra_content": signature,
        }
    ]


def test_a_call_of_a_custom_tool_has_its_input():
    message = build(
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql"}}]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "SELECT"}}]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": " 1"}}]}),
        chunk(
            {
                "tool_calls": [
                    {"custom": {"name": "other"}},
                    {"type": "builtin_function", "function": {"name": "$s"}},
                ]
            }
        ),
    )["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
        {"id": "call_1", "type": "custom", "custom": {"name": "other", "input": ""}},
        {"id": "call_2", "type": "builtin_function", "function": {"name": "$s", "arguments": "{}"}},
    ]


def test_lists_are_joined_and_fields_of_a_choice_kept():
    (choice,) = build(
        chunk({"content": "a", "reasoning_details": [{"text": "t"}]}),
        chunk({"reasoning_details": [{"text": "u"}]}),
        {"choices": [{"delta": {}, "finish_reason": "stop", "native_finish_reason": "STOP", "none": None}]},
    )["choices"]
    assert choice["message"]["reasoning_details"] == [{"text": "t"}, {"text": "u"}]
    assert (choice["native_finish_reason"], "none" in choice) == ("STOP", False)


def test_knows_when_each_choice_is_finished():
    made = Assembly()
    assert not made.is_finished
    made.feed(chunk({"content": "a"}))
    assert not made.is_finished
    made.feed(chunk({}, finish="stop"))
    assert made.is_finished


def test_more_calls_than_anyone_runs_are_refused():
    calls = [{"id": f"c{n}", "function": {"name": "ping", "arguments": "{}"}} for n in range(129)]
    assert len(build(chunk({"tool_calls": calls[:-1]}))["choices"][0]["message"]["tool_calls"]) == 128
    with pytest.raises(UpstreamBroken, match="128 calls"):
        build(chunk({"tool_calls": calls}))


@pytest.mark.parametrize("usage", [None, [], "many", 5])
def test_usage_that_is_no_object_adds_nothing(usage):
    assert add_usage({"total_tokens": 3}, usage) == {"total_tokens": 3}


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "0123456789"},
        {"annotations": ["0123456789"]},
        {"tool_calls": [{"id": "a", "function": {"name": "x"}, "extra": "0123456789"}]},
    ],
)
def test_an_endless_answer_is_refused(monkeypatch, delta):
    monkeypatch.setattr(assembly, "MAX_ANSWER_BYTES", 50)
    made = Assembly()
    with pytest.raises(UpstreamBroken, match="larger than 50 bytes"):
        for _ in range(20):
            made.feed(chunk(delta))


def test_usage_is_summed_into_nested_details():
    one = {"total_tokens": 3, "details": {"cached": 1}, "note": "x", "none": None}
    two = {"total_tokens": 4, "details": {"cached": 2, "new": 5}, "note": "y"}
    assert add_usage(add_usage({}, one), two) == {
        "total_tokens": 7,
        "details": {"cached": 3, "new": 5},
        "note": "y",
    }
    assert add_usage({"a": 1}, None) == {"a": 1}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 6}, 6),
        ({"prompt_tokens": 3, "completion_tokens": 2}, 5),
        ({"prompt_tokens": 3, "total_tokens": 0}, 3),
        ({"total_tokens": "many"}, 0),
        ({"total_tokens": -5}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_what_an_answer_has_cost(usage: object, tokens: int) -> None:
    assert total_tokens(usage) == tokens
