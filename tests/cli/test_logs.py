"""``logs`` against a scripted hub."""

import json
from typing import Any

import pytest

from apexbridge_trio.cli import following
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope


def frame(content: str, kind: str = "abp_log", **data: Any) -> dict[str, Any]:
    said = {"log_type": "log", "level": "info", "content": content, "source": "request", **data}
    return {"type": kind, "data": said | {"timestamp": "2026-01-01T12:00:00.123456Z"}}


def gap(dropped: int) -> dict[str, Any]:
    return {"type": "log_gap", "data": {"dropped": dropped}}


def stream(*frames: tuple[int, dict[str, Any]]) -> Reply:
    text = "".join(f"id: log_1:{seq}\nevent: x\ndata: {json.dumps(one)}\n\n" for seq, one in frames)
    return Reply(f": the log\n\n{text}".encode(), content_type="text/event-stream")


def test_the_last_lines(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/logs?level=warning&request=r1&node=attic&follow=false"] = stream(
        (1, frame("careful\x1b[2J a=1", level="warning", nodeId="attic", requestId="r1")),
        (2, frame("the tool has run", log_type="tool_log", tool_name="clock", status="success")),
    )
    options = ["--level", "warning", "--request", "r1", "--node", "attic"]
    ran = run("logs", *options)
    assert ran.code == 0
    first, second = ran.out.splitlines()
    assert first.endswith(".123 warning request   careful[2J a=1 [attic] [r1]")
    assert second.endswith("info    request   clock success: the tool has run")
    shown = json.loads(run("logs", *options, "--json").out)
    assert [line["level"] for line in shown] == ["warning", "info"]


def test_following_goes_on_where_it_was_and_says_what_is_missing(
    hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_COME_AGAIN_S", 0.0)
    hub.answers["GET /v1/logs?"] = [
        stream((7, frame("one"))),
        Reply(envelope("It is about to end."), 503),
        stream((0, gap(3)), (9, frame("two"))),
        Reply(envelope("This key is not known here."), 401),
    ]
    ran = run("logs", "--follow", "--json")
    assert [json.loads(line)["content"] for line in ran.out.splitlines()] == ["one", "two"]
    assert "up to 3 lines were missed" in ran.err
    assert "not known here" in ran.err
    assert ran.code != 0


def test_a_wrong_level_is_told_in_the_hubs_words(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/logs?level=loud"] = Reply(envelope("level is debug, info, warning or error."), 400)
    ran = run("logs", "--level", "loud", "--follow")
    assert ran.code == 2
    assert "level is debug" in ran.err


def test_without_a_hub(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", "http://127.0.0.1:9")
    assert "no hub at" in run("logs", "--follow").err
