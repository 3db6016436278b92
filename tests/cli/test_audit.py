import json

from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply

LINE = {
    "seq": 7,
    "at": 1_763_000_000_000,
    "action": "key.created",
    "target": "k1",
    "by": {"principal": "ann\x1b[2Je", "tenantId": None, "familyId": None},
    "from": "10.0.0.7",
    "requestId": "req_1",
    "before": None,
    "after": {"name": "tablet", "familyId": None, "scopes": ["chat", "node"], "open": 3},
}


def test_changes_are_shown_newest_first(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/audit?limit=50"] = Reply({"entries": [LINE], "next": None})
    heads, line = run("audit").out.splitlines()
    assert heads.split() == ["NUMBER", "WHEN", "WHO", "FROM", "ACTION", "TARGET", "BECAME"]
    cells = line.split()
    assert cells[0] == "7"
    assert cells[3:] == [
        "ann[2Je",
        "10.0.0.7",
        "key.created",
        "k1",
        "name",
        "tablet,",
        "scopes",
        "chat",
        "node,",
        "open",
        "3",
    ]


def test_what_is_asked_for_is_asked_for(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/audit?limit=2&before=7&action=a%26b"] = Reply({"entries": [LINE], "next": 7})
    ran = run("audit", "--limit", "2", "--before", "7", "--action", "a&b", "--json")
    assert json.loads(ran.out) == {"entries": [LINE], "next": 7}
    assert run("audit", "--limit", "0").code == 2
    assert run("audit", "--limit", "1001").code == 2
