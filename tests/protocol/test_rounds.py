"""What a whole answer means, and what is no answer."""

import json

import pytest

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.protocol.rounds import as_chunk, judge, read_document, without_calls


def document(*calls, content="hi"):
    message = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = list(calls)
    return {"id": "d", "choices": [{"message": message, "finish_reason": "stop"}]}


def call(name, call_id="a"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def test_whose_calls_they_are():
    ours = frozenset({"agenda"})
    assert judge(document(), ours).hub_calls == ()
    assert judge(document(call("mine")), ours).hub_calls == ()
    assert [one.function.name for one in judge(document(call("agenda")), ours).hub_calls] == ["agenda"]
    mixed = judge(document(call("agenda"), call("mine", "b")), ours)
    assert mixed.hub_calls == ()
    assert mixed.is_cut
    assert [one["id"] for one in mixed.message["tool_calls"]] == ["b"]
    assert judge(document(call("agenda")), frozenset()).hub_calls == ()


def test_what_goes_back_to_the_model_has_no_nulls_but_its_content():
    sent = document(SIGNED, content=None)
    sent["choices"][0]["message"] |= {"function_call": None, "refusal": None, "reasoning_content": "so"}
    assert judge(sent, frozenset({"mine"})).message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [SIGNED],
        "reasoning_content": "so",
    }


def test_rounds_used_up_leave_no_calls():
    ended = without_calls(document(call("agenda"), content=None))["choices"][0]
    assert ended == {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}


def test_a_document_without_calls_is_left_as_it_is():
    assert read_document(json.dumps(document()).encode()) == (document(), False)


SIGNED = {**call("mine"), "extra_content": {"google": {"thought_signature": "s"}}}
CUSTOM = {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}


@pytest.mark.parametrize("calls", [(call("mine"),), (SIGNED,), (CUSTOM,), (SIGNED, CUSTOM)])
def test_calls_that_are_in_order_are_left_as_they_are(calls):
    sent = document(*calls)
    assert read_document(json.dumps(sent).encode()) == (sent, False)
    assert judge(sent, frozenset({"agenda"})).hub_calls == ()


@pytest.mark.parametrize(
    "fault", [{"id": ""}, {"type": None}, {"function": {"name": "mine", "arguments": ""}}]
)
def test_what_a_repair_does_not_know_stays(fault):
    sent = document({**SIGNED, **fault}, CUSTOM)
    sent["choices"][0] |= {"native_finish_reason": "TOOL", "logprobs": {"content": [1]}}
    repaired, is_repaired = read_document(json.dumps(sent).encode())
    assert is_repaired
    (choice,) = repaired["choices"]
    assert choice["native_finish_reason"] == "TOOL"
    mine, custom = choice["message"]["tool_calls"]
    assert mine == SIGNED | ({"id": "call_0"} if fault.get("id") == "" else {})
    assert custom == CUSTOM


def test_calls_in_a_document_are_repaired():
    odd = {"function": {"name": "mine", "arguments": {"a": 1}}}
    repairs, is_repaired = read_document(json.dumps(document(odd)).encode())
    (repaired,) = repairs["choices"][0]["message"]["tool_calls"]
    assert is_repaired
    assert repaired == {
        "id": "call_0",
        "type": "function",
        "function": {"name": "mine", "arguments": '{"a":1}'},
    }


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[]", "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "no choices"),
        (b'{"choices":[]}', "no choices"),
        (b'{"choices":{}}', "OpenAI's form.*choices"),
        (b'{"choices":[3]}', "OpenAI's form.*choices"),
        (b'{"choices":[{"message":{},"logprobs":{"content":5}}]}', "OpenAI's form.*content"),
        (b'{"choices":[{"index":"a","message":{}}]}', "OpenAI's form.*index"),
        (b'{"choices":[{"index":128,"message":{}}]}', "OpenAI's form.*index"),
        (b'{"choices":[{"message":{"tool_calls":"x"}}]}', "OpenAI's form.*tool_calls"),
        (b'{"choices":[{"message":{"tool_calls":[{"id":5}]}}]}', "OpenAI's form.*id"),
        (b'{"choices":[{"message":{"tool_calls":[{"function":{"name":[1]}}]}}]}', "OpenAI's form.*name"),
        (b'{"choices":[{"message":null}]}', "without a message"),
        (b'{"error":{"message":"overloaded"}}', "overloaded"),
    ],
)
def test_what_is_no_answer(body, why):
    with pytest.raises(UpstreamBroken, match=why):
        read_document(body)


def test_a_document_is_one_chunk():
    (choice,) = as_chunk(document(call("mine"), content=None))["choices"]
    assert choice["delta"] == {"role": "assistant", "tool_calls": [call("mine")]}
    assert choice["index"] == 0
