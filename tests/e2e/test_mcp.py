"""A server from the registry, mounted by three lines of config and used by a chat."""

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.harness import process
from tests.harness.house import NET_S

SERVER = Path(sys.executable).parent / "mcp-server-time"
CALL = 'time_convert_time {"source_timezone": "Asia/Shanghai", "time": "08:00", "target_timezone": "UTC"}'


def folder(state: Path) -> str:
    """The same three lines in a folder of its own."""
    place = state / "mine" / "time"
    place.mkdir(parents=True)
    (place / "plugin.toml").write_text(f'name = "time"\nruntime = "mcp"\ncommand = ["{SERVER}"]\n')
    return '[plugins]\ndirectories = ["mine"]\n'


def config(_state: Path) -> str:
    return f'[[plugins.mcp]]\nname = "time"\ncommand = ["{SERVER}"]\n'


async def ask(url: str) -> dict[str, Any]:
    """Ask until the server's tools are offered: it is started beside the hub, which waits for nothing."""
    body = {"model": "hands", "messages": [{"role": "user", "content": CALL}]}
    async with httpx.AsyncClient(trust_env=False, timeout=NET_S) as client:
        with trio.fail_after(NET_S):
            while True:
                reply = await client.post(f"{url}/v1/chat/completions", json=body)
                choice = reply.json()["choices"][0]
                if choice["finish_reason"] == "stop":
                    said: dict[str, Any] = json.loads(
                        choice["message"]["content"].removeprefix("Tools said: ")
                    )
                    return said


@pytest.mark.parametrize("mounted", [config, folder])
async def test_a_real_server_is_mounted_by_three_lines_and_used_by_a_chat(tmp_path, mounted):
    async with process.provider() as provider:
        toml = mounted(tmp_path) + process.upstream(provider.url, models=["hello"])
        async with process.hub(tmp_path, toml) as hub:
            converted = await ask(hub.url)
            assert converted["target"]["timezone"] == "UTC"
            assert "T00:00:00" in converted["target"]["datetime"]
