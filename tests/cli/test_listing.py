import json

from apexbridge_trio import __version__
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply

MODELS = {"object": "list", "data": [{"id": "家", "object": "model", "created": 0, "owned_by": "local"}]}
WELL = {"status": "ok", "version": "0.1.0", "uptimeS": 75.2, "draining": False}
DEPENDENCIES = [
    {"name": "local", "state": "up", "checkedAgeS": 2.5, "detail": None},
    {"name": "far", "state": "unknown", "checkedAgeS": None, "detail": "x" * 300},
]


def test_models(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/models"] = Reply(MODELS)
    assert [line.split() for line in run("models").out.splitlines()] == [["MODEL", "BY"], ["家", "local"]]
    assert json.loads(run("models", "--json").out) == MODELS


def test_health_with_its_dependencies(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /health"] = Reply(WELL | {"dependencies": DEPENDENCIES})
    first, *rows = run("health").out.splitlines()
    assert first == "ok, version 0.1.0, up 1 min 15 s"
    assert [row.split() for row in rows] == [
        ["PART", "STATE", "CHECKED", "DETAIL"],
        ["local", "up", "2.5", "s", "ago"],
        ["far", "unknown", "never", "x" * 300],
    ]


def test_health_of_a_stranger_has_no_dependencies(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /health"] = Reply(WELL)
    assert run("health").out == "ok, version 0.1.0, up 1 min 15 s\n"


def test_a_hub_that_is_not_well_fails(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /health"] = Reply(WELL | {"status": "draining", "draining": True}, 503)
    ran = run("health", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["status"] == "draining"


def test_version(run: Run) -> None:
    assert run("version").out == f"apexbridge {__version__}\n"
    assert json.loads(run("version", "--json").out)["apexbridge"] == __version__
