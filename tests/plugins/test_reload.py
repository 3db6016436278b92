"""Plugins change while the hub runs: folders come, change, break and go."""

import gc
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.log import capture
from apexbridge_trio.plugins import Plugins, roster, shelf, watch
from apexbridge_trio.plugins.mcp import server
from apexbridge_trio.plugins.watch import touched
from tests.harness import process
from tests.harness.quiet import open_fds
from tests.plugins.folders import ECHO, SUNDAY, call_tool, load, write_plugin
from tests.plugins.programs import SAFETY_S

SAY = "async def echo(arguments, home):\n    return {}\n"
HOLD = """
import trio
from pathlib import Path
async def echo(arguments, home):
    Path(home.state, "begun").touch()
    while not Path(home.state, "go").exists():
        await trio.sleep(0.01)
    return "old"
"""
SENTENCES = '[[sentences.en.phrases]]\ntool = "echo"\nsay = ["say it"]\nanswer = "said"\nexample = "Say it"\n'


@asynccontextmanager
async def watched(
    plugins: Plugins, noted: Callable[[list[Path]], object] = lambda _: None
) -> AsyncIterator[trio.MemoryReceiveChannel[None]]:
    """Watch the folders; each reload is a message."""
    told, reloads = trio.open_memory_channel[None](100)
    before = len(open_fds())
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            nursery.start_soon(watch, plugins, partial(told.send, None), noted)
            await warm(plugins, reloads)
            yield reloads
            nursery.cancel_scope.cancel(reason="the test is over")
        while len(open_fds()) > before:  # the watcher's own thread ends after it was told to
            await trio.sleep(0.01)


async def warm(plugins: Plugins, reloads: trio.MemoryReceiveChannel[None]) -> None:
    """Make changes until one is noticed: the watch begins in a thread, and does not say when."""
    folder = plugins.directories[0] / "warm"
    while True:
        folder.mkdir()
        with trio.move_on_after(0.3):
            await reloads.receive()
            break
        folder.rmdir()
    folder.rmdir()
    with trio.move_on_after(0.5):
        await reloads.receive()


async def test_a_folder_is_added_changed_broken_and_removed(tmp_path: Path) -> None:
    place = tmp_path / "plugins"
    place.mkdir()
    plugins = load(place, state=tmp_path / "state")
    async with watched(plugins) as reloads:
        folder = write_plugin(place, code=SAY.format(1))
        while "echo" not in plugins.tools:
            await reloads.receive()
        for number in (2, 3, 4):
            (folder / "echo.py").write_text(SAY.format(number))
            while await call_tool(plugins.tools["echo"], {}) != number:
                await reloads.receive()
        (folder / "echo.py").write_text("def")
        while not plugins.faults:
            await reloads.receive()
        assert await call_tool(plugins.tools["echo"], {}) == 4
        assert [entry["state"] for entry in roster(plugins)] == ["ready", "refused"]
        assert roster(plugins)[0]["calls"]["started"] >= 4  # counted on
        (folder / "plugin.toml").write_text(ECHO + "colour = 1\n")
        while "colour" not in plugins.faults[0]:
            await reloads.receive()
        (folder / "plugin.toml").write_text(ECHO)
        (folder / "echo.py").write_text(SAY.format(5))
        while plugins.faults:
            await reloads.receive()
        assert await call_tool(plugins.tools["echo"], {}) == 5
        assert not (folder / "__pycache__").exists()
        shutil.rmtree(folder)
        while plugins.tools:
            await reloads.receive()
        assert roster(plugins) == []


async def test_who_notes_changes_hears_of_each_folder_that_holds_something_else(tmp_path: Path) -> None:
    place = tmp_path / "plugins"
    place.mkdir()
    plugins = load(place, state=tmp_path / "state")
    heard: list[Path] = []
    async with watched(plugins, heard.extend) as reloads:
        folder = write_plugin(place, code=SAY)
        while "echo" not in plugins.tools:
            await reloads.receive()
        assert folder in heard
        del heard[:]
        (place / "no-plugin").mkdir()
        shutil.rmtree(folder)
        while plugins.tools:
            await reloads.receive()
    assert set(heard) == {folder}


async def test_a_call_in_flight_ends_on_what_it_began_with(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "plugins", code=HOLD)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    results: list[Any] = []

    async def call() -> None:
        results.append(await call_tool(plugins.tools["echo"], {}))

    state = tmp_path / "state/plugins/echo"
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            while not (state / "begun").exists():
                await trio.sleep(0.01)
            (folder / "echo.py").write_text(SAY.format('"new"'))
            await plugins.reload([folder])
            assert await call_tool(plugins.tools["echo"], {}) == "new"
            (state / "go").touch()
    assert results == ["old"]


