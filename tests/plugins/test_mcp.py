"""A real server behind the runtime: the fake one of this repository, over stdio and over HTTP."""

import base64
import math
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio.config import Secret
from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.installation import remedy
from apexbridge_trio.log import capture
from apexbridge_trio.plugins.manifest import Limits
from apexbridge_trio.plugins.mcp import McpServer, Mount, http, server
from apexbridge_trio.plugins.tree import Cage
from apexbridge_trio.plugins.voice import MAX_LINES
from tests.fakes import mcp_server
from tests.harness import process
from tests.harness.clock import elapse, net
from tests.plugins.folders import call_tool

# Where a connection dies while its answer is handed on, the generators of it are left to the garbage
# collector (httpx2 2.16.2). Trio ends them, and warns.
OVER_HTTP = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")

CAGE = Cage(kill_grace_s=2.0)
# A safety net on a busy machine.
NET_S = 120.0


def mount_of(tmp_path: Path, *words: str, **limits: Any) -> Mount:
    return Mount(
        "lamps",
        Limits(**limits),
        CAGE,
        command=(sys.executable, "-m", "tests.fakes.mcp_server", *words),
        folder=process.ROOT,
        env={"PATH": os.environ["PATH"], "NOTES": str(tmp_path / "notes"), "LAMP": "on"},
    )


@asynccontextmanager
async def mounted(mount: Mount) -> AsyncIterator[McpServer]:
    """Run a server's one session until the block is left; it must not have ended before."""
    made, up = McpServer(mount), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run, up.set)
        with net(NET_S):
            await up.wait()
        yield made
        nursery.cancel_scope.cancel(reason="the test is over")


async def call(made: McpServer, tool: str, **arguments: Any) -> Any:
    with net(NET_S):
        return await call_tool(made.tools[f"lamps_{tool}"], arguments)


async def noted(tmp_path: Path, line: str) -> None:
    """Wait until the server has written a note."""
    notes = trio.Path(tmp_path / "notes")
    with net(NET_S):
        while not (await notes.exists() and line in await notes.read_text()):
            await trio.lowlevel.checkpoint()


async def test_its_tools_are_the_hubs_and_their_results_are_json(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never")
    async with mounted(mount_of(tmp_path, max_execution_s=700, max_output_bytes=90)) as made:
        add = made.tools["lamps_add"]
        assert (add.name, add.description, add.plugin) == ("lamps_add", "Add two numbers.", "lamps")
        assert add.parameters["required"] == ["a", "b"]
        assert (add.max_execution_s, add.idempotent, add.later) == (700, True, None)
        assert made.tools["lamps_say"].idempotent is False
        with pytest.raises(ToolFailed, match='a: "x" is not of type "integer"'):
            await call(made, "add", a="x", b=1)
        assert await call(made, "add", a=1, b=2) == {"result": 3}
        assert await call(made, "say", text="你好") == "你好"
        assert await call(made, "say", text='{"lamp": "on"}') == {"lamp": "on"}
        assert await call(made, "say", text="{off") == "{off"
        assert "cut" in await call(made, "say", text="x" * 100)
        with pytest.raises(ToolFailed, match="the lamp is broken"):
            await call(made, "fail")
        seen = await call(made, "environment")
        assert seen["LAMP"] == "on"
        assert seen["OPENAI_API_KEY"] is None
        os.kill(seen["pid"], 0)
        # What is seen does not count as text: the dot alone is over the limit.
        dot = base64.b64encode(mcp_server.DOT).decode()
        assert await call(made, "picture") == [
            {"type": "text", "text": "a dot:"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{dot}"}},
        ]
    with pytest.raises(ProcessLookupError):
        os.kill(seen["pid"], 0)


async def test_a_call_that_is_cancelled_is_cancelled_in_the_server(tmp_path: Path) -> None:
    async with mounted(mount_of(tmp_path)) as made:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, made, "hold")
            await noted(tmp_path, "hold begun")
            nursery.cancel_scope.cancel(reason="the user says stop")
        await noted(tmp_path, "hold ended")
        assert await call(made, "add", a=1, b=2) == {"result": 3}
        assert made.calls == 0


async def test_a_call_that_takes_too_long_is_a_timeout(tmp_path: Path, mock_clock: MockClock) -> None:
    async with mounted(mount_of(tmp_path, max_execution_s=0.3)) as made:

        async def hold() -> None:
            with pytest.raises(ToolTimeout, match=r"lamps_hold did not end within 0.3 s"):
                await call(made, "hold")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await noted(tmp_path, "hold begun")
            elapse(mock_clock, 0.3)
        await noted(tmp_path, "hold ended")


async def test_calls_over_the_limit_wait_for_a_slot(tmp_path: Path) -> None:
    async with mounted(mount_of(tmp_path, max_concurrency=1)) as made:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, made, "hold")
            await noted(tmp_path, "hold begun")
            nursery.start_soon(partial(call, made, "add", a=1, b=2))
            await wait_all_tasks_blocked()
            assert made._slots.statistics().tasks_waiting == 1
            nursery.cancel_scope.cancel(reason="it was seen")


