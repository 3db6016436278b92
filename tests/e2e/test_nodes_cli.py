"""Nodes from the command line: a hub, an agent that was joined by the printed line, and its tasks."""

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.harness import process

NAP = """
import json, os, sys, time
with open(json.load(sys.stdin)["told"], "w") as told:
    told.write(str(os.getpid()))
while True:
    time.sleep(60)
"""
NAP_TOML = """
name = "nap"
description = "Sleeps until it is woken."
entry = "nap.py"
type = "direct"

[parameters]
type = "object"
"""
# A machine of its own has nothing of what this one's environment says of a hub.
OURS = ("APEXBRIDGE_URL", "APEXBRIDGE_KEY", "STATE_DIRECTORY")


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class House:
    """A hub, and who gives it orders."""

    state: Path
    url: str
    env: dict[str, str]

    async def run(self, *words: str, code: int = 0) -> Ran:
        """Run a command and check its exit code."""
        done = await trio.run_process(
            [process.PYTHON, "-m", "apexbridge_trio", *words],
            capture_stdout=True, capture_stderr=True, check=False, cwd=process.ROOT, env=self.env,
        )  # fmt: skip
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert ran.code == code, ran
        return ran

    async def invite(self, name: str) -> str:
        """Return the line that joins a node."""
        return (await self.run("nodes", "invite", name, "--state", str(self.state), "--hub", self.url)).out


@asynccontextmanager
async def house(state: Path) -> AsyncIterator[House]:
    await trio.Path(state).mkdir()
    async with process.hub(state) as hub:
        key = await process.command("keys", "create", "--scope", "admin", "--state", str(state))
        env = {**os.environ, "APEXBRIDGE_URL": hub.url, "APEXBRIDGE_KEY": key}
        yield House(state, hub.url, env)


@dataclass
class Shell:
    """A line that runs, and what it and all that it has started say on stderr."""

    pid: int
    said: bytearray = field(default_factory=bytearray)
    ended: trio.Event = field(default_factory=trio.Event)
    _more: trio.Event = field(default_factory=trio.Event)

    async def read(self, pipe: trio.abc.ReceiveStream) -> None:
        async for data in pipe:
            self.said += data
            self._more.set()
            self._more = trio.Event()
        self.ended.set()

    async def says(self, pattern: str) -> str:
        """Wait until it has said something, and return its group."""
        with trio.fail_after(process.START_S):
            while not (found := re.search(pattern, self.said.decode())):
                await self._more.wait()
        return found[1]


