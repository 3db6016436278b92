"""What the client of a stream reads, whatever the provider sends and however it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import DeadlinePassed, UpstreamBroken
from apexbridge_trio.protocol.sse import DONE, payloads
from apexbridge_trio.protocol.stream import ClientStream


def provider(
    *deltas, answer_id="up-1", created=7, finish="stop", usage=None, done=True, spaced=False, line_end="\n"
):
    separators = None if spaced else (",", ":")
    events = []
    for number, delta in enumerate([*deltas, None]):
        choice = {"index": 0, "delta": delta or {}, "finish_reason": finish if delta is None else None}
        if delta is None and finish is None:
            continue
        head = {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": "m"}
        events.append(json.dumps(head | {"choices": [choice]}, separators=separators, ensure_ascii=False))
        assert number >= 0
    if usage:
        events.append(json.dumps({"id": answer_id, "created": created, "choices": [], "usage": usage}))
    events += ["[DONE]"] if done else []
    return "".join(f"data: {event}\n\n" for event in events).replace("\n", line_end).encode()


def text(*parts):
    return [{"role": "assistant", "content": ""}, *({"content": part} for part in parts)]


def new_stream(**options):
    hub_tools = options.pop("hub_tools", frozenset())
    stream = ClientStream("own-id", 99, "own-model", **options)
    stream.hub_tools = hub_tools
    return stream


def read(stream, parts):
    shown = b"".join(stream.feed(part) for part in parts)
    rest, came = stream.close_round()
    return shown + rest, came


def events(shown):
    assert shown.endswith(DONE)
    assert shown.count(b"[DONE]") == 1
    assert all(line.startswith(b"data: ") or not line for line in shown.split(b"\n"))
    return [json.loads(payload) for payload in payloads(shown)[:-1]]


def content(shown):
    return "".join(
        choice["delta"].get("content") or "" for event in events(shown) for choice in event.get("choices", ())
    )


def call(index, call_id=None, name=None, arguments=""):
    function = {"arguments": arguments} | ({"name": name} if name else {})
    place = {} if index is None else {"index": index}
    return {"tool_calls": [place | ({"id": call_id} if call_id else {}) | {"function": function}]}


@given(
    st.lists(st.text(min_size=1, max_size=12), max_size=8),
    st.lists(st.integers(0, 5000), max_size=10),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_chunking_gives_the_same_events(parts, places, spaced, line_end):
    raw = provider(*text(*parts), spaced=spaced, line_end=line_end)
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    cuts = [raw[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    stream = new_stream()
    shown, _ = read(stream, cuts)
    shown += stream.end()
    assert content(shown) == "".join(parts)
    assert {event["id"] for event in events(shown)} == {"up-1"}
    assert events(shown)[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events(shown)[-1]["choices"][0]["finish_reason"] == "stop"


def test_plain_blocks_are_passed_on_byte_for_byte():
    raw = provider(*text("a"), finish=None, done=False)
    stream = new_stream()
    stream.feed(raw)
    block = (
        raw.replace(b'"content":"a"', '"content":"你 data: \\"tool_calls\\""'.encode()).split(b"\n\n")[1]
        + b"\n\n"
    )
    assert stream.feed(block * 3) is not None
    assert stream.feed(block) is block


@pytest.mark.parametrize("colon", [b":", b": ", b" :", b"\t:\t"])
def test_an_end_is_seen_however_it_is_spaced(colon):
    stream = new_stream(wants_usage=True)
    shown = stream.feed(provider(*text("a"), finish=None, done=False))
    shown += stream.feed(
        b'data: {"id":"up-1","created":7,"choices":[{"index":0,"delta":{},"finish_reason"%b"stop"}]}\n\n'
        % colon
    )
    shown += stream.feed(
        b'data: {"id":"up-1","created":7,"choices":[],"usage"%b{"total_tokens":5}}\n\n' % colon
    )
    shown += stream.feed(b"data: [DONE]\n\n")
    stream.close_round()
    heard = events(shown + stream.end())
    ends = [choice["finish_reason"] for event in heard for choice in event["choices"]]
    assert [end for end in ends if end] == ["stop"]
    assert [event["usage"]["total_tokens"] for event in heard if event.get("usage")] == [5]


def test_a_missing_role_id_and_model_are_added():
    stream = new_stream()
    shown, _ = read(stream, [b'data:{"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'])
    first, last = events(shown + stream.end())
    assert first["choices"][0] == {
        "delta": {"content": "x", "role": "assistant"},
        "index": 0,
        "finish_reason": None,
    }
    assert (first["id"], first["created"], first["model"]) == ("own-id", 99, "own-model")
    assert last["choices"][0]["finish_reason"] == "stop"


def test_a_provider_that_changes_its_id_is_given_one():
    stream = new_stream()
    raw = provider(*text("a"), finish=None, done=False) + provider(*text("b"), answer_id="up-2", created=8)
    shown, _ = read(stream, [raw])
    shown += stream.end()
    assert {(event["id"], event["created"]) for event in events(shown)} == {("up-1", 7)}
    assert content(shown) == "ab"


def test_usage_is_told_once_when_asked_and_says_the_rounds():
    usage = {"total_tokens": 5}
    quiet, asked = new_stream(), new_stream(wants_usage=True)
    shown, _ = read(quiet, [provider(*text("a"), usage=usage)])
    assert not [event for event in events(shown + quiet.end()) if event.get("usage")]
    shown, _ = read(asked, [provider(*text("a"), usage=usage)])
    last = events(shown + asked.end())[-1]
    assert (last["choices"], last["usage"], last["apex"]) == ([], usage, {"rounds": 1})


def test_calls_of_a_client_get_an_integer_index_whatever_was_sent():
    deltas = [
        {"role": "assistant"},
        call(None, "a", "mine", "{"),
        call(None, None, None, "}"),
        call(None, "b", "mine", "{}"),
    ]
    stream = new_stream()
    shown, _ = read(stream, [provider(*deltas, finish="tool_calls")])
    shown += stream.end()
    sent = [c for event in events(shown) for c in event["choices"][0]["delta"].get("tool_calls", ())]
    assert [(c["index"], c.get("id"), c["function"]["arguments"]) for c in sent] == [
        (0, "a", "{"),
        (0, None, "}"),
        (1, "b", "{}"),
    ]
    assert events(shown)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_of_the_hub_are_not_shown_and_the_next_round_goes_on_with_one_id():
    stream = new_stream(hub_tools=frozenset({"agenda"}), wants_usage=True)
    first = provider(
        *text("let me see "), call(0, "a", "agenda", "{}"), finish="tool_calls", usage={"total_tokens": 2}
    )
    shown, came = read(stream, [first])
    assert [(one.id, one.function.name) for one in came.hub_calls] == [("a", "agenda")]
    assert came.message["content"] == "let me see "
    stream.next_round()
    second = provider(
        *text("free"), "x" and {"content": " today"}, answer_id="up-2", created=9, usage={"total_tokens": 3}
    )
    more, came = read(stream, [second[:80], second[80:]])
    assert came.hub_calls == ()
    shown += more + stream.end()
    assert content(shown) == "let me see free today"
    assert {(event["id"], event["created"]) for event in events(shown)} == {("up-1", 7)}
    assert [e["choices"][0]["finish_reason"] for e in events(shown) if e["choices"]][-1] == "stop"
    assert sum("role" in c["delta"] for e in events(shown) for c in e["choices"]) == 1
    assert events(shown)[-1]["usage"] == {"total_tokens": 5}
    assert events(shown)[-1]["apex"] == {"rounds": 2}


def test_a_plain_block_of_a_later_round_gets_the_answers_id_by_its_bytes():
    stream = new_stream(hub_tools=frozenset({"agenda"}))
    read(stream, [provider({"role": "assistant"}, call(0, "a", "agenda", "{}"), finish="tool_calls")])
    stream.next_round()
    raw = provider(*text("one", "two"), answer_id="up-2", created=9, spaced=True)
    shown = [stream.feed(event + b"\n\n") for event in raw.split(b"\n\n")[:3]]
    assert b'"id":"up-1"' in shown[2]
    assert b'"created":7' in shown[2]


def test_a_mixed_round_shows_the_clients_calls_alone():
    stream = new_stream(hub_tools=frozenset({"agenda"}))
    deltas = [{"role": "assistant"}, call(0, "a", "agenda", "{}"), call(1, "b", "mine", "{}")]
    shown, came = read(stream, [provider(*deltas, finish="tool_calls")])
    assert came.hub_calls == ()
    shown += stream.end()
    sent = [c for event in events(shown) for c in event["choices"][0]["delta"].get("tool_calls", ())]
    assert [(c["index"], c["id"], c["function"]["name"]) for c in sent] == [(0, "b", "mine")]


def test_rounds_used_up_end_the_answer_with_a_reason():
    stream = new_stream(hub_tools=frozenset({"agenda"}))
    shown, _ = read(
        stream, [provider({"role": "assistant"}, call(0, "a", "agenda", "{}"), finish="tool_calls")]
    )
    assert events(shown + stream.end("length"))[-1]["choices"][0]["finish_reason"] == "length"


def test_several_choices_each_begin_and_end():
    stream = new_stream(many=True)
    raw = b""
    for finish in (None, "stop"):
        for index in (0, 1):
            delta = {} if finish else {"content": str(index)}
            choice = {"index": index, "delta": delta, "finish_reason": finish}
            raw += b"data: " + json.dumps({"id": "x", "created": 1, "choices": [choice]}).encode() + b"\n\n"
    shown, _ = read(stream, [raw])
    heard = events(shown + stream.end())
    assert [e["choices"][0]["index"] for e in heard] == [0, 1, 0, 1]
    assert [e["choices"][0]["finish_reason"] for e in heard] == [None, None, "stop", "stop"]
    assert all(e["choices"][0]["delta"]["role"] == "assistant" for e in heard[:2])


def test_a_document_is_told_as_a_stream():
    stream = new_stream()
    message = {"role": "assistant", "content": "hello", "refusal": None}
    shown = stream.feed_document(
        {"id": "d", "created": 3, "choices": [{"message": message, "finish_reason": "stop"}]}
    )
    rest, _ = stream.close_round()
    assert content(shown + rest + stream.end()) == "hello"


def test_a_document_with_calls_of_the_hub_leads_to_another_round():
    stream = new_stream(hub_tools=frozenset({"agenda"}))
    calls = [{"id": "a", "type": "function", "function": {"name": "agenda", "arguments": "{}"}}]
    stream.feed_document(
        {
            "id": "d",
            "choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}],
        }
    )
    assert stream.close_round()[1].hub_calls[0].id == "a"


def test_the_last_event_may_lack_its_blank_line():
    stream = new_stream()
    raw = provider(*text("a"))
    shown, _ = read(stream, [raw[:-2]])
    assert content(shown + stream.end()) == "a"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "in the middle"),
        (b"data: [DONE]\n\n", "in the middle"),
        (provider(*text("a"), finish=None, done=False), "in the middle"),
        (provider(*text("你"), finish=None, done=False)[:-12], "not JSON"),
        (b"data: garbage\n\n", "not JSON"),
        (b"data: [1]\n\n", "not JSON"),
        (b"<html>\n\n", "in the middle"),
        (b'data: {"error":{"message":"overloaded"}}\n\n', "overloaded"),
        (b'data: {"error":"no"}\n\n', "no"),
        (b'data: {"choices":[5]}\n\n', "OpenAI's form"),
        (b'data: {"choices":[{"delta":{"tool_calls":[5]}}]}\n\n', "OpenAI's form"),
        (b'data: {"choices":[{"delta":5}]}\n\n', "OpenAI's form"),
        (b'data: {"choices":[{"delta":"abc"}]}\n\n', "OpenAI's form"),
        (b'data: {"choices":[{"index":"x"}]}\n\n', "OpenAI's form"),
        (b'data: {"choices":[{"finish_reason":5}]}\n\n', "OpenAI's form"),
    ],
)
def test_a_broken_stream_has_one_outcome(raw, why):
    with pytest.raises(UpstreamBroken, match=why):
        read(new_stream(), [raw])


@pytest.mark.parametrize(
    "nonsense",
    [
        b"data: {nonsense}\n\n",
        b'data: {"id":"up-1","created":7,"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
    ],
)
def test_garbage_after_the_first_chunk_is_not_passed_on(nonsense):
    stream = new_stream()
    stream.feed(provider(*text("a"), finish=None, done=False))
    assert stream.feed(nonsense) == b""
    with pytest.raises(UpstreamBroken):
        stream.close_round()


def test_the_end_without_a_finish_reason_is_an_end_when_the_provider_says_so():
    stream = new_stream()
    shown, _ = read(stream, [provider(*text("a"), finish=None)])
    assert events(shown + stream.end())[-1]["choices"][0]["finish_reason"] == "stop"


def test_nothing_after_done_is_told():
    stream = new_stream()
    shown, _ = read(stream, [provider(*text("a")) + provider(*text("b")), provider(*text("c"))])
    assert content(shown + stream.end()) == "a"


def test_interrupt_and_failure_close_the_stream():
    stream = new_stream()
    shown = stream.feed(provider(*text("a"), finish=None, done=False))
    last = events(shown + stream.interrupt())[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["apex"] == {"interrupted": True}
    assert events(shown + stream.fail(DeadlinePassed("late"), "req_1"))[-1]["error"]["code"] == "timeout"
    (only,) = events(new_stream().interrupt())[-1]["choices"]
    assert only == {"index": 0, "delta": {"role": "assistant"}, "finish_reason": "stop"}


def test_an_endless_answer_with_tools_is_refused(monkeypatch):
    monkeypatch.setattr("apexbridge_trio.protocol.stream.MAX_ANSWER_BYTES", 500)
    stream = new_stream(hub_tools=frozenset({"agenda"}))
    with pytest.raises(UpstreamBroken, match="larger"):
        stream.feed(provider(*text("x" * 600), finish=None))
