"""Real processes: the hub as its command, a provider that misbehaves, and what they were seen to do."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable

# A safety net for the start of a process on a busy machine, not a bound that is tested.
START_S = 120.0
STOP_S = 120.0

# Of a hub that is asked for more than any home asks; other keys of the table may follow.
UNLIMITED = """[limits]
chats_per_minute = 0
callbacks_per_minute = 0
control_per_minute = 0
concurrent_chats = 0
concurrent_streams = 0
channels_per_key = 0
"""


@dataclass
class Running:
    """A process that has said its first line.

    Attributes:
        said: What it has said on stderr so far; all of it once `end` has returned, or the block was left.
        is_silent: Set when it can say no more.
    """

    process: trio.Process
    first_line: str
    said: bytearray = field(default_factory=bytearray)
    is_silent: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        return self.first_line.partition("listening on ")[2]

    async def end(self) -> int:
        """SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended and all that it has said is here."""
        with trio.fail_after(STOP_S):
            code = await self.process.wait()
            # What it said last may still be in the pipe.
            await self.is_silent.wait()
        return code


@asynccontextmanager
async def process(
    *command: str, env: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> AsyncIterator[Running]:
    """Run a command until the block is left; it must still be alive then, or have been ended by the test."""
    async with trio.open_nursery() as nursery:
        started = await nursery.start(_spawn, command, env, pass_fds)
        running = Running(started, "")
        nursery.start_soon(_collect, started.stderr, running)
        try:
            with trio.fail_after(START_S):
                running.first_line = await _first_line(started, running.said)
            yield running
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
            await running.ended()
        finally:
            if started.poll() is None:
                started.kill()
            for pipe in (started.stdout, started.stderr):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)
            nursery.cancel_scope.cancel(reason="the process has ended")


async def _spawn(
    command: tuple[str, ...], env: dict[str, str] | None, pass_fds: Sequence[int], *, task_status: Any
) -> None:
    inherited = dict(os.environ)
    # A service keeps what was compiled; without it a third of the start is compiling.
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    await trio.run_process(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        cwd=ROOT,
        env={**inherited, "PYTHONUNBUFFERED": "1", **(env or {})},
        pass_fds=pass_fds,
        task_status=task_status,
    )


async def _first_line(started: trio.Process, said: bytearray) -> str:
    line = b""
    assert started.stdout is not None
    while not line.endswith(b"\n"):
        data = await started.stdout.receive_some(1)
        assert data, f"it ended before its first line: {bytes(said).decode()}"
        line += data
    return line.decode().strip()


async def _collect(stream: trio.abc.ReceiveStream, running: Running) -> None:
    # Closed while it is read when the test has failed; that is not what is to be told then.
    with suppress(trio.ClosedResourceError):
        async for data in stream:
            running.said += data
    running.is_silent.set()


@asynccontextmanager
async def hub(
    state: Path, toml: str = "", *options: str, env: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run the hub on a free port, with this config."""
    file = state / "config.toml"
    file.write_text(toml, encoding="utf-8")
    command = [PYTHON, "-m", "apexbridge_trio", "serve", "--state", str(state), "--config", str(file)]
    async with process(*command, "--bind", "127.0.0.1:0", *options, env=env) as running:
        assert running.url.startswith("http://127."), running.first_line
        yield running


def own_loopback() -> str:
    """Return an address of this machine that no other worker of the tests uses.

    A port that was found free, or was left by a hub that is to come back, is anybody's on 127.0.0.1.
    """
    pid = os.getpid()  # 22 bits at most
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


@asynccontextmanager
async def provider() -> AsyncIterator[Running]:
    """Run the fake provider; its first line is its port."""
    async with process(PYTHON, "-m", "tests.fakes.upstream", "--port", "0") as running:
        running.first_line = f"listening on http://127.0.0.1:{running.first_line.split()[-1]}"
        yield running


def upstream(url: str, **entry: Any) -> str:
    """The config of one provider whose models are offered under their own names."""
    return "\n".join(
        [
            "[[upstreams]]",
            'name = "up"',
            f'base_url = "{url}/v1"',
            *(f"{key} = {json.dumps(value)}" for key, value in entry.items()),
            "[[models]]",
            'id = "hands"',
            'upstream = "up"',
            'name = "tools"',
            'tools = "all"',
            "",
        ]
    )


async def seen(url: str) -> list[dict[str, Any]]:
    """What the provider has seen of each connection."""
    answer = await _ask(f"{url}/seen")
    connections: list[dict[str, Any]] = answer["connections"]
    return connections


async def closed(url: str, number: int) -> dict[str, Any]:
    """Wait until the provider's connection `number` has ended, and say how."""
    answer = await _ask(f"{url}/seen?closed={number}", timeout_s=None)
    ended: dict[str, Any] = answer["connections"][number]
    return ended


async def let_go(url: str) -> None:
    """Have the provider end its `held` streams."""
    await _ask(f"{url}/go")


async def _ask(url: str, timeout_s: float | None = STOP_S) -> Any:
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        return (await client.get(url)).json()


async def command(*words: str) -> str:
    """Run one of the CLI's commands and return what it printed."""
    done = await trio.run_process([PYTHON, "-m", "apexbridge_trio", *words], capture_stdout=True, cwd=ROOT)
    return done.stdout.decode().strip()
