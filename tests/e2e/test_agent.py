"""The command ``apexbridge node`` as a process: real sockets, real plugins, real signals."""

import re
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.agent.kept import RESTARTED
from apexbridge_trio.protocol.frames import (
    Heartbeat,
    NodeLog,
    NodeRegister,
    NodeUnregister,
    TaskAccepted,
    TaskCancelled,
    TaskResult,
)
from tests.fakes.nodes_hub import KEY, FakeHub, Wire, why
from tests.harness.process import PYTHON, ROOT
from tests.plugins.programs import Roll, write_program

# A safety net, not a bound that is tested.
NET_S = 120.0

# Programs of a node. `tree` makes a child that is in a session of its own, and one that is deaf.
TREE = """
arguments = json.loads(sys.stdin.read())
if os.fork() == 0:
    os.setsid()
    here()
    if os.fork() == 0:
        here()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stay()
    stay()
here()
stay()
"""
SIZED = """
arguments = json.loads(sys.stdin.read())
answer("x" * arguments["size"])
"""
GATED = """
here()
arguments = json.loads(sys.stdin.read())
while not os.path.exists(arguments["gate"]):
    time.sleep(0.02)
answer({"ran": os.getpid()})
"""
CHATTY = """
here()
while True:
    print("x" * 10_000, flush=True)
    print("y" * 10_000, file=sys.stderr, flush=True)
"""


@dataclass
class Machine:
    """A machine with a state directory, plugins, and agents that run one after the other."""

    place: Path
    url: str
    roll: Roll

    @asynccontextmanager
    async def agent(self, *options: str, key: str = KEY) -> AsyncIterator["Agent"]:
        file = self.place / "key"
        file.write_text(f"{key}\n")
        words = ["--hub", self.url, "--key-file", str(file), "--name", "attic", *options]
        command = [PYTHON, "-m", "apexbridge_trio", "node", *words]
        places = ["--state", str(self.place / "state"), "--plugins", str(self.place / "plugins")]
        async with trio.open_nursery() as nursery:
            process = await nursery.start(_spawn, [*command, *places])
            agent = Agent(process, bytearray())
            nursery.start_soon(agent.collect)
            try:
                yield agent
            finally:
                if process.poll() is None:
                    process.kill()
                with trio.CancelScope(shield=True), trio.move_on_after(NET_S):
                    await process.wait()
                nursery.cancel_scope.cancel(reason="the agent has ended")
                await trio.aclose_forcefully(process.stderr)


@dataclass
class Agent:
    process: trio.Process
    said: bytearray

    async def collect(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.said += data

    async def has_said(self, words: str) -> None:
        while words not in self.said.decode():
            await trio.sleep(0.02)

    async def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def die(self) -> None:
        self.process.kill()
        await self.process.wait()


async def _spawn(command: list[str], *, task_status: Any) -> None:
    await trio.run_process(command, stderr=subprocess.PIPE, check=False, cwd=ROOT, task_status=task_status)


@asynccontextmanager
async def open_machine(place: Path, hub: FakeHub, **programs: str) -> AsyncIterator[Machine]:
    """Serve `hub` on TCP, and write the plugins of a machine that is to join it."""
    address = place / "roll"
    for name, code in programs.items():
        limits = "max_output_bytes = 4000000\nmax_concurrency = 8\n"
        folder = write_program(place / "plugins" / name, code, limits=limits)
        manifest = folder / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('name = "echo"', f'name = "{name}"'))
        (folder / "config.env").write_text(f"ROLL={address}\n")
    (place / "plugins").mkdir(exist_ok=True)
    with trio.fail_after(NET_S), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(100)
        roll = Roll(listener)
        try:
            async with hub.listen() as url:
                yield Machine(place, url, roll)
        finally:
            roll.close()


async def joined(hub: FakeHub, number: int = 0) -> tuple[Wire, NodeRegister]:
    wire = await hub.wire(number)
    register = await wire.hear(NodeRegister)
    await wire.hear(Heartbeat)
    return wire, register


async def settled(hub: FakeHub, number: int) -> None:
    """Wait as `joined` does, for a node of little patience: it leaves a test that is paused, and comes again."""
    for again in count(number):
        try:
            await joined(hub, again)
        except AssertionError:
            assert (await hub.wire(again)).is_closed
        else:
            return