async def test_code_that_nobody_uses_any_more_is_forgotten(tmp_path: Path) -> None:
    def loaded() -> set[str]:
        gc.collect()
        return {name for name in sys.modules if name.startswith("_apexbridge_plugin_")}

    before = loaded()  # by name: what other tests have left goes at its own time

    async def has_come_to(number: int) -> None:
        with trio.fail_after(SAFETY_S):
            while len(loaded() - before) != number:  # a thread may hold what it has opened a moment longer
                await trio.sleep(0.01)

    late = "async def echo(arguments, home):\n    from .sibling import WORD\n    return WORD\n"
    folder = write_plugin(tmp_path / "plugins", code=late)
    (folder / "sibling.py").write_text("WORD = 'hello'\n")
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    old = plugins.tools["echo"]
    with capture():
        for number in range(5):
            (folder / "echo.py").write_text(SAY.format(number))
            await plugins.reload([folder])
    assert await call_tool(old, {}) == "hello"
    await has_come_to(3 + 2)  # of the old one, with its sibling, and of the newest
    del old
    await has_come_to(2)


async def test_nobody_sees_half_of_what_changed_together(tmp_path: Path, monkeypatch: Any) -> None:
    names = {"first": "one", "second": "two"}
    code = "async def one(arguments, home): ...\nasync def two(arguments, home): ...\n"
    for folder, name in names.items():
        write_plugin(tmp_path, folder=folder, manifest=ECHO.replace('"echo"', f'"{name}"'), code=code)
    plugins = load(tmp_path, state=tmp_path / "state")
    seen: list[list[str]] = []

    def look() -> None:
        plugins.exchange()  # as an MCP server does that tells its tools meanwhile
        seen.append(sorted(plugins.tools))

    def open_and_look(folder: Path) -> Any:
        opened = real(folder)
        trio.from_thread.run_sync(look)
        return opened

    real = plugins._open
    monkeypatch.setattr(plugins, "_open", open_and_look)
    for folder, name in zip(names, reversed(names.values()), strict=True):
        (tmp_path / folder / "plugin.toml").write_text(ECHO.replace('"echo"', f'"{name}"'))
    with capture():
        await plugins.reload({tmp_path / folder for folder in names})
    assert [*seen, sorted(plugins.tools)] == [["one", "two"]] * 3
    assert plugins.tools["one"].plugin == "one"
    assert plugins.offer.plugins["one"].source.parent.name == "second"


async def test_code_that_hangs_when_it_is_imported_holds_up_nobody(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shelf, "OPEN_S", 0.2)
    folder = write_plugin(tmp_path / "plugins")
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    on, ended = tmp_path / "on", tmp_path / "ended"
    (folder / "echo.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(on)!r}).exists(): time.sleep(0.01)\n"
        f"pathlib.Path({str(ended)!r}).touch()\n"
    )
    with trio.fail_after(SAFETY_S), capture() as lines:
        await plugins.reload([folder])
        assert await call_tool(plugins.tools["echo"], {"a": 1}) == {"a": 1}
        assert roster(plugins)[1]["lastError"] == "it can not be opened within 0.2 s"
        assert [line["event"] for line in lines] == ["plugin stays as it was", "plugins are loaded anew"]
        on.touch()
        while plugins._opening.borrowed_tokens:  # its thread has not ended
            await trio.sleep(0.01)
        assert ended.exists()


async def test_of_two_reloads_at_once_the_later_one_stays(tmp_path: Path, monkeypatch: Any) -> None:
    folder = write_plugin(tmp_path / "plugins", code=SAY.format(1))
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    read, noted, go = trio.Event(), trio.Event(), threading.Event()

    async def second() -> None:
        await plugins.reload([folder])
        noted.set()

    def open_slowly(folder: Path) -> Any:
        opened = real(folder)
        if not read.is_set():
            trio.from_thread.run_sync(read.set)
            assert go.wait(SAFETY_S)
        return opened

    real = plugins._open
    monkeypatch.setattr(plugins, "_open", open_slowly)
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plugins.reload, [folder])
            await read.wait()
            (folder / "echo.py").write_text(SAY.format(2))
            nursery.start_soon(second)
            while not (noted.is_set() or plugins._opening.statistics().tasks_waiting):
                await trio.lowlevel.checkpoint()
            go.set()
        assert await call_tool(plugins.tools["echo"], {}) == 2


async def test_a_folder_in_which_nothing_is_new_is_not_told(tmp_path: Path) -> None:
    empty = tmp_path / "plugins/empty"
    empty.mkdir(parents=True)
    bad = write_plugin(tmp_path / "plugins", folder="bad", manifest="name = 1")
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    offer = plugins.offer
    with capture() as lines:
        await plugins.reload([empty, bad])
    assert (lines, plugins.offer) == ([], offer)


