import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.fakes.hub import RECEIPT, FakeHub, Reply, envelope

AT = 1_763_000_000_000
TASK: dict[str, Any] = {
    "taskId": "task_1",
    "toolName": "sing",
    "capability": None,
    "state": "failed",
    "nodeId": "node_1",
    "attempts": 2,
    "priority": 5,
    "idempotent": True,
    "requestId": None,
    "parentId": None,
    "tenantId": "home",
    "createdAt": AT,
    "deadlineAt": AT + 60_000,
    "endedAt": AT + 2000,
    "lateResults": 0,
    "error": {"code": "tool_failed", "message": "No\x1b[2J voice\ntoday."},
}
HISTORY = [
    {"state": "queued", "at": AT},
    {"state": "assigned", "at": AT + 1000, "nodeId": "node_1", "attempt": 2},
    {"state": "failed", "at": AT + 2000, "nodeId": "node_1", "attempt": 2, "note": "it said so"},
]
WHOLE = TASK | {
    "toolArgs": {"song": "啦"},
    "metadata": {},
    "history": HISTORY,
    "result": {"half": "a song\x1b"},
}
DONE = WHOLE | {"success": True, "state": "succeeded", "error": None, "result": {"text": "啦\ud83d"}}


def lines_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.fixture(autouse=True)
def in_beijing(monkeypatch: pytest.MonkeyPatch) -> Any:
    import time

    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_table_of_tasks(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/tasks"] = Reply([TASK, {**TASK, "taskId": "task_2", "error": None, "nodeId": None}])
    heads, one, two = lines_of(run("tasks").out)
    assert heads == ["TASK", "TOOL", "STATE", "NODE", "TRIES", "AGE", "ERROR"]
    assert one[:5] == ["task_1", "sing", "failed", "node_1", "2"]
    assert one[-4:] == ["No[2J", "voice", "today.", "(tool_failed)"]
    assert two[:4] == ["task_2", "sing", "failed", "2"]
    assert json.loads(run("tasks", "list", "--json").out)[0] == TASK


def test_the_filters_are_the_hubs(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/tasks?state=timed_out&node=node_1"] = Reply([])
    assert run("tasks", "--state", "timed_out", "--node", "node_1").code == 0
    assert run("tasks", "--state", "done").code == 2


def test_all_of_one(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/tasks/task_1"] = Reply(WHOLE)
    said = [line.rstrip() for line in run("tasks", "show", "task_1").out.splitlines()]
    facts = said[: said.index("")]
    assert [line.split()[0] for line in facts] == [
        "task", "tool", "state", "error", "today.", "node", "attempts", "priority", "idempotent", "tenant", "deadline",
    ]  # fmt: skip
    rest = said[said.index("") + 1 :]
    assert lines_of("\n".join(rest[:4])) == [
        ["TIME", "STATE", "NODE", "ATTEMPT", "NOTE"],
        ["2025-11-13", "10:13:20", "queued"],
        ["2025-11-13", "10:13:21", "assigned", "node_1", "2"],
        ["2025-11-13", "10:13:22", "failed", "node_1", "2", "it", "said", "so"],
    ]
    assert rest[4:] == [
        "",
        "arguments",
        "{",
        '  "song": "啦"',
        "}",
        "",
        "result",
        "{",
        '  "half": "a song\\u001b"',
        "}",
    ]
    assert json.loads(run("tasks", "show", "task_1", "--json").out) == WHOLE


def test_a_task_that_is_not_there(hub: FakeHub, run: Run) -> None:
    for words in (["show"], ["retry"], ["cancel"]):
        ran = run("tasks", *words, "task/9")
        assert ran.code == 5
        assert ran.err.endswith("; the ids are shown by: apexbridge tasks\n")
    assert {asked.path for asked in hub.asked} == {"/v1/tasks/task%2F9", "/v1/tasks/task%2F9/retry"}


def test_a_retry_is_a_new_task(hub: FakeHub, run: Run) -> None:
    told = {"taskId": "task_2", "status": "accepted", "state": "queued", "retryOf": "task_1"}
    hub.answers["POST /v1/tasks/task_1/retry"] = Reply(told, 202)
    assert run("tasks", "retry", "task_1").out == "task_2\n"
    assert json.loads(run("tasks", "retry", "task_1", "--json").out) == told


def test_a_cancel_prints_the_receipt(hub: FakeHub, run: Run) -> None:
    hub.answers["DELETE /v1/tasks/task_1"] = Reply(RECEIPT)
    ran = run("tasks", "cancel", "task_1")
    assert (ran.code, ran.out) == (0, "req_1 stopped in 12 ms\n  upstream req_1/round1/llm: stopped, 3 ms\n")
    assert json.loads(run("tasks", "cancel", "task_1", "--json").out) == RECEIPT
    hub.answers["DELETE /v1/tasks/task_1"] = Reply(RECEIPT | {"notStopped": ["task_1/sing"]})
    ran = run("tasks", "cancel", "task_1")
    assert ran.code == 1
    assert "not stopped yet: task_1/sing" in ran.out


def test_a_cancel_of_what_is_over_says_so(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/tasks/task_1"] = Reply(WHOLE)
    ran = run("tasks", "cancel", "task_1")
    assert (ran.code, ran.err) == (5, "apexbridge: task_1 has ended already: failed\n")
    hub.answers["DELETE /v1/tasks/task_1"] = Reply(envelope("Broken."), 500)
    assert run("tasks", "cancel", "task_1").code == 1


def test_a_task_that_is_not_waited_for_is_its_id(hub: FakeHub, run: Run) -> None:
    told = {"taskId": "task_1", "status": "accepted", "state": "queued"}
    hub.answers["POST /v1/tasks"] = Reply(told, 202)
    assert run("tasks", "run", "sing").out == "task_1\n"
    assert hub.asked[0].body == {"toolName": "sing", "toolArgs": {}, "waitForResult": False}
    assert json.loads(run("tasks", "run", "sing", "--json").out) == told


def test_all_that_can_be_said_of_a_task(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/nodes/node_1/tasks"] = Reply(DONE)
    ran = run("tasks", "run", "sing", '{"song": "啦", "times": 2}', "--node", "node_1", "--capability", "music",
              "--timeout", "1.5", "--priority", "0", "--wait", "--not-idempotent")  # fmt: skip
    assert (ran.code, ran.out) == (0, '{\n  "text": "啦\\ud83d"\n}\n')
    assert hub.asked[0].body == {
        "toolName": "sing",
        "toolArgs": {"song": "啦", "times": 2},
        "waitForResult": True,
        "capability": "music",
        "timeout": 1500.0,
        "priority": 0,
        "idempotent": False,
    }
    request_id = hub.asked[0].request_id
    assert request_id
    assert request_id.startswith("req_")


def test_with_json_the_whole_task_is_printed(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/tasks"] = Reply(DONE)
    assert json.loads(run("tasks", "run", "sing", "--wait", "--idempotent", "--json").out) == DONE
    assert hub.asked[0].body["idempotent"] is True


def test_a_task_that_does_not_succeed(hub: FakeHub, run: Run) -> None:
    failed = WHOLE | {"success": False}
    hub.answers["POST /v1/tasks"] = Reply(failed)
    ran = run("tasks", "run", "sing", "--wait")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "apexbridge: task_1 failed: No[2J voice today. (tool_failed)\n"
    ran = run("tasks", "run", "sing", "--wait", "--json")
    assert (ran.code, json.loads(ran.out)) == (1, failed)
    hub.answers["POST /v1/tasks"] = Reply(failed | {"state": "lost", "error": None})
    assert run("tasks", "run", "sing", "--wait").err == "apexbridge: task_1 lost\n"


@pytest.mark.parametrize("wait", [[], ["--wait"]])
def test_what_the_hub_does_not_take(wait: list[str], hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/tasks"] = Reply(envelope("No node that is online can run x.", "no_node"), 503)
    ran = run("tasks", "run", "x", *wait)
    assert ran.code == 1
    assert "No node that is online can run x." in ran.err
    hub.answers["GET /v1/nodes"] = Reply([])
    ran = run("tasks", "run", "x", "--node", "cellar", *wait)
    assert ran.code == 5
    assert ran.err.endswith("; the ids are shown by: apexbridge nodes\n")


@pytest.mark.parametrize("text", ["{", "[1]", "{expression: 6}", '{"a": NaN}', '{"a": "\udc80"}'])
def test_arguments_that_are_no_object(text: str, hub: FakeHub, run: Run) -> None:
    ran = run("tasks", "run", "sing", text)
    assert ran.code == 2
    assert ran.err.startswith("apexbridge: the arguments are no JSON object: ")
    assert """'{"expression": "6*7"}'""" in ran.err
    assert not hub.asked


def test_no_hub(run: Run, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", f"http://{free}")
    ran = run("tasks", "run", "sing", "--wait")
    assert (ran.code, ran.err) == (
        3,
        f"apexbridge: no hub at http://{free}; start one with: apexbridge serve\n",
    )
