"""Who is compared: the provider itself, bare Hypercorn, the hub; and other gateways, see `peers`.

Each runs as its own documentation says to run it, with one worker and its own defaults, and is told one
thing: where the provider is.
"""

import json
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import trio

from apexbridge_trio import __version__
from apexbridge_trio.identity import Keys
from apexbridge_trio.store import Store
from benchmarks.answers import MODELS
from benchmarks.running import GATEWAY_CORES, Running, run

DIRECT: Final = "provider, directly"
HUB: Final = "the hub"

Ability = Literal["process", "json", "stream", "interrupt", "nodes"]
GATEWAY: Final[frozenset[Ability]] = frozenset({"process", "json", "stream"})


@dataclass(frozen=True)
class Start:
    """How a side is started."""

    command: list[str]
    ready: str
    """Part of the line by which it says that it accepts connections."""
    port: int
    """Where it listens; 0: it says so in that line."""
    env: Mapping[str, str] = field(default_factory=dict)
    headers: bytes = b""
    """What each request to it carries besides."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """By scope, for what needs one."""


@dataclass(frozen=True)
class Side:
    """One row of the tables.

    Attributes:
        can: What it can be measured at.
        start: Prepares its start in an empty directory; gets the provider's port.
    """

    name: str
    version: str
    can: frozenset[Ability]
    start: Callable[[Path, int], Start]


@dataclass(frozen=True)
class Target:
    """A side that is running."""

    side: Side
    process: Running
    port: int
    headers: bytes = b""
    keys: Mapping[str, str] = field(default_factory=dict)

    def request(self, model: str, name: str = "nameless", **fields: str) -> bytes:
        """A chat with one of the provider's models, streamed unless the model is `chat`."""
        messages = [{"role": "user", "content": f"Tell a story about work and play, named {name}."}]
        body = {"model": model, "messages": messages, "stream": model != "chat", **fields}
        return self.post("/v1/chat/completions", body)

    def post(self, path: str, body: object, key: str = "") -> bytes:
        """A whole request with a JSON body, and with the key of a scope."""
        encoded = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n".encode() + self.headers
        if key:
            head += f"Authorization: Bearer {self.keys[key]}\r\n".encode()
        return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(encoded) + encoded


async def start(side: Side, directory: Path, provider: Running, nursery: trio.Nursery) -> Target:
    """Run a side in the nursery, on the core that is for the side under measurement.

    Args:
        directory: Made for it: its home and all its state.

    Raises:
        NotReady: It did not come up.
    """
    how = _prepared(side, directory, provider.port)
    env = {"HOME": str(directory), **how.env}
    process: Running = await nursery.start(
        lambda task_status: run(
            how.command, how.ready, cores=GATEWAY_CORES, env=env, task_status=task_status
        ),
        name=side.name,
    )
    return Target(side, process, how.port or process.port, how.headers, how.keys)


def _prepared(side: Side, directory: Path, provider_port: int) -> Start:
    directory.mkdir()
    return side.start(directory, provider_port)


def direct(provider: Running) -> Target:
    """The provider as a side: what the load costs when nothing is in between."""
    side = Side(DIRECT, "", frozenset({"json", "stream"}), _not_started)
    return Target(side, provider, provider.port)


def _not_started(_directory: Path, _provider_port: int) -> Start:
    raise AssertionError("the provider runs already")


def _hypercorn(_directory: Path, _provider_port: int) -> Start:
    how = ["--worker-class", "trio", "--bind", "127.0.0.1:0"]
    return Start([sys.executable, "-m", "hypercorn", *how, "benchmarks.hello:app"], "Running on http", 0)


_HUB_CONFIG = """
[[upstreams]]
name = "bench"
base_url = "http://127.0.0.1:{port}/v1"
models = {models}
# More than the streams that are held open at once.
max_concurrency = 1000
[limits]
# More than the nodes that are held open at once.
max_connections = 2000
chats_per_minute = 0
control_per_minute = 0
concurrent_chats = 0
concurrent_streams = 0
channels_per_key = 0
"""


def _hub(directory: Path, provider_port: int) -> Start:
    config = directory / "config.toml"
    config.write_text(_HUB_CONFIG.format(port=provider_port, models=json.dumps(MODELS)), encoding="utf-8")
    command = [sys.executable, "-m", "apexbridge_trio", "serve", "--bind", "127.0.0.1:0"]
    with Store(directory) as store:
        keys = {scope: Keys(store).create(scopes=[scope])[0] for scope in ("node", "admin")}
    options = ["--state", str(directory), "--config", str(config)]
    return Start([*command, *options], "listening on http", 0, keys=keys)


def free_port() -> int:
    """A port that was free a moment ago, for those that can not tell which one they took."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def own_sides() -> list[Side]:
    """What is measured with nothing more installed."""
    bare = Side("bare Hypercorn", version("hypercorn"), frozenset({"process", "json"}), _hypercorn)
    hub = Side(HUB, __version__, GATEWAY | {"interrupt", "nodes"}, _hub)
    return [bare, hub]
