"""Ctrl-C on real processes: the hub is told, and the receipt is shown."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.fakes.hub import NET_S, Exchange, FakeHub, Reply, envelope

RECEIPT_WORDS = "{id} stopped in 12 ms\n  upstream req_1/round1/llm: stopped, 3 ms\n"


@contextmanager
def apexbridge(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "apexbridge_trio", *words]
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=NET_S)
    return process.returncode, out, err


def read_until(stream: IO[str] | None, end: str) -> str:
    assert stream is not None
    text = ""
    while not text.endswith(end):
        char = stream.read(1)
        assert char, f"it ended after {text!r}"
        text += char
    return text


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_one_question_is_interrupted_with_a_receipt(options: list[str], hub: FakeHub) -> None:
    hub.stream_until_interrupted("half an answ")
    with apexbridge("chat", "q", *options) as process:
        assert read_until(process.stdout, "answ") == "half an answ"
        process.send_signal(signal.SIGINT)
        code, out, err = end_of(process)
    request_id = hub.asked[0].body["requestId"]
    assert hub.asked[1].body == {"requestId": request_id, "reason": "Ctrl-C", "waitS": 5.0}
    assert (code, out) == (130, "\n")
    assert err.lstrip("\n") == RECEIPT_WORDS.format(id=request_id)


def test_with_json_the_receipt_is_the_document(hub: FakeHub) -> None:
    hub.stream_until_interrupted("half")
    with apexbridge("chat", "q", "--json") as process:
        assert hub.begun.wait(NET_S)
        process.send_signal(signal.SIGINT)
        code, out, _err = end_of(process)
    assert code == 130
    assert json.loads(out)["tookMs"] == 12


def test_a_second_press_hangs_up(hub: FakeHub) -> None:
    hub.stream_until_interrupted("half")

    def never_done(exchange: Exchange) -> None:
        hub.stopping.set()
        exchange.wait_for_hang_up()

    hub.answers["POST /v1/interrupt"] = never_done
    with apexbridge("chat", "q") as process:
        read_until(process.stdout, "half")
        process.send_signal(signal.SIGINT)
        assert hub.stopping.wait(NET_S)
        process.send_signal(signal.SIGINT)
        code, _out, err = end_of(process)
        assert hub.hung_up.wait(NET_S)
    assert code == 130
    assert "the connection was closed, which stops it: the second Ctrl-C" in err


def test_a_hub_that_knows_nothing_of_it_any_more(hub: FakeHub) -> None:
    hub.stream_until_interrupted("half")
    hub.answers["POST /v1/interrupt"] = Reply(envelope("Nothing there."), 404)
    with apexbridge("chat", "q") as process:
        read_until(process.stdout, "half")
        process.send_signal(signal.SIGINT)
        code, _out, err = end_of(process)
    assert code == 130
    assert "the connection was closed, which stops it: Nothing there." in err


def test_a_conversation_goes_on_after_it(hub: FakeHub) -> None:
    master, slave = pty.openpty()
    try:
        with apexbridge("chat", stdin=slave) as process:
            hub.stream("one")
            os.write(master, b"\nfirst\n")
            read_until(process.stdout, "one\n")
            hub.stream_until_interrupted("half")
            os.write(master, b"second\n")
            read_until(process.stdout, "half")
            process.send_signal(signal.SIGINT)
            read_until(process.stderr, "stopped, 3 ms\n")
            hub.answers["POST /v1/chat/completions"] = Reply(envelope("Broken.", "x"), 500)
            os.write(master, b"third\n")
            read_until(process.stderr, "apexbridge: Broken. (x, request req_seen)\n")
            hub.stream("four")
            os.write(master, b"fourth\n")
            read_until(process.stdout, "four\n")
            os.write(master, b"\x04")
            code, _out, _err = end_of(process)
    finally:
        os.close(master)
        os.close(slave)
    assert code == 0
    assert [(said["role"], said["content"]) for said in hub.asked[-1].body["messages"]] == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
        ("assistant", "half"),
        ("user", "fourth"),
    ]


HELD = "POST /v1/tasks"
STOPPED = Reply(envelope("Interrupted: Ctrl-C", "interrupted"), 499)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_task_that_is_waited_for_is_interrupted_with_a_receipt(options: list[str], hub: FakeHub) -> None:
    hub.hold_until_interrupted(HELD, STOPPED)
    with apexbridge("tasks", "run", "sing", "--wait", *options) as process:
        assert hub.begun.wait(NET_S)
        process.send_signal(signal.SIGINT)
        code, out, err = end_of(process)
    request_id = hub.asked[0].request_id
    assert request_id
    assert hub.asked[1].body == {"requestId": request_id, "reason": "Ctrl-C", "waitS": 5.0}
    assert code == 130
    if options:
        assert (json.loads(out)["requestId"], err) == (request_id, "")
    else:
        assert (out, err) == ("", RECEIPT_WORDS.format(id=request_id))


def test_a_task_whose_hub_knows_nothing_of_it_is_hung_up_on(hub: FakeHub) -> None:
    hub.hold_until_interrupted(HELD, STOPPED)
    hub.answers["POST /v1/interrupt"] = Reply(envelope("Nothing there."), 404)
    with apexbridge("tasks", "run", "sing", "--wait", "--json") as process:
        assert hub.begun.wait(NET_S)
        process.send_signal(signal.SIGINT)
        code, out, err = end_of(process)
    assert (code, out) == (130, "")
    assert "the connection was closed, which stops it: Nothing there." in err


def test_a_reader_that_has_gone_ends_it(hub: FakeHub) -> None:
    hub.stream_until_interrupted("half")
    with apexbridge("chat", "q") as process:
        read_until(process.stdout, "half")
        assert process.stdout is not None
        process.stdout.close()
        hub.interrupted.set()
        assert process.wait(NET_S) == 1


@pytest.mark.parametrize("what", ["requests", "nodes", "tasks"])
def test_watching_ends_with_130(what: str, hub: FakeHub) -> None:
    hub.answers[f"GET /v1/{what}"] = Reply([])
    with apexbridge(what, "--watch") as process:
        assert hub.begun.wait(NET_S)
        process.send_signal(signal.SIGINT)
        code, _out, err = end_of(process)
    assert code == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("what", ["logs", "events"])
def test_following_hangs_up_and_ends_with_130(what: str, hub: FakeHub) -> None:
    def hold(exchange: Exchange) -> None:
        line = {"log_type": "log", "level": "info", "source": "x", "timestamp": "2026-01-01T00:00:00Z"}
        frame = {"type": "x", "data": {**line, "content": "hello"}, "timestamp": 0}
        exchange.send_events(json.dumps(frame).encode())
        exchange.wait_for_hang_up()

    hub.answers[f"GET /v1/{what}?"] = hold
    with apexbridge(what, "--follow") as process:
        assert "hello" in read_until(process.stdout, "\n")
        process.send_signal(signal.SIGINT)
        code, _out, err = end_of(process)
        assert hub.hung_up.wait(NET_S)
    assert code == 130
    assert "Traceback" not in err
