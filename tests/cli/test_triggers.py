import json
from typing import Any

from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope

AWAY: dict[str, Any] = {
    "name": "away",
    "on": "node.status",
    "do": "notify",
    "state": "armed",
    "reason": None,
    "lastFiredAt": None,
    "fired": 0,
    "failed": 0,
}


def test_a_table_of_what_the_hub_does_by_itself(hub: FakeHub, run: Run) -> None:
    off = {**AWAY, "name": "hook", "do": "webhook", "state": "disabled", "reason": "it an\x1b[2Jswered 410"}
    hub.answers["GET /v1/triggers"] = Reply([AWAY, off])
    heads, one, two = (line.split() for line in run("triggers").out.splitlines())
    assert heads == ["TRIGGER", "ON", "DOES", "STATE", "LAST", "FIRED", "FAILED", "REASON"]
    assert one == ["away", "node.status", "notify", "armed", "never", "0", "0"]
    assert two[-3:] == ["it", "an[2Jswered", "410"]
    assert json.loads(run("triggers", "list", "--json").out)[1]["state"] == "disabled"
    assert run("triggers", "--json", "list").code == 2


def test_one_is_fired(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/triggers/away/test"] = Reply(
        {"trigger": "away", "event": "node.status", "data": {}}
    )
    assert run("triggers", "test", "away").out == "fired: away, as if there were a node.status\n"
    assert json.loads(run("triggers", "test", "away", "--json").out)["event"] == "node.status"


def test_one_that_is_not_there(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/triggers/a%2Fb/test"] = Reply(
        envelope("There is no trigger 'a/b'.", "not_found"), 404
    )
    told = run("triggers", "test", "a/b")
    assert told.code == 5
    assert "the names are shown by: apexbridge triggers" in told.err
