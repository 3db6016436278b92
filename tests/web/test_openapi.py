"""The document and the routes are of each other's size."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apexbridge_trio.web.api import build_api
from apexbridge_trio.web.arrival import CHAT_PATHS
from apexbridge_trio.web.counting import route_of
from apexbridge_trio.web.events import EVENTS
from apexbridge_trio.web.guards import CALLBACKS, scopes_of
from apexbridge_trio.web.logs import LOGS
from apexbridge_trio.web.openapi import OPERATIONS, document
from tests.harness.world import open_world

# What `Front` answers before Quart is asked.
BEFORE_QUART = {("GET", EVENTS), ("GET", LOGS), ("POST", f"{CALLBACKS}/{{plugin}}/{{task_id}}")} | {
    ("POST", path) for path in CHAT_PATHS
}


def plain(rule):
    """Write a rule of Werkzeug's as a path of the document."""
    return "".join(
        "{" + part.rpartition(":")[2] if at else part for at, part in enumerate(rule.split("<"))
    ).replace(">", "}")


async def test_every_route_is_in_the_document_and_nothing_else_is(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        rules = [rule for rule in build_api(world.hub).url_map.iter_rules() if not rule.websocket]
        routes = {
            (way, plain(rule.rule)) for rule in rules for way in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
    told = {(operation.method, operation.path) for operation in OPERATIONS}
    assert told == routes | BEFORE_QUART
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)


def test_each_path_that_is_told_has_a_rule_of_who_may():
    for operation in OPERATIONS:
        if not operation.path.startswith(CALLBACKS):
            assert scopes_of(operation.path) is not None, operation.path


def test_each_path_that_is_told_is_counted_under_its_own_name():
    for operation in OPERATIONS:
        arrival: Any = SimpleNamespace(scope={"type": "http", "path": operation.path})
        assert route_of(arrival) != "other", operation.path


def test_requests_are_told_as_they_are_decoded():
    told = json.loads(document())
    body = told["paths"]["/v1/reminders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    wanted = told["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert wanted["required"] == ["text"]
    assert {"at", "in", "cron"} <= wanted["properties"].keys()
    assert told["paths"]["/v1/chat/completions"]["post"]["security"] == [{"key": ["chat"]}, {}]
    assert told["paths"]["/v1/nodes/{node_id}"]["delete"]["security"] == [{"key": ["admin"]}]
    assert told["paths"]["/health"]["get"]["security"] == [{}]


async def test_the_document_needs_no_key(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        reply = await world.ask("GET", "/openapi.json")
        assert reply.status == 200
        assert reply.json["openapi"] == "3.1.0"


def in_the_page() -> set[tuple[str, str]]:
    """Return the methods and paths of the table in docs/protocol.md."""
    page = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
    table = page.partition("\n| method, path |")[2].partition("\n\n")[0]
    found: set[tuple[str, str]] = set()
    for row in table.splitlines()[2:]:
        methods: list[str] = []
        was_path = False
        for method, path in re.findall(r"\b([A-Z]{3,})\b|`(/[^`]*)`", row.split("|")[1]):
            methods = [] if method and was_path else methods
            methods += [method] if method else []
            found |= {(one, re.sub(r"{\w+}", "{}", path)) for one in methods if path}
            was_path = bool(path)
    return found


def test_the_table_of_the_page_is_all_there_is() -> None:
    paths = json.loads(document())["paths"]
    told = {
        (method.upper(), re.sub(r"{\w+}", "{}", path))
        for path, methods in paths.items()
        for method in methods
    }
    assert in_the_page() == told