async def test_what_a_plugin_writes_into_its_own_folder_is_no_change(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path, folder="inline")
    program = write_plugin(
        tmp_path, folder="program", manifest='name = "p"\ndescription = "x"\nentry = "echo.py"\n'
    )
    server = write_plugin(
        tmp_path, folder="server", manifest='name = "s"\nruntime = "mcp"\nentry = "echo.py"\n'
    )
    plugins = load(tmp_path, state=tmp_path / "state")
    assert plugins.faults == []

    def seen(*paths: Path) -> set[Path]:
        return touched(plugins, paths)

    assert seen(folder / "data.json", program / "echo.py", server / "log.txt") == set()
    assert seen(folder / "echo.py", program / "config.env") == {folder, program}
    assert seen(server / "echo.py", tmp_path / "new" / "any") == {server, tmp_path / "new"}
    assert seen(program, tmp_path, tmp_path.parent) == {program}


async def test_the_embedded_model_knows_what_came(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "plugins")
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    embedded = IntentModel(plugins)
    assert embedded._known.match("say it") is None
    (folder / "plugin.toml").write_text(ECHO + SENTENCES)
    with capture():
        await plugins.reload([folder])
    assert embedded._known.match("say it") is not None
    known = embedded._known
    plugins.exchange()
    assert embedded._known is known


async def test_a_machine_without_watches_says_so_and_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    def no_more(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watchfiles.main.RustNotify", no_more)
    plugins = load(tmp_path, state=tmp_path / "state")
    with capture() as lines, trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, plugins, partial(trio.sleep, 0))
            while not lines:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel(reason="the test is over")
    assert "not watched" in lines[-1]["event"]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def fake_server(*words: str) -> str:
    command = [sys.executable, "-m", "tests.fakes.mcp_server", *words]
    return f'name = "lamps"\nruntime = "mcp"\ncommand = {command}\n'


@asynccontextmanager
async def mounted(tmp_path: Path) -> AsyncIterator[tuple[Plugins, Path]]:
    """A folder with the fake server, up."""
    folder = tmp_path / "plugins" / "lamps"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(fake_server())
    (folder / "config.env").write_text(f"PYTHONPATH={process.ROOT}\nNOTES={tmp_path / 'notes'}\nLAMP=on\n")
    plugins = Plugins.load([tmp_path / "plugins"], state=tmp_path / "state", clock=lambda: SUNDAY)
    with trio.fail_after(5 * SAFETY_S), capture():  # several are started, one after the other
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            assert roster(plugins)[0]["state"] == "starting"
            while "lamps_add" not in plugins.tools:
                await trio.sleep(0.01)
            yield plugins, folder
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_an_mcp_server_is_replaced_once_the_new_one_is_there(tmp_path: Path) -> None:
    async with mounted(tmp_path) as (plugins, folder):
        old = plugins.tools["lamps_environment"]
        pid = (await call_tool(old, {}))["pid"]
        (folder / "plugin.toml").write_text(fake_server("no such word"))
        await plugins.reload([folder])
        while len(roster(plugins)) == 1:
            await trio.sleep(0.01)
        assert "exit code 1: ValueError" in roster(plugins)[1]["lastError"]
        assert (await call_tool(plugins.tools["lamps_environment"], {}))["pid"] == pid
        (folder / "plugin.toml").write_text(fake_server("stdio"))
        await plugins.reload([folder])
        while (await call_tool(plugins.tools["lamps_environment"], {}))["pid"] == pid:
            await trio.sleep(0.01)
        while is_alive(pid):
            await trio.sleep(0.01)
        (entry,) = roster(plugins)
        assert (entry["state"], entry["health"], entry["network"]) == ("running", "ok", "off")


async def test_an_mcp_server_that_is_switched_off_ends_and_comes_back(tmp_path: Path) -> None:
    async with mounted(tmp_path) as (plugins, _folder):
        old = plugins.tools["lamps_environment"]
        pid = (await call_tool(old, {}))["pid"]
        plugins.switch("lamps", on=False)
        assert not plugins.tools
        assert [entry["state"] for entry in roster(plugins)] == ["disabled"]
        while is_alive(pid):
            await trio.sleep(0.01)
        with pytest.raises(ToolFailed, match="switched off"):
            await call_tool(old, {})
        plugins.switch("lamps", on=True)
        while roster(plugins)[0]["state"] != "running":
            await trio.sleep(0.01)
        assert (await call_tool(plugins.tools["lamps_environment"], {}))["pid"] != pid
        (entry,) = roster(plugins)
        assert (entry["state"], entry["calls"]["succeeded"]) == ("running", 2)