async def test_its_end_fails_the_calls_in_it_and_is_told_in_one_sentence(tmp_path: Path) -> None:
    made, up = McpServer(mount_of(tmp_path)), trio.Event()
    said: list[str] = []

    async def session() -> None:
        try:
            await made.run(up.set)
        except ToolFailed as fault:
            said.append(fault.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session)
        with net(NET_S):
            await up.wait()
        with pytest.raises(ToolFailed, match="Connection closed"):
            await call(made, "leave", code=3)
    assert said == ["The MCP server has ended with exit code 3: I am leaving"]
    assert "lamps_add" in made.tools  # they are still offered, and say what is the matter
    made.note_end(said[0], retry_in_s=300)
    with pytest.raises(ToolFailed, match="lamps is not there: The MCP server has ended"):
        await call(made, "add", a=1, b=2)


async def test_a_call_waits_a_moment_for_a_session_that_is_about_to_be_there(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(server, "SOON_S", math.inf)  # it takes a busy machine long to start one
    async with mounted(mount_of(tmp_path)) as made:
        add = made.tools["lamps_add"]
    made.note_end("it fell over", retry_in_s=1)
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            with net(NET_S):
                assert await call_tool(add, {"a": 1, "b": 2}) == {"result": 3}
            nursery.cancel_scope.cancel(reason="answered")

        nursery.start_soon(later)
        await wait_all_tasks_blocked()
        nursery.start_soon(made.run, lambda: None)
    monkeypatch.setattr(server, "SOON_S", 0.05)
    made.note_end("it fell over", retry_in_s=0.01)
    with pytest.raises(ToolFailed, match="lamps is not there: it is being started"):
        await call(made, "add", a=1, b=2)


async def test_new_tools_are_learnt_when_the_server_says_so(tmp_path: Path) -> None:
    learnt, up = trio.Event(), trio.Event()

    def look() -> None:
        if "lamps_sum" in made.tools:
            learnt.set()

    made = McpServer(mount_of(tmp_path), look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run, up.set)
        with net(NET_S):
            await up.wait()
            await call(made, "grow")
            await learnt.wait()
        assert await call(made, "sum", a=2, b=2) == {"result": 4}
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (("/no/such/server",), r"could not be run: server: No such file or directory.$"),
        (("no-such-server",), r"could not be run: no-such-server: No such file .* in the hub's PATH"),
        (("/bin/sh", "-c", "echo bad config >&2; exit 7"), "exit code 7: bad config"),
        (("/bin/sh", "-c", "echo no json; cat >/dev/null & sleep 0.2; exit 0"), "exit code 0"),
    ],
)
async def test_a_server_that_can_not_be_started_says_why(tmp_path: Path, command: Any, fault: str) -> None:
    made = McpServer(replace(mount_of(tmp_path), command=command))
    with net(NET_S), capture(), pytest.raises(ToolFailed, match=fault):
        await made.run(lambda: None)


