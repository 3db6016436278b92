"""The inline runtime: one call, one outcome, and nothing of a plugin's fault gets further."""

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.plugins import Tool
from tests.harness.kill import kill_at_every_step
from tests.plugins.folders import ECHO, call_tool, load, write_plugin

CODE = """
import trio
from apexbridge_trio.errors import ToolFailed
from pathlib import Path
from .sibling import WORD

async def echo(arguments, home):
    match arguments.get("do"):
        case "sleep":
            await trio.sleep_forever()
        case "fail":
            raise ValueError("no such thing in /srv/secret/file.txt, see https://example.org/a/b on 22/11/2026")
        case "refuse":
            raise ToolFailed("The shop is closed.", code="closed")
        case "silent":
            raise KeyError
        case "open":
            Path("/nowhere/at/all").open()
        case "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
        case "stumble":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stumble)
                await trio.sleep_forever()
        case "exit":
            raise SystemExit("no key")
        case "exits":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo, {"do": "exit"}, home)
        case "object":
            return object()
        case "large":
            return "x" * 100_000
        case "now":
            return home.now().isoformat()
        case "state":
            (home.state / "kept").write_text("x")
            return home.state.name
        case "hold":
            (home.state / str(arguments["n"])).touch()
            await trio.sleep(1)
            (home.state / str(arguments["n"])).unlink()
            return len(list(home.state.iterdir()))
    return {"said": WORD, "arguments": arguments, "at": (1, 2)}

async def fail():
    raise RuntimeError("inside")

async def stumble():
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("it fell over while it was being stopped")
"""


def echo_tool(tmp_path: Path, *, code: str = CODE, limits: str = "") -> Tool:
    folder = write_plugin(tmp_path / "plugins", code=code, manifest=ECHO + limits)
    (folder / "sibling.py").write_text("WORD = 'hello'\n")
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    assert plugins.faults == []
    return plugins.tools["echo"]


async def fault(tool: Tool, **arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await call_tool(tool, arguments)
    return caught.value


async def test_a_call_returns_plain_json(tmp_path: Path) -> None:
    tool = echo_tool(tmp_path)
    assert await call_tool(tool, {"a": 1}) == {"said": "hello", "arguments": {"a": 1}, "at": [1, 2]}
    assert await call_tool(tool, {"do": "now"}) == "2026-11-22T08:00:00+08:00"
    assert await call_tool(tool, {"do": "state"}) == "echo"
    assert (tmp_path / "state/plugins/echo/kept").exists()


async def test_a_fault_is_told_without_trace_and_path(tmp_path: Path) -> None:
    tool = echo_tool(tmp_path)
    failed = await fault(tool, do="fail")
    said = "ValueError: no such thing in …, see https://example.org/a/b on 22/11/2026"
    assert (failed.code, failed.message) == ("tool_failed", said)
    refused = await fault(tool, do="refuse")
    assert (refused.code, refused.message) == ("closed", "The shop is closed.")
    assert (await fault(tool, do="silent")).message == "KeyError"
    assert (await fault(tool, do="open")).message == "FileNotFoundError: No such file or directory"
    assert (await fault(tool, do="group")).message == "RuntimeError: inside"


@pytest.mark.parametrize("do", ["exit", "exits"])
async def test_a_plugin_that_exits_does_not_take_the_hub_along(tmp_path: Path, do: str) -> None:
    with pytest.raises(ToolFailed, match="SystemExit: no key"):
        await call_tool(echo_tool(tmp_path), {"do": do})


async def test_a_fault_beside_a_cancellation_gets_no_further(tmp_path: Path, autojump_clock) -> None:
    tool = echo_tool(tmp_path)
    with trio.move_on_after(1) as scope:
        await call_tool(tool, {"do": "stumble"})
    assert scope.cancelled_caught
    with pytest.raises(ToolFailed, match="ValueError: it fell over"):
        await call_tool(tool, {"do": "stumble"})


async def test_a_result_must_be_json(tmp_path: Path) -> None:
    assert "unsupported" in (await fault(echo_tool(tmp_path), do="object")).message


async def test_a_large_result_is_cut_with_a_note(tmp_path: Path) -> None:
    assert await call_tool(echo_tool(tmp_path), {"do": "large"}) == {
        "cut": "The result has 100002 bytes, the limit is 65536: this is its beginning.",
        "beginning": '"' + "x" * 65535,
    }


async def test_arguments_are_checked_before_the_function_runs(tmp_path: Path) -> None:
    schema = "[parameters]\ntype = 'object'\n[parameters.properties.do]\nenum = ['sleep', 'now']\n"
    tool = echo_tool(tmp_path, limits=schema)
    failed = await fault(tool, do="state")
    assert (failed.code, failed.message) == (
        "invalid_arguments",
        'do: "state" is not one of "sleep" or "now"',
    )
    assert not (tmp_path / "state/plugins/echo/kept").exists()


async def test_arguments_must_be_an_object(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed) as caught:
        await call_tool(echo_tool(tmp_path), ["no"])  # type: ignore[arg-type]
    assert caught.value.code == "invalid_arguments"


async def test_a_call_that_does_not_end_is_timed_out(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    tool = echo_tool(tmp_path, limits="[limits]\nmax_execution_s = 7\n")
    start = trio.current_time()
    failed = await fault(tool, do="sleep")
    assert isinstance(failed, ToolTimeout)
    assert failed.message == "echo did not end within 7 s."
    assert trio.current_time() - start == 7


async def test_calls_over_the_limit_wait(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    tool = echo_tool(tmp_path, limits="[limits]\nmax_concurrency = 2\n")
    most: list[int] = []

    async def one(n: int) -> None:
        most.append(await call_tool(tool, {"do": "hold", "n": n}))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for n in range(6):
            nursery.start_soon(one, n)
    assert trio.current_time() - start == 3
    assert max(most) <= 1  # beside the one that has just left


async def test_an_interrupt_at_any_step_leaves_the_slots_free(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    tool = echo_tool(tmp_path, limits="[limits]\nmax_concurrency = 1\n")

    async def scenario() -> None:
        assert await call_tool(tool, {"do": "hold", "n": 1}) == 0

    async def check(_: bool) -> None:
        with trio.fail_after(60):
            assert await call_tool(tool, {}) is not None

    assert await kill_at_every_step(scenario, check) >= 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def echo(arguments, home): ...\n", "entry: echo.py has no async function echo"),
        ("x = 1\n", "entry: echo.py has no async function echo"),
        ("async def echo(:\n", "entry: SyntaxError: invalid syntax (echo.py, line 1)"),
        ("import no_such_library\n", "entry: ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise ValueError('at /import/time')\n", "entry: ValueError: at …"),
    ],
)
def test_an_entry_that_does_not_load_is_a_fault_and_leaves_no_module(
    tmp_path: Path, code: str, said: str
) -> None:
    write_plugin(tmp_path / "a", code=code)
    before = set(sys.modules)
    plugins = load(tmp_path / "a", state=tmp_path / "state")
    assert said in plugins.faults[0]
    if "no async" not in said:
        assert set(sys.modules) <= before


def test_each_load_has_its_own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path / "a")
    (tmp_path / "echo.py").write_text("raise ValueError('from the working directory')")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    both = [load(tmp_path / "a", state=tmp_path / "state") for _ in range(2)]
    new = {name.rpartition(".")[0] for name in sys.modules.keys() - before if name.endswith(".echo")}
    assert len(new) == len(both)
    assert "echo" not in sys.modules
