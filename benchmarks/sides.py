"""Who is compared: the provider itself, bare Hypercorn, the hub, and the gateways that are installed.

Each runs as its own documentation says to run it, with one process and its own defaults, and is told one
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
from benchmarks.answers import MODELS
from benchmarks.running import GATEWAY_CORES, ROOT, Running, run

PEERS: Final = ROOT / "benchmarks" / ".peers"
DIRECT: Final = "provider, directly"
HUB: Final = "the hub"

Ability = Literal["process", "json", "stream", "interrupt"]
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

    def request(self, model: str, name: str = "nameless", **fields: str) -> bytes:
        """A chat with one of the provider's models, streamed unless the model is `chat`."""
        messages = [{"role": "user", "content": f"Tell a story about work and play, named {name}."}]
        body = {"model": model, "messages": messages, "stream": model != "chat", **fields}
        return self.post("/v1/chat/completions", body)

    def post(self, path: str, body: object) -> bytes:
        """A whole request with a JSON body."""
        encoded = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n".encode() + self.headers
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
    return Target(side, process, how.port or process.port, how.headers)


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
    port = _free_port()
    bind = f"127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "hypercorn",
        "--worker-class",
        "trio",
        "--bind",
        bind,
        "benchmarks.hello:app",
    ]
    return Start(command, "Running on http", port)


_HUB_CONFIG = """
[[upstreams]]
name = "bench"
base_url = "http://127.0.0.1:{port}/v1"
models = {models}
# More than the streams that are held open at once.
max_concurrency = 1000
"""


def _hub(directory: Path, provider_port: int) -> Start:
    config = directory / "config.toml"
    config.write_text(_HUB_CONFIG.format(port=provider_port, models=json.dumps(MODELS)), encoding="utf-8")
    command = [sys.executable, "-m", "apexbridge_trio", "serve", "--bind", "127.0.0.1:0"]
    return Start([*command, "--state", str(directory), "--config", str(config)], "listening on http", 0)


def _litellm(directory: Path, provider_port: int) -> Start:
    at = {"api_base": f"http://127.0.0.1:{provider_port}/v1", "api_key": "none"}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **at}} for name in MODELS]
    config = directory / "config.yaml"
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")  # JSON is YAML
    port = _free_port()
    command = [str(PEERS / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1"]
    # As its guide for production says; and it asks nobody for prices or versions.
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    options = ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return Start([*command, *options], "Uvicorn running on", port, env)


def _portkey(_directory: Path, provider_port: int) -> Start:
    port = _free_port()
    server = PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ["node", str(server), f"--port={port}", "--headless"]
    headers = (
        "x-portkey-provider: openai\r\nAuthorization: Bearer none\r\n"
        f"x-portkey-custom-host: http://127.0.0.1:{provider_port}/v1\r\n"
    )
    env = {"NODE_ENV": "production"}
    return Start(command, "Ready for connections", port, env, headers.encode())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def own_sides() -> list[Side]:
    """What is measured with nothing more installed."""
    bare = Side("bare Hypercorn", version("hypercorn"), frozenset({"process", "json"}), _hypercorn)
    hub = Side(HUB, __version__, GATEWAY | {"interrupt"}, _hub)
    return [bare, hub]


_PEERS: Final = {"litellm": ("LiteLLM proxy", _litellm), "portkey": ("Portkey gateway", _portkey)}


def peers() -> tuple[list[Side], list[str]]:
    """The gateways that `make bench-peers` has installed, and the names of those that it has not."""
    stamps = {name: next(PEERS.glob(f".{name}-*"), None) for name in _PEERS}
    found = [
        Side(_PEERS[name][0], stamp.name.rpartition("-")[2], GATEWAY, _PEERS[name][1])
        for name, stamp in stamps.items()
        if stamp
    ]
    return found, [_PEERS[name][0] for name, stamp in stamps.items() if not stamp]