async def test_one_that_writes_no_messages_does_not_fill_the_log(
    tmp_path: Path, monkeypatch: Any, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(server, "START_S", 1.0)
    made = McpServer(replace(mount_of(tmp_path), command=("yes", "hello")))

    async def run() -> None:
        with pytest.raises(ToolFailed, match=r"within 1 s"):
            await made.run(lambda: None)

    with net(NET_S), capture() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while len(lines) < MAX_LINES:
                await trio.lowlevel.checkpoint()
            for _ in range(MAX_LINES):  # it is read on, a line in each turn of the loop
                await trio.lowlevel.checkpoint()
            elapse(mock_clock, server.START_S)
    assert [line["text"] for line in lines] == ["hello"] * MAX_LINES


async def test_one_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "START_S", 0.3)
    made = McpServer(replace(mount_of(tmp_path), command=("/bin/sh", "-c", "cat >/dev/null")))
    with net(NET_S), pytest.raises(ToolFailed, match=r"did not answer within 0.3 s"):
        await made.run(lambda: None)


async def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ToolFailed, match=re.escape(remedy("mcp"))):
        await McpServer(mount_of(tmp_path)).run(lambda: None)


@asynccontextmanager
async def served(tmp_path: Path, *words: str) -> AsyncIterator[tuple[int, trio.Process]]:
    """Run the server over HTTP until the block is left; its socket is there before it is."""
    env = {**os.environ, "NOTES": str(tmp_path / "notes")}
    async with trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd, port = listener.fileno(), listener.getsockname()[1]
            command = [sys.executable, "-m", "tests.fakes.mcp_server", str(fd), *words]
            run = partial(trio.run_process, command, cwd=process.ROOT, env=env, pass_fds=[fd], check=False)
            running: trio.Process = await nursery.start(partial(run, capture_stderr=True))
        yield port, running
        running.send_signal(signal.SIGKILL)


@OVER_HTTP
async def test_over_http(tmp_path: Path) -> None:
    async with served(tmp_path) as (port, _):
        url = f"http://127.0.0.1:{port}/mcp"
        mount = Mount("lamps", Limits(), CAGE, url=url, token=Secret("of-the-lamps"))
        async with mounted(mount) as made:
            assert await call(made, "add", a=1, b=2) == {"result": 3}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, made, "hold")
                await noted(tmp_path, "hold begun")
                nursery.cancel_scope.cancel(reason="the user says stop")
            await noted(tmp_path, "hold ended")


@OVER_HTTP
@pytest.mark.parametrize("words", [(), ("json",)], ids=["stream", "document"])
async def test_an_answer_over_http_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(http, "MAX_MESSAGE_BYTES", 3_000_000)
    async with served(tmp_path, *words) as (port, _):
        limits = Limits(max_output_bytes=2_500_000)
        mount = Mount("lamps", limits, CAGE, url=f"http://127.0.0.1:{port}/mcp")
        async with mounted(mount) as made:
            assert await call(made, "say", text="x" * 2_000_000) == "x" * 2_000_000
            with pytest.raises(ToolFailed, match=r"3000000 byte"):
                await call(made, "say", text="x" * 3_000_000)
            assert await call(made, "add", a=1, b=2) == {"result": 3}  # the session goes on


@OVER_HTTP
async def test_a_server_that_dies_behind_http_ends_its_session(tmp_path: Path) -> None:
    async with served(tmp_path) as (port, running):
        made = McpServer(Mount("lamps", Limits(), CAGE, url=f"http://127.0.0.1:{port}/mcp"))
        up, ended = trio.Event(), trio.Event()

        async def session() -> None:
            with pytest.raises(ToolFailed):
                await made.run(up.set)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(session)
            with net(NET_S):
                await up.wait()
                running.send_signal(signal.SIGKILL)
                with pytest.raises(ToolFailed):
                    await call(made, "add", a=1, b=2)
                await ended.wait()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("get_current_time", "lamps_get_current_time"),
        ("lamps_on", "lamps_on"),
        ("home/light.on", "lamps_home_light_on"),
        ("x" * 90, "lamps_" + "x" * 58),
    ],
)
def test_names_fit_openais_rule(tmp_path: Path, theirs: str, ours: str) -> None:
    assert mount_of(tmp_path).tool_name(theirs) == ours