async def test_a_node_joins_runs_a_task_and_leaves(tmp_path):
    hub = FakeHub()
    options = ("--capability", "gpu", "--max-concurrent", "2", "--type", "companion", "--id", "node-a")
    async with open_machine(tmp_path, hub, sized=SIZED) as machine, machine.agent(*options) as agent:
        wire, register = await joined(hub)
        assert (register.name, register.node_id, register.type) == ("attic", "node-a", "companion")
        assert register.capabilities == ["gpu"]
        assert register.config.tasks.max_concurrent == 2
        assert [(spec.name, spec.plugin) for spec in register.specs] == [("sized", "sized")]
        await wire.assign("task_1", "sized", arguments={"size": 3})
        assert bytes((await wire.result_of("task_1")).result) == b'"xxx"'
        await wire.assign("task_2", "sized", arguments={})
        assert not (await wire.result_of("task_2")).success
        assert await agent.end() == 0
        await wire.hear(NodeUnregister)
    assert KEY not in agent.said.decode()


async def test_a_result_of_a_megabyte(tmp_path):
    hub = FakeHub()
    async with open_machine(tmp_path, hub, sized=SIZED) as machine, machine.agent() as agent:
        wire, _ = await joined(hub)
        for number in range(3):
            await wire.assign(f"t{number}", "sized", arguments={"size": 1_000_000})
        results = [await wire.hear(TaskResult) for _ in range(3)]
        assert {result.task_id for result in results} == {"t0", "t1", "t2"}
        assert {len(bytes(result.result)) for result in results} == {1_000_002}
        assert await agent.end() == 0
    assert list((tmp_path / "state/nodes/attic/results").iterdir()) == []


async def test_a_cancelled_task_is_confirmed_when_its_whole_tree_is_gone(tmp_path):
    hub = FakeHub()
    async with open_machine(tmp_path, hub, tree=TREE) as machine, machine.agent():
        wire, _ = await joined(hub)
        await wire.assign("task_1", "tree")
        await machine.roll.called(3)
        await wire.cancel("task_1", "the user said stop")
        assert (await wire.hear(TaskCancelled)).task_id == "task_1"
        assert machine.roll.alive() == 0


async def test_a_deadline_ends_the_tree_too(tmp_path):
    hub = FakeHub()
    async with open_machine(tmp_path, hub, tree=TREE) as machine, machine.agent():
        wire, _ = await joined(hub)
        await wire.assign("task_1", "tree", timeout_ms=60_000, remaining_ms=2000)
        result = await wire.result_of("task_1")
        assert why(result).code == "timeout"
        assert machine.roll.alive() == 0


async def test_a_killed_agent_delivers_after_its_restart_and_answers_for_what_ran(tmp_path):
    hub = FakeHub(acks=False)
    async with open_machine(tmp_path, hub, sized=SIZED, tree=TREE) as machine:
        async with machine.agent() as agent:
            wire, register = await joined(hub)
            await wire.assign("done", "sized", arguments={"size": 200_000})
            await wire.result_of("done")
            await wire.assign("runs", "tree")
            await machine.roll.called(3)
            await agent.die()
        await machine.roll.gone()
        hub.acks = True
        async with machine.agent() as agent:
            again = await hub.wire(1)
            second = await again.hear(NodeRegister)
            assert second.node_id == register.node_id
            assert second.instance_id != register.instance_id
            assert second.active_tasks == ["done", "runs"]
            assert len(bytes((await again.result_of("done")).result)) == 200_002
            assert why(await again.result_of("runs")).code == RESTARTED
            assert await agent.end() == 0
        async with machine.agent():
            _, third = await joined(hub, 2)
            assert third.active_tasks == []


async def test_a_restart_of_the_hub_is_survived_by_a_task(tmp_path):
    hub, gate = FakeHub(), tmp_path / "gate"
    async with open_machine(tmp_path, hub, gated=GATED) as machine, machine.agent() as agent:
        wire, _ = await joined(hub)
        await wire.assign("task_1", "gated", arguments={"gate": str(gate)})
        await wire.hear(TaskAccepted)
        await machine.roll.called(1)
        hub.status = 503
        await wire.close(1001)
        await agent.has_said("HTTP 503")
        hub.status = 0
        again, register = await joined(hub, 1)
        assert register.active_tasks == ["task_1"]
        gate.touch()
        assert (await again.result_of("task_1")).success


async def test_a_frozen_hub_is_left_and_found_again(tmp_path):
    hub = FakeHub(interval_ms=300, timeout_ms=900)
    async with open_machine(tmp_path, hub) as machine, machine.agent() as agent:
        await settled(hub, 0)
        came = len(hub.wires)
        # As after SIGSTOP: the sockets are there, and nobody is behind them.
        for wire in hub.wires:
            wire.go_deaf()
        await agent.has_said("the hub was silent for 0.9 s")
        await settled(hub, came)


