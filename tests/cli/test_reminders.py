import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope

TEA: dict[str, Any] = {
    "id": "rem_1",
    "text": "te\x1b[2Ja",
    "nextAt": 1_763_000_000_000,
    "next": "2025-11-13T10:13:20+08:00",
    "cron": None,
    "action": {"notify": {}},
}


def test_a_table_of_what_is_to_come(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/reminders"] = Reply(
        [TEA, {**TEA, "id": "rem_2", "cron": "0 9 * * *", "action": {"chat": {}}}]
    )
    heads, one, two = (line.split() for line in run("reminders").out.splitlines())
    assert heads == ["REMINDER", "NEXT", "CRON", "DOES", "TEXT"]
    assert (one[0], one[-2:]) == ("rem_1", ["notify", "te[2Ja"])
    assert two[3:9] == ["0", "9", "*", "*", "*", "chat"]
    assert json.loads(run("reminders", "list", "--json").out)[0]["id"] == "rem_1"
    assert run("reminders", "--json", "list").code == 2


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["--in", "1h30m"], {"in": 5400.0, "action": {}}),
        (["--at", "2026-11-25T08:00", "--timezone", "Asia/Tokyo"], {"at": "2026-11-25T08:00", "timezone": "Asia/Tokyo", "action": {}}),
        (["--cron", "0 9 * * *", "--chat", "news?"], {"cron": "0 9 * * *", "action": {"chat": "news?"}}),
        (["--in", "90s", "--tool", "lights", "--args", '{"on": true}'], {"in": 90.0, "action": {"tool": "lights", "args": {"on": True}}}),
    ],
)  # fmt: skip
def test_one_is_set(hub: FakeHub, run: Run, words: list[str], body: Any) -> None:
    hub.answers["POST /v1/reminders"] = Reply(TEA, 201)
    ran = run("reminders", "add", "tea", *words, "--missed", "skip")
    assert (ran.code, ran.out) == (0, "rem_1 2025-11-13T10:13:20+08:00\n")
    assert hub.asked[-1].body == {"text": "tea", "missed": "skip", **body}
    assert json.loads(run("reminders", "add", "tea", *words, "--json").out)["id"] == "rem_1"


@pytest.mark.parametrize(
    "words", [["--in", "soon"], ["--in", ""], ["--tool", "x", "--args", "["], ["--missed", "x"]]
)
def test_what_can_not_be_is_usage(hub: FakeHub, run: Run, words: list[str]) -> None:
    assert run("reminders", "add", "tea", *words).code == 2


def test_one_is_removed(hub: FakeHub, run: Run) -> None:
    hub.answers["DELETE /v1/reminders/rem_1"] = Reply(TEA)
    assert run("reminders", "remove", "rem_1").out == "removed: te[2Ja\n"
    assert json.loads(run("reminders", "remove", "rem_1", "--json").out)["id"] == "rem_1"
    hub.answers["DELETE /v1/reminders/rem_2"] = Reply(
        envelope("There is no reminder rem_2.", "not_found"), 404
    )
    ran = run("reminders", "remove", "rem_2")
    assert ran.code == 5
    assert "apexbridge reminders" in ran.err
