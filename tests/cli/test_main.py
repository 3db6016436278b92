"""Faults leave with their exit code and one clear line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from apexbridge_trio.cli.main import COMMANDS
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply, envelope


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'httpx', 'trio', 'structlog', 'rich', 'msgspec', 'apsw', 'quart', 'hypercorn', 'asyncio'}"
    program = f"import sys; from apexbridge_trio.cli.main import app_for; app_for([]); print({heavy} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_a_command_imports_no_other() -> None:
    program = (
        "import sys; from apexbridge_trio.cli.main import app_for; app_for(['models', '--help']);"
        "print(sorted(one for one in sys.modules if one.startswith('apexbridge_trio.cli.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "apexbridge_trio.cli.listing" in done.stdout
    assert "apexbridge_trio.cli.serve" not in done.stdout
    assert "apexbridge_trio.cli.plugins" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_known_alone_and_among_all(command: str, run: Run) -> None:
    alone = run(command, "--help")
    assert alone.code == 0
    assert alone.out.startswith(f"Usage: apexbridge {command} ")
    assert f"\n  {command} " in run("--help").out


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "apexbridge_trio", "version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("apexbridge 0.")


@pytest.mark.parametrize(
    "words", [["nonsense"], ["interrupt"], ["interrupt", "x", "--wait", "-1"], ["models", "--x"]]
)
def test_wrong_words_are_usage(words: list[str], run: Run) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert "Usage: apexbridge" in ran.err


def test_the_version_is_told_as_most_programs_tell_it(run: Run) -> None:
    told = run("--version")
    assert (told.code, told.out) == (0, run("version").out)


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (422, 2), (401, 4), (403, 4), (404, 5), (409, 1), (503, 1)]
)
def test_what_the_hub_refuses_has_its_exit_code(hub: FakeHub, run: Run, status: int, code: int) -> None:
    hub.answers["GET /v1/models"] = Reply(envelope("No."), status)
    assert run("models").code == code


def nobody() -> int:
    """Return the end of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize(
    ("open_it", "said"),
    [
        (nobody, ""),
        (lambda: os.open("/dev/full", os.O_WRONLY), "apexbridge: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("words", [("version",), ("events", "--follow")])
def test_what_can_not_be_said_ends_a_command_without_a_trace(
    hub: FakeHub, open_it: Callable[[], int], said: str, words: tuple[str, ...]
) -> None:
    told = {"type": "alert", "seq": 1, "epoch": "e", "data": {"message": "hello"}, "timestamp": 1}
    stream = f"id: e:1\nevent: alert\ndata: {json.dumps(told)}\n\n".encode()
    hub.answers["GET /v1/events?"] = Reply(stream, content_type="text/event-stream")
    command = [sys.executable, "-m", "apexbridge_trio", *words]
    with os.fdopen(open_it(), "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, said)


def test_no_words_show_the_help(run: Run) -> None:
    assert "Commands:" in run("--help").out


@pytest.mark.parametrize(
    ("status", "body", "code", "line"),
    [
        (
            401,
            envelope("A key is needed.", "invalid_api_key"),
            4,
            "A key is needed. (invalid_api_key, request req_seen); put it into APEXBRIDGE_KEY",
        ),
        (
            403,
            envelope("Not this key.", "forbidden"),
            4,
            "Not this key. (forbidden, request req_seen); make one that may with: apexbridge keys create",
        ),
        (404, envelope("Nothing\nthere."), 5, "Nothing there. (not_found, request req_seen)"),
        (500, {"error": {"message": "Broken."}}, 1, "Broken."),
        (500, {"error": "a word"}, 1, "refused"),
        (200, b"<html>", 1, "what answers there is no hub (status 200)"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    status: int, body: object, code: int, line: str, hub: FakeHub, run: Run
) -> None:
    hub.answers["GET /v1/models"] = Reply(body, status)
    ran = run("models")
    assert (ran.code, ran.out, ran.err) == (code, "", f"apexbridge: {line}\n")


def test_no_hub_is_unreachable(run: Run, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", f"http://{free}")
    ran = run("models")
    assert ran.code == 3
    assert ran.err == f"apexbridge: no hub at http://{free}; start one with: apexbridge serve\n"


def test_a_hub_that_dies_is_unreachable(hub: FakeHub, run: Run) -> None:
    hub.answers["GET /v1/models"] = lambda exchange: None
    ran = run("models")
    assert ran.code == 3
    assert ran.err.startswith("apexbridge: the connection to the hub failed: ")


@pytest.mark.parametrize("url", ["127.0.0.1:8088", "ftp://h", "http://", "http://[::1", "http://h:x"])
def test_an_address_that_is_none_is_usage(url: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_URL", url)
    ran = run("models")
    assert (ran.code, ran.err) == (2, "apexbridge: APEXBRIDGE_URL is no address like http://127.0.0.1:8088\n")


def test_the_key_is_sent_and_never_shown(hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.answers["GET /v1/models"] = Reply({"object": "list", "data": []})
    run("models")
    monkeypatch.setenv("APEXBRIDGE_KEY", "apx_1_secret\n")
    run("models")
    assert [asked.key for asked in hub.asked] == [None, "Bearer apx_1_secret"]
    monkeypatch.setenv("APEXBRIDGE_KEY", "two\nlines")
    ran = run("models")
    assert (ran.code, ran.err) == (2, "apexbridge: APEXBRIDGE_KEY is no key\n")


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    hub.answers["GET /v1/models"] = Reply({"object": "list", "data": []})
    assert run("models").code == 0
