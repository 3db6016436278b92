"""Plugins that are programs, called for real, and a roll of which of their processes are alive."""

import importlib
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import CallbackAddress, CallContext, Plugins
from tests.harness.clock import net
from tests.plugins.folders import SHIPPED, SUNDAY

# A safety net, not a bound that is tested.
SAFETY_S = 60.0
GRACE_S = 5.0
OWNER = Principal("key_test", scopes=frozenset({"chat"}))

# What a misbehaving program is written with. `here` keeps a connection to the roll open for as long
# as the process, or one that it forks afterwards, is alive.
PRELUDE = """
import json, os, signal, socket, sys, time
kept = []
def here():
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(os.environ["ROLL"])
def stay():
    while True:
        signal.pause()
def answer(value):
    print(json.dumps(value), flush=True)
"""


class Roll:
    """Processes that have said they are there."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._there: list[socket.socket] = []

    async def called(self, count: int) -> None:
        """Wait until so many more have."""
        for _ in range(count):
            there, _ = await trio.socket.from_stdlib_socket(self._listener).accept()
            self._there.append(socket.socket(fileno=there.detach()))

    async def gone(self) -> None:
        """Wait until none is alive."""
        for there in self._there:
            there.setblocking(False)
            await trio.socket.from_stdlib_socket(there).recv(1)
        assert self.alive() == 0

    def alive(self) -> int:
        """Count those whose connection is open: the kernel closes it with the last process that has it."""
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._there.append(self._listener.accept()[0])
        gone = [there for there in self._there if not _is_open(there)]
        for there in gone:
            there.close()
        self._there = [there for there in self._there if there not in gone]
        return len(self._there)

    def close(self) -> None:
        for there in self._there:
            there.close()


def _is_open(there: socket.socket) -> bool:
    there.setblocking(False)
    try:
        return bool(there.recv(1))
    except BlockingIOError:
        return True


@dataclass
class Bench:
    """One plugin, the hub's rooms that call it, and the roll of its processes."""

    plugins: Plugins
    roll: Roll
    state: Path
    flights: Flights = field(default_factory=Flights)

    def open(self) -> Flight:
        return self.flights.open("req_test", "chat", OWNER)

    async def call(self, callback: CallbackAddress | None = None, /, **arguments: Any) -> Any:
        """Call the tool in a flight of its own, below one of a request."""
        tool = self.plugins.tools["echo"]
        with self.open() as flight, flight.child("echo", tool.kind) as own:
            return await tool.call(arguments, CallContext(own, callback))

    async def interrupt(self) -> dict[str, Any]:
        """Say stop, and return the receipt's branch of the call."""
        receipt = await self.flights.interrupt("req_test", OWNER).receipt(SAFETY_S)
        assert receipt["state"] == "stopped"
        (branch,) = receipt["branches"]
        return dict(branch)


def write_program(
    folder: Path, code: str, *, entry: str = "echo.py", keys: str = "", limits: str = ""
) -> Path:
    """Write a plugin folder; `code` of a Python entry comes after the prelude."""
    folder.mkdir(parents=True)
    manifest = f'name = "echo"\ndescription = "For a test."\nentry = "{entry}"\n{keys}'
    manifest += '[parameters]\ntype = "object"\n' + (f"[limits]\n{limits}" if limits else "")
    (folder / "plugin.toml").write_text(manifest, "utf-8")
    (folder / entry).write_text(PRELUDE + code if entry.endswith(".py") else code, "utf-8")
    (folder / entry).chmod(0o755)
    return folder


@asynccontextmanager
async def open_bench(
    place: Path, code: str, *, kill_grace_s: float = GRACE_S, env: str = "", **program: str
) -> AsyncIterator[Bench]:
    """Write a plugin, load it, and run what the hub runs for it; nothing of it is alive afterwards."""
    folder = write_program(place / "plugins/echo", code, **program)
    address = place / "roll"
    assert len(str(address)) < 100, "an address of a socket is short"
    (folder / "config.env").write_text(f"ROLL={address}\n{env}")
    plugins = Plugins.load(
        [place / "plugins"], state=place / "state", clock=lambda: SUNDAY, kill_grace_s=kill_grace_s
    )
    assert plugins.faults == []
    with net(SAFETY_S), socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.setblocking(False)
        listener.bind(str(address))
        listener.listen(100)
        roll = Roll(listener)
        stack.callback(roll.close)
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            yield Bench(plugins, roll, place / "state/plugins/echo")
            nursery.cancel_scope.cancel(reason="the test is over")
        assert roll.alive() == 0, "nothing outlives the hub"


def program_modules(plugin: str, *names: str) -> SimpleNamespace:
    """Import modules of a shipped program as its own process does, and leave no trace in this one."""
    folder, before = str(SHIPPED / plugin), set(sys.modules)
    sys.path.insert(0, folder)
    try:
        found = [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
                del sys.modules[name]
    return SimpleNamespace(**{name: thing for module in found for name, thing in vars(module).items()})


NODE = shutil.which("node")