async def test_a_tool_of_a_server_that_was_removed_says_so_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(server, "SOON_S", 10 * SAFETY_S)
    async with mounted(tmp_path) as (plugins, folder):
        old = plugins.tools["lamps_environment"]
        pid = (await call_tool(old, {}))["pid"]
        shutil.rmtree(folder)
        await plugins.reload([folder])
        while is_alive(pid) or plugins._supervisor._leaving:
            await trio.sleep(0.01)
        with pytest.raises(ToolFailed, match="not there: it was changed or removed"):
            await call_tool(old, {})


async def test_a_server_that_falls_over_is_up_again(tmp_path: Path) -> None:
    async with mounted(tmp_path) as (plugins, _):
        with pytest.raises(ToolFailed, match="Connection closed"):
            await call_tool(plugins.tools["lamps_leave"], {"code": 3})
        while (roster(plugins)[0]["state"], roster(plugins)[0]["restarts"]) != ("running", 1):
            await trio.sleep(0.01)
        assert await call_tool(plugins.tools["lamps_add"], {"a": 1, "b": 2}) == {"result": 3}
        assert "exit code 3: I am leaving" in roster(plugins)[0]["lastError"]


STATIC = 'name = "fridge"\ndescription = "x"\ntype = "static"\nruntime = "inline"\nentry = "echo.py"\n'


async def test_a_static_text_is_fetched_again(tmp_path: Path, autojump_clock: Any) -> None:
    code = "n = 0\nasync def fridge(arguments, home):\n    global n\n    n += 1\n    return {'milk': n}\n"
    write_plugin(tmp_path / "plugins", manifest=STATIC + "[refresh]\nevery_s = 60\n", code=code)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    assert not plugins.tools
    text = plugins.offer.texts["fridge"]
    async with trio.open_nursery() as nursery:
        await nursery.start(plugins.run)
        await trio.testing.wait_all_tasks_blocked()
        assert text.value == '{"milk":1}'
        await trio.sleep(121)
        assert text.value == '{"milk":3}'
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_a_changed_text_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    said = "import trio\nasync def fridge(arguments, home):\n    return 'milk'\n"
    folder = write_plugin(tmp_path / "plugins", manifest=STATIC, code=said)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            while not plugins.offer.texts["fridge"].value:
                await trio.sleep(0.01)
            (folder / "echo.py").write_text(said.replace("return", "await trio.sleep_forever(); return"))
            await plugins.reload([folder])
            assert plugins.offer.texts["fridge"].value == "milk"
            (folder / "plugin.toml").write_text(STATIC.replace("fridge", "board"))
            (folder / "echo.py").write_text(said.replace("fridge", "board").replace("'milk'", "home.oops"))
            await plugins.reload([folder])
            assert plugins.offer.texts["board"].value == ""
            nursery.cancel_scope.cancel(reason="the test is over")


SERVICE = 'name = "bell"\ndescription = "x"\ntype = "service"\n'


async def test_a_service_in_the_hub_runs_as_long_as_it(tmp_path: Path, autojump_clock: Any) -> None:
    manifest = SERVICE + 'runtime = "inline"\nentry = "echo.py"\n'
    code = "import trio\nasync def run(home):\n    await trio.sleep(5)\n    raise LookupError('no bell')\n"
    write_plugin(tmp_path / "plugins", manifest=manifest, code=code)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    with capture():
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            await trio.sleep(4)
            assert roster(plugins)[0]["state"] == "running"
            await trio.sleep(1.5)
            (entry,) = roster(plugins)
            assert (entry["state"], entry["lastError"]) == ("restarting", "LookupError: no bell")
            nursery.cancel_scope.cancel(reason="the test is over")


def test_a_service_in_the_hub_needs_its_function(tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", manifest=SERVICE + 'runtime = "inline"\nentry = "echo.py"\n')
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    assert "echo.py has no async function run" in plugins.faults[0]


async def test_a_service_that_is_a_program_is_up_again_and_gone_at_the_end(tmp_path: Path) -> None:
    code = "echo up $$; echo $$ >> $HOME/pids; test -e $HOME/twice && exec sleep 3600; touch $HOME/twice; echo bad >&2; exit 3\n"
    folder = tmp_path / "plugins/bell"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(SERVICE + 'entry = "bell.sh"\n')
    (folder / "bell.sh").write_text(code)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    pids = tmp_path / "state/plugins/bell/pids"
    with trio.fail_after(SAFETY_S), capture() as lines:
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            while not (pids.exists() and len(pids.read_text().split()) == 2):
                await trio.sleep(0.01)
            pid = int(pids.read_text().split()[1])
            while f"up {pid}" not in [line.get("text") for line in lines]:
                await trio.sleep(0.01)
            (entry,) = roster(plugins)
            assert (entry["state"], entry["restarts"]) == ("running", 1)
            assert entry["lastError"] == "It has ended with exit code 3: bad"
            nursery.cancel_scope.cancel(reason="the test is over")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
