"""The gateways that `make bench-peers` installs: each with its own way to be told where the provider is."""

import json
from pathlib import Path
from typing import Final

from benchmarks.answers import MODELS
from benchmarks.running import ROOT
from benchmarks.sides import GATEWAY, Side, Start, free_port

PEERS: Final = ROOT / "benchmarks" / ".peers"


def _litellm(directory: Path, provider_port: int) -> Start:
    at = {"api_base": f"http://127.0.0.1:{provider_port}/v1", "api_key": "none"}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **at}} for name in MODELS]
    config = directory / "config.yaml"
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")  # JSON is YAML
    port = free_port()
    command = [str(PEERS / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1"]
    # As its guide for production says; and it asks nobody for prices or versions.
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    options = ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return Start([*command, *options], "Uvicorn running on", port, env)


def _portkey(_directory: Path, provider_port: int) -> Start:
    port = free_port()
    server = PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ["node", str(server), f"--port={port}", "--headless"]
    headers = (
        "x-portkey-provider: openai\r\nAuthorization: Bearer none\r\n"
        f"x-portkey-custom-host: http://127.0.0.1:{provider_port}/v1\r\n"
    )
    env = {"NODE_ENV": "production"}
    return Start(command, "Ready for connections", port, env, headers.encode())


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