async def test_no_work_delays_a_heartbeat(tmp_path):
    hub = FakeHub(interval_ms=200, timeout_ms=20_000)
    async with open_machine(tmp_path, hub, chatty=CHATTY) as machine, machine.agent("--max-concurrent", "3"):
        wire, _ = await joined(hub)
        for number in range(3):
            await wire.assign(f"t{number}", "chatty")
        await machine.roll.called(3)
        beats = 0
        while beats < 10:  # one that waits for the work to end never comes
            beats += (await wire.hear(Heartbeat)).status == "busy"


async def test_a_wrong_key_is_told_and_waited_for(tmp_path):
    hub = FakeHub()
    async with (
        open_machine(tmp_path, hub) as machine,
        machine.agent(key="apx_wrong_key_of_this_test") as agent,
    ):
        await agent.has_said("the hub does not know this key")
        assert agent.process.poll() is None
        retry_s = re.search(r"retry_in_s=([\d.]+)", agent.said.decode())
        assert retry_s
        assert float(retry_s[1]) >= 15
        assert await agent.end() == 0
    assert "apx_wrong" not in agent.said.decode()


async def test_a_drain_waits_for_what_runs_and_a_second_signal_hurries(tmp_path):
    hub, gate = FakeHub(), tmp_path / "gate"
    async with open_machine(tmp_path, hub, gated=GATED, tree=TREE) as machine:
        async with machine.agent() as agent:
            wire, _ = await joined(hub)
            await wire.assign("task_1", "gated", arguments={"gate": str(gate)})
            await machine.roll.called(1)
            agent.process.send_signal(signal.SIGTERM)
            while (await wire.hear(Heartbeat)).status != "offline":
                pass
            gate.touch()
            assert (await wire.result_of("task_1")).success
            await wire.hear(NodeUnregister)
            assert await agent.process.wait() == 0
        async with machine.agent() as agent:
            wire, _ = await joined(hub, 1)
            await wire.assign("task_2", "tree")
            await machine.roll.called(3)
            agent.process.send_signal(signal.SIGTERM)
            while (await wire.hear(Heartbeat)).status != "offline":
                pass
            agent.process.send_signal(signal.SIGTERM)
            assert why(await wire.result_of("task_2")).code == "interrupted"
            assert await agent.process.wait() == 0
            assert machine.roll.alive() == 0


async def test_a_new_plugin_folder_is_offered_without_a_restart(tmp_path):
    hub = FakeHub()
    async with open_machine(tmp_path, hub, sized=SIZED) as machine, machine.agent() as agent:
        wire, _ = await joined(hub)
        await agent.has_said("ready")
        write_program(tmp_path / "new", SIZED)
        (tmp_path / "new").rename(tmp_path / "plugins/echo")
        again = await wire.hear(NodeRegister)
        assert sorted(spec.name for spec in again.specs) == ["echo", "sized"]
        await wire.assign("task_1", "echo", arguments={"size": 1})
        assert (await wire.result_of("task_1")).success
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad/plugin.toml").write_text("name = 7\n")
        (tmp_path / "bad").rename(tmp_path / "plugins/bad")
        # Whatever else it finds worth saying, of a machine that was paused for example.
        while (await wire.hear(NodeLog)).message != "plugin stays as it was":
            pass
        assert KEY not in str([said for said in wire.said if not isinstance(said, TaskResult)])


async def test_two_agents_of_one_name_do_not_share_a_folder(tmp_path):
    hub = FakeHub()
    async with open_machine(tmp_path, hub) as machine, machine.agent():
        await joined(hub)
        async with machine.agent() as second:
            assert await second.process.wait() == 2
            await second.has_said("another agent runs with")


@pytest.fixture
def certificate(tmp_path):
    made = tmp_path / "tls"
    made.mkdir()
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        ["openssl", *command.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key", "-out", "cert"],
        cwd=made, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made / "cert", made / "key")
    return made / "cert", context


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_by_the_authorities_of_the_machine(tmp_path, certificate, is_trusted, monkeypatch):
    authority, context = certificate
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    hub = FakeHub(tls=context)
    async with open_machine(tmp_path, hub, sized=SIZED) as machine, machine.agent() as agent:
        assert machine.url.startswith("https://")
        if not is_trusted:
            await agent.has_said("this machine does not trust the certificate: self-signed")
            return
        wire, _ = await joined(hub)
        await wire.assign("task_1", "sized", arguments={"size": 1_000_000})
        assert (await wire.result_of("task_1")).success
        assert await agent.end() == 0
