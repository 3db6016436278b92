"""``events`` and ``notify`` against a scripted hub."""

import json
from typing import Any

import pytest

from apexbridge_trio.cli import following
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope


def stream(*frames: dict[str, Any]) -> Reply:
    text = "".join(
        f"id: {frame['epoch']}:{frame['seq']}\nevent: {frame['type']}\ndata: {json.dumps(frame)}\n\n"
        for frame in frames
    )
    return Reply(f": hello\n\n{text}".encode(), content_type="text/event-stream")


def frame(seq: int, kind: str = "notification", **data: object) -> dict[str, Any]:
    return {"type": kind, "seq": seq, "epoch": "ep_1", "data": data, "timestamp": 1_700_000_000_000}


def test_what_was_told_lately(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/events?topics=alert&follow=false"] = stream(
        frame(3, "alert", message="the\x1b sink", title="Water"),
        frame(4, "task.status", taskId="t1", state="lost", error=None),
        frame(5, "chat.chunk", delta={"content": "hel\nlo"}),
    )
    ran = run("events", "--topics", "alert")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].endswith("alert          Water: the sink")
    assert lines[1].endswith("task.status    taskId t1, state lost")
    assert lines[2].endswith("chat.chunk     hel lo")
    shown = json.loads(run("events", "--topics", "alert", "--json").out)
    assert [one["seq"] for one in shown] == [3, 4, 5]


def test_following_it_comes_again_and_says_what_is_missing(
    hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_COME_AGAIN_S", 0.0)
    hub.answers["GET /v1/events?"] = [
        stream(frame(2, "connected"), frame(3, message="one")),
        Reply(envelope("It is about to end."), 503),
        stream(frame(9, "resumed", recovered=False), frame(10, message="two")),
        Reply(envelope("This key is not known here."), 401),
    ]
    ran = run("events", "--follow", "--json")
    assert [json.loads(line)["data"] for line in ran.out.splitlines()] == [
        {"message": "one"},
        {"message": "two"},
    ]
    assert "something was missed" in ran.err
    assert "not known here" in ran.err
    assert ran.code != 0


def test_without_a_hub(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", "http://127.0.0.1:9")
    assert "no hub at" in run("events", "--follow").err


def test_notify(hub: FakeHub, run: Run) -> None:
    hub.answers["POST /v1/notifications"] = Reply({"status": "success", "id": "evt_1"}, 201)
    ran = run("notify", "喝水", "--title", "Water", "--level", "warning", "--family", "anne", "--alert")
    assert ran.out == "evt_1\n"
    assert hub.asked[-1].body == {
        "message": "喝水",
        "title": "Water",
        "level": "warning",
        "kind": "alert",
        "familyId": "anne",
    }
    assert json.loads(run("notify", "x", "--json").out)["id"] == "evt_1"
    assert run("notify", "x", "--level", "loud").code == 2