@asynccontextmanager
async def shell(line: str, place: Path) -> AsyncIterator[Shell]:
    """Run a line as a person does who has pasted it; leaving ends it and what it has started."""
    await trio.Path(place).mkdir()
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    env |= {
        "PATH": f"{Path(process.PYTHON).parent}:{env['PATH']}",
        "XDG_STATE_HOME": str(place / "state"),
    }
    run = partial(
        trio.run_process, ["sh", "-c", line],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, cwd=place, env=env, start_new_session=True,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        started = await nursery.start(run)
        running = Shell(started.pid)
        nursery.start_soon(running.read, started.stderr)
        try:
            yield running
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            # The pipe ends with the last of them that has it: the agent, after its drain.
            with trio.fail_after(process.STOP_S, shield=True):
                await running.ended.wait()
            await started.stderr.aclose()


@asynccontextmanager
async def joined(home: House, name: str, place: Path, more: str = "") -> AsyncIterator[str]:
    """Join a node by the line of an invitation, and return its id."""
    async with shell((await home.invite(name)).strip() + more, place) as running:
        yield await running.says(r"registered.* node=(\S+)")


async def test_a_node_joins_by_the_printed_line_and_works(tmp_path):
    async with house(tmp_path / "hub") as home, joined(home, "kitchen-pi", tmp_path / "pi") as node_id:
        file = tmp_path / "pi/kitchen-pi.key"
        assert file.stat().st_mode & 0o777 == 0o600
        (node,) = (await home.run("nodes", "--json")).json
        assert (node["id"], node["name"], node["status"]) == (node_id, "kitchen-pi", "online")
        assert f"{node_id}  kitchen-pi  worker  online  0/4" in (await home.run("nodes")).out
        assert "calculator" in (await home.run("nodes", "show", node_id)).out

        product = '{"expression": "6*7"}'
        ran = await home.run("tasks", "run", "calculator", product, "--wait", "--node", node_id)
        assert ran.json["result"] == "42"
        (task,) = (await home.run("tasks", "--json")).json
        shown = await home.run("tasks", "show", task["taskId"])
        states = re.findall(r"\n\d{4}-\S+ \S+ +(\w+)", shown.out)
        assert states[0] == "assigned", shown
        assert states[-1] == "succeeded"
        assert '"expression": "6*7"' in shown.out
        assert '"result": "42"' in shown.out

        ran = await home.run("tasks", "run", "calculator", '{"expression": "6*"}', "--wait", code=1)
        assert (ran.out, ran.err.count("\n")) == ("", 1)
        assert "failed" in ran.err
        again = (await home.run("tasks", "retry", task["taskId"])).out.strip()
        assert (await home.run("tasks", "show", again, "--json")).json["metadata"] == {
            "retryOf": task["taskId"]
        }


async def test_a_node_is_drained_and_once_it_has_left_forgotten(tmp_path):
    async with house(tmp_path / "hub") as home:
        async with joined(home, "pi", tmp_path / "pi") as node_id:
            ran = await home.run("nodes", "drain", node_id)
            assert ran.out == f"{node_id} is draining, tasks there: 0 of 4\n"
            ran = await home.run("tasks", "run", "calculator", "{}", code=1)
            assert "No node that is online can run calculator" in ran.err
            assert (await home.run("nodes", "resume", node_id)).out.startswith(f"{node_id} is online")
            assert node_id == "pi"
        (node,) = (await home.run("nodes", "--status", "offline", "--json")).json
        assert (await home.run("nodes")).out.rstrip().endswith(node["lastDisconnect"]["reason"])
        await home.run("nodes", "forget", node_id)
        await home.run("nodes", "show", node_id, code=5)


@pytest.fixture
def nap(tmp_path):
    """A directory with a plugin that never ends, and the pipe by which it says who it is."""
    folder = tmp_path / "plugins/nap"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(NAP_TOML)
    (folder / "nap.py").write_text(NAP)
    os.mkfifo(tmp_path / "told")
    return folder.parent


async def napper(pipe: Path) -> int:
    """Wait until the plugin runs, and return its pid."""
    with trio.fail_after(process.START_S):
        return int(await trio.to_thread.run_sync(pipe.read_text, abandon_on_cancel=True))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_task_is_cancelled_and_its_process_is_gone_before_the_receipt(tmp_path, nap):
    more, told = f" --plugins {nap}", tmp_path / "told"
    async with house(tmp_path / "hub") as home, joined(home, "pi", tmp_path / "pi", more):
        task = (await home.run("tasks", "run", "nap", json.dumps({"told": str(told)}))).out.strip()
        pid = await napper(told)
        ran = await home.run("tasks", "cancel", task)
        assert not is_alive(pid)
        assert ran.out.startswith(f"{task} stopped in ")
        assert f"node {task}/nap: stopped" in ran.out
        assert (await home.run("tasks", "show", task, "--json")).json["state"] == "interrupted"


async def test_ctrl_c_stops_a_task_that_is_waited_for(tmp_path, nap):
    more, told = f" --plugins {nap}", tmp_path / "told"
    async with house(tmp_path / "hub") as home, joined(home, "pi", tmp_path / "pi", more):
        words = ["tasks", "run", "nap", json.dumps({"told": str(told)}), "--wait"]
        command = [process.PYTHON, "-m", "apexbridge_trio", *words]
        run = partial(trio.run_process, command, stderr=subprocess.PIPE, check=False, env=home.env)
        async with trio.open_nursery() as nursery:
            waiting = await nursery.start(run)
            pid = await napper(told)
            waiting.send_signal(signal.SIGINT)
            receipt = ""
            with trio.fail_after(process.STOP_S):
                async for data in waiting.stderr:
                    receipt += data.decode()
                assert await waiting.wait() == 130
            await waiting.stderr.aclose()
        assert not is_alive(pid)
        assert re.match(r"(req_\w+) stopped in .*\n  node \1/nap: stopped, ", receipt)
        (task,) = (await home.run("tasks", "--json")).json
        assert task["state"] == "interrupted"
