import io
import json
import time
from typing import Any

import pytest

from apexbridge_trio.cli import watching
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope

TOOL = {"name": "sing", "description": "Sings\x1b[2J\na song.", "parameters": None, "idempotent": True}
STATS = {
    "activeTasks": 1,
    "totalTasks": 5,
    "completedTasks": 3,
    "failedTasks": 1,
    "averageResponseTimeMs": 1500.0,
}
ATTIC: dict[str, Any] = {
    "id": "node_1",
    "name": "attic",
    "type": "worker",
    "version": "0.1.0",
    "status": "online",
    "tenantId": "home",
    "familyId": None,
    "capabilities": ["gpu", "music"],
    "tools": [TOOL],
    "maxConcurrent": 4,
    "load": 0.42,
    "resources": {"cpus": 8},
    "stats": STATS,
    "connectedAt": 1_763_000_000_000,
    "lastHeartbeatAt": None,
    "latencyMs": 3.4,
    "firstSeenAt": 1_763_000_000_000,
    "lastDisconnect": None,
}
NEW: dict[str, Any] = {
    **ATTIC,
    "id": "node_2",
    "name": "[bold]shed",
    "version": None,
    "familyId": "kid",
    "status": "offline",
    "capabilities": [],
    "tools": [],
    "load": None,
    "resources": None,
    "stats": {**STATS, "activeTasks": 0, "averageResponseTimeMs": None},
    "connectedAt": None,
    "latencyMs": None,
    "lastDisconnect": {"at": 1_763_000_000_000, "reason": "no sign of life"},
}


def lines_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_table_of_nodes(hub: FakeHub, run: Run) -> None:
    heard = {"lastHeartbeatAt": int(time.time() * 1000) + 3_600_000}  # its clock is ahead
    hub.answers["GET /v1/nodes"] = Reply([{**ATTIC, **heard}, NEW])
    assert lines_of(run("nodes").out) == [
        ["NODE", "NAME", "TYPE", "STATUS", "TASKS", "LOAD", "TOOLS", "HEARD", "LEFT"],
        ["node_1", "attic", "worker", "online", "1/4", "42%", "1", "0", "s", "ago"],
        ["node_2", "[bold]shed", "worker", "offline", "0/4", "0", "no", "sign", "of", "life"],
    ]
    assert run("nodes", "list").out == run("nodes").out
    assert json.loads(run("nodes", "--json").out)[1] == NEW


def test_a_node_that_is_back_is_not_said_to_have_left(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/nodes"] = Reply([{**NEW, "status": "online"}])
    assert "no sign of life" not in run("nodes").out


def test_the_filters_are_the_hubs(hub: FakeHub, run: Run) -> None:
    address = "GET /v1/nodes?status=busy&type=custom&capability=a+%26b"
    hub.answers[address] = Reply([])
    assert run("nodes", "--status", "busy", "--type", "custom", "--capability", "a &b").code == 0
    assert run("nodes", "--status", "tired").code == 2
    assert run("nodes", "--watch", "--json").code == 2


def test_options_of_the_list_stand_behind_no_other_command(hub: FakeHub, run: Run) -> None:
    ran = run("nodes", "--json", "show", "node_1")
    assert ran.code == 2
    assert "options go behind 'show'" in ran.err
    assert run("tasks", "--json", "show", "task_1").code == 2
    assert not hub.asked


def test_nodes_are_watched(hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_EVERY_S", 0)
    hub.answers["GET /v1/nodes"] = [Reply([ATTIC]), Reply([ATTIC, NEW]), Reply(envelope("No."), 401)]
    ran = run("nodes", "--watch")
    assert ran.code == 4
    assert "no sign of life" in ran.out


def test_all_of_one(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/nodes/node_1"] = Reply(ATTIC)
    said = lines_of(run("nodes", "show", "node_1").out)
    assert said[:6] == [
        ["node", "node_1"],
        ["name", "attic"],
        ["type", "worker"],
        ["version", "0.1.0"],
        ["status", "online"],
        ["tenant", "home"],
    ]
    assert ["tasks", "1", "of", "4", "at", "a", "time"] in said
    assert "so far 5 given, 3 succeeded, 1 failed, 1.5 s on average".split() in said
    assert ["resources", '{"cpus":', "8}"] in said
    assert said[-2:] == [["TOOL", "DESCRIPTION"], ["sing", "Sings[2J", "a", "song."]]
    assert json.loads(run("nodes", "show", "node_1", "--json").out) == ATTIC


def test_what_is_not_known_of_one_is_left_out(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/nodes/node_2"] = Reply(NEW)
    said = lines_of(run("nodes", "show", "node_2").out)
    assert ["family", "kid"] in said
    assert said[-2][:2] == ["last", "left"]
    assert not {"version", "load", "latency", "connected", "TOOL"} & {line[0] for line in said if line}


@pytest.mark.parametrize(("verb", "status"), [("drain", "draining"), ("resume", "online")])
def test_draining_and_resuming(verb: str, status: str, hub: FakeHub, run: Run) -> None:
    told = {**ATTIC, "status": status}
    hub.answers[f"POST /v1/nodes/node_1/{verb}"] = Reply(told)
    assert run("nodes", verb, "node_1").out == f"node_1 is {status}, tasks there: 1 of 4\n"
    assert json.loads(run("nodes", verb, "node_1", "--json").out) == told


FORGOTTEN = {"status": "success", "nodeId": "node_1", "message": "The node is forgotten."}


def test_a_node_is_forgotten(hub: FakeHub, run: Run) -> None:
    hub.answers["DELETE /v1/nodes/node_1"] = Reply(FORGOTTEN)
    assert run("nodes", "forget", "node_1").out == "node_1 is forgotten\n"
    assert json.loads(run("nodes", "forget", "node_1", "--yes", "--json").out) == FORGOTTEN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("words", "typed", "code"), [([], "n\n", 1), ([], "y\n", 0), (["--yes"], "", 0)])
def test_on_a_terminal_it_asks_first(
    words: list[str], typed: str, code: int, hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "StringIO", Terminal)
    hub.answers["DELETE /v1/nodes/node_1"] = Reply(FORGOTTEN)
    ran = run("nodes", "forget", "node_1", *words, stdin=typed)
    assert ran.code == code
    assert len(hub.asked) == (code == 0)
    assert ("Forget node_1?" in ran.err) == (not words)


@pytest.mark.parametrize(
    "words", [["show"], ["drain"], ["resume"], ["forget"]], ids=lambda words: str(words[0])
)
def test_a_node_that_is_not_there(words: list[str], hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/nodes"] = Reply([ATTIC, NEW])
    ran = run("nodes", *words, "cellar")
    assert ran.code == 5
    assert ran.err.endswith("; the ids are shown by: apexbridge nodes\n")
    ran = run("nodes", *words, "attic")
    assert ran.err.endswith("; attic is the name of node_1\n")


def test_who_may_not_is_told_what_to_do(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/nodes/node_1/drain"] = Reply(envelope("It needs the scope admin."), 403)
    ran = run("nodes", "drain", "node_1")
    assert ran.code == 4
    assert "apexbridge keys create" in ran.err
