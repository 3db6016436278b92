import json

import pytest

from apexbridge_trio.cli import watching
from tests.cli.conftest import Run
from tests.fakes.hub import RECEIPT, TREE, FakeHub, Reply, envelope


def test_a_table_of_what_is_running(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/requests"] = Reply([TREE, TREE["children"][0]])
    assert [line.split() for line in run("requests").out.splitlines()] == [
        ["REQUEST", "KIND", "NAME", "STATE", "AGE", "LEFT", "TENANT"],
        ["req_1", "chat", "chat", "running", "1.5", "s", "4", "min", "58", "s", "default"],
        ["req_1/round1/llm", "upstream", "[bold]local", "stopping", "90", "ms", "default"],
    ]
    assert json.loads(run("requests", "--json").out) == [TREE, TREE["children"][0]]


def test_the_tree_of_one(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/requests/req%2F1"] = Reply(TREE | {"status": "running"})
    assert [line.rstrip() for line in run("requests", "req/1").out.splitlines()] == [
        "req_1  chat chat  running  1.5 s  4 min 58 s left",
        "└── req_1/round1/llm  upstream [bold]local  stopping  90 ms",
    ]


def test_a_background_chat_that_has_ended_shows_its_answer(hub: FakeHub, run: Run) -> None:
    result = {"choices": [{"message": {"content": "the\x1b end"}}]}
    hub.answers["GET /v1/requests/req_1"] = Reply(
        {
            "requestId": "req_1",
            "id": "req_1",
            "kind": "chat",
            "status": "completed",
            "tenantId": "t",
            "result": result,
        }
    )
    assert run("requests", "req_1").out.split() == ["req_1", "chat", "completed", "the", "end"]


def test_watching_one_ends_with_it(hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_EVERY_S", 0)
    gone = Reply(envelope("Nothing there."), 404)
    hub.answers["GET /v1/requests/req_1"] = [Reply(TREE), Reply(TREE), gone]
    ran = run("requests", "req_1", "--watch")
    assert ran.code == 0
    assert "req_1/round1/llm" in ran.out
    assert len(hub.asked) == 3


def test_watching_all_goes_on_until_it_can_not(
    hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_EVERY_S", 0)
    hub.answers["GET /v1/requests"] = [
        Reply([]),
        Reply([TREE, TREE]),
        Reply(envelope("A key is needed."), 401),
    ]
    assert run("requests", "--watch").code == 4


def test_watching_what_was_never_there(hub: FakeHub, run: Run) -> None:
    assert run("requests", "req_1", "--watch").code == 5
    assert run("requests", "--watch", "--json").code == 2


def test_interrupt_prints_the_receipt(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/interrupt"] = Reply(RECEIPT)
    ran = run("interrupt", "req_1", "--reason", "enough", "--wait", "2")
    assert (ran.code, ran.out) == (0, "req_1 stopped in 12 ms\n  upstream req_1/round1/llm: stopped, 3 ms\n")
    assert hub.asked[0].body == {"path": "req_1", "reason": "enough", "waitS": 2.0}
    assert json.loads(run("interrupt", "req_1", "--json").out) == RECEIPT


def test_what_is_still_stopping_is_a_failure(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/interrupt"] = Reply(RECEIPT | {"notStopped": ["req_1/round1/tool:x"]})
    assert run("interrupt", "req_1").code == 1


def test_interrupt_of_nothing(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/interrupt"] = Reply(envelope("Nothing there.", success=False), 404)
    assert run("interrupt", "req_1").code == 5


@pytest.mark.parametrize("path", ["round1/llm", "req_1/round1/llm"])
def test_a_branch_is_named_with_or_without_its_request(path: str, hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/interrupt"] = Reply(RECEIPT)
    run("interrupt", "req_1", "--path", path)
    assert hub.asked[0].body["path"] == "req_1/round1/llm"
