import json

import pytest

from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope

WHOLE = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "今天没有日程。"}}]}


def test_an_answer_is_streamed(hub: FakeHub, run: Run) -> None:
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}
    hub.stream(first, "今天", "没有日程", "。", {"choices": []})
    ran = run("chat", "今天日程是什么？")
    assert (ran.code, ran.out, ran.err) == (0, "今天没有日程。\n", "")
    body = hub.asked[0].body
    assert body.pop("requestId").startswith("req_")
    assert body == {"stream": True, "messages": [{"role": "user", "content": "今天日程是什么？"}]}


def test_a_model_and_a_system_prompt(hub: FakeHub, run: Run) -> None:
    hub.stream("ends itself\n")
    assert run("chat", "--model", "home", "--system", "Be brief.", stdin="from a pipe").out == "ends itself\n"
    assert hub.asked[0].body["model"] == "home"
    assert hub.asked[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "from a pipe"},
    ]


def test_a_whole_answer(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/chat/completions"] = Reply(WHOLE)
    assert run("chat", "q", "--no-stream").out == "今天没有日程。\n"
    assert hub.asked[0].body["stream"] is False
    ran = run("chat", "q", "--json")
    assert json.loads(ran.out) == WHOLE


def test_an_empty_answer_is_nothing(hub: FakeHub, run: Run) -> None:
    hub.stream()
    assert run("chat", "q").out == ""


def test_what_a_model_writes_does_not_command_the_terminal(hub: FakeHub, run: Run) -> None:
    hub.stream("a\x1b", "[2Jb")
    assert run("chat", "q").out == "a[2Jb\n"


# httpx 0.28.1: leaving a body early leaves the generators inside its own to the collector.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Async generator 'httpcore:ResourceWarning")
@pytest.mark.parametrize(
    ("events", "line"),
    [
        (
            ["half", envelope("It broke.", "upstream_broken"), b"[DONE]"],
            "It broke. (upstream_broken, request {id})",
        ),
        (["half"], "the answer ended in the middle"),
        (["half", {"choices": [], "apex": {"interrupted": True}}, b"[DONE]"], "{id} was interrupted"),
        (["half", b"garbage"], "the answer is none of a chat"),
        (["half", b"x" * 17_000_000], "One event is larger than 16777216 bytes."),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(
    events: list[object], line: str, hub: FakeHub, run: Run
) -> None:
    hub.answers["POST /v1/chat/completions"] = lambda exchange: exchange.send_events(*events)
    ran = run("chat", "q")
    assert ran.code == 1
    assert ran.out.strip() == "half"
    assert ran.err == f"apexbridge: {line.format(id=hub.asked[0].body['requestId'])}\n"


def test_what_the_hub_refuses_is_told(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/chat/completions"] = Reply(envelope("No such model.", "model_not_found"), 404)
    ran = run("chat", "q", "--model", "x")
    assert (ran.code, ran.err) == (5, "apexbridge: No such model. (model_not_found, request req_seen)\n")


def test_no_hub_is_unreachable(run: Run, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", f"http://{free}")
    assert run("chat", "q").code == 3
