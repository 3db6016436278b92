"""A hub and machines that join it, all of them real processes."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.harness import process
from tests.harness.process import PYTHON, ROOT

# A safety net for what a busy machine does in its own time, not a bound that is tested.
NET_S = 120.0

# Holds the call until a file is there; notes each run in another; may start a tree that hides.
PLUGIN_TOML = """
name = "work"
version = "1.0.0"
description = "Work for a test."
type = "direct"
entry = "work.py"
[limits]
max_execution_s = 600
max_concurrency = 100
[[tools]]
name = "work"
description = "Not to be done twice."
[[tools]]
name = "again"
description = "May be done twice."
idempotent = true
[[tools]]
name = "spawn"
description = "Starts ten nested processes, one in a session of its own, and waits."
"""
WORK_PY = """
import json, os, subprocess, sys, time
from pathlib import Path
asked = json.load(sys.stdin)
here = Path(asked["folder"])
if os.environ["APEXBRIDGE_TOOL"] == "spawn":
    code = (
        "import os, subprocess, sys, time\\n"
        "depth = int(sys.argv[1])\\n"
        "open(sys.argv[2], 'a').write(f'{os.getpid()}\\\\n')\\n"
        "if depth: subprocess.Popen([sys.executable, '-c', sys.argv[3], str(depth - 1), *sys.argv[2:]], "
        "start_new_session=depth == 5)\\n"
        "time.sleep(600)\\n"
    )
    subprocess.Popen([sys.executable, "-c", code, "9", str(here / "pids"), code])
    time.sleep(600)
with open(here / "runs", "a") as runs:
    runs.write(f"{asked['id']} {asked.get('node', '')}\\n")
while not (here / "go").exists():
    time.sleep(0.05)
print(json.dumps({"did": asked["id"]}))
"""


@dataclass
class House:
    """A running hub, and who asks it.

    Attributes:
        admin: A client with a key that may do everything.
    """

    state: Path
    hub: process.Running
    admin: httpx.AsyncClient
    node_key: str
    nodes: dict[str, trio.Process] = field(default_factory=dict)

    async def get(self, path: str) -> Any:
        return (await self.admin.get(f"{self.hub.url}{path}")).json()

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.admin.post(f"{self.hub.url}{path}", json=body)

    async def until(self, path: str, check: Any) -> Any:
        """Ask until what is answered passes."""
        with trio.fail_after(NET_S):
            while not check(said := await self.get(path)):
                await trio.sleep(0.05)
        return said

    @asynccontextmanager
    async def node(self, name: str, *options: str) -> AsyncIterator[trio.Process]:
        """Run `apexbridge node` on a machine of its own: another state directory, and the test's plugin."""
        home = self.state / f"node-{name}"
        _furnish(home, self.node_key)
        command = [
            PYTHON, "-m", "apexbridge_trio", "node", "--hub", self.hub.url, "--key-file", str(home / "key"),
            "--name", name, "--id", name, "--state", str(home), "--plugins", str(home / "plugins"),
            "--plugins", str(ROOT / "plugins"), *options,
        ]  # fmt: skip
        log = (home / "log").open("ab")
        with log:
            started = await trio.lowlevel.open_process(command, stdout=log, stderr=log, cwd=ROOT)
        self.nodes[name] = started
        try:
            await self.until("/v1/nodes", lambda nodes: _is_online(nodes, name))
            yield started
        finally:
            with trio.CancelScope(shield=True):
                await _end(started)


async def _end(started: trio.Process) -> None:
    if started.poll() is None:
        started.send_signal(signal.SIGCONT)
        started.send_signal(signal.SIGTERM)
        with trio.move_on_after(NET_S):
            await started.wait()
    if started.poll() is None:
        started.kill()
    await started.wait()


def _furnish(home: Path, key: str) -> None:
    folder = home / "plugins" / "work"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plugin.toml").write_text(PLUGIN_TOML, "utf-8")
    (folder / "work.py").write_text(WORK_PY, "utf-8")
    file = home / "key"
    file.touch(mode=0o600)
    file.write_text(key, "utf-8")


def _is_online(nodes: Any, name: str) -> bool:
    return any(node["id"] == name and node["status"] != "offline" for node in nodes)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def make_key(state: Path, *scopes: str) -> str:
    """Make a key as an administrator does."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    return await process.command("keys", "create", "--state", str(state), *words)


@asynccontextmanager
async def house(state: Path, toml: str = "", *options: str) -> AsyncIterator[House]:
    """Run a hub with keys for an administrator and for nodes."""
    hub_state = state / "hub"
    hub_state.mkdir(exist_ok=True)
    admin, node = await make_key(hub_state, "admin", "chat"), await make_key(hub_state, "node")
    headers = {"Authorization": f"Bearer {admin}"}
    async with (
        process.hub(hub_state, toml, *options) as hub,
        httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client,
    ):
        yield House(state, hub, client, node)


def kill_hub(running: process.Running) -> None:
    """SIGKILL, as the power cord does."""
    os.kill(running.process.pid, signal.SIGKILL)
