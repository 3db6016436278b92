"""Legacy folders of each type in a real hub: a chat calls them, one by callback, and is told a static text."""

import httpx
import trio

from tests.harness import process
from tests.plugins.test_legacy import (
    ASYNCHRONOUS,
    CALCULATOR,
    STATIC,
    SYNCHRONOUS,
    VIDEO,
    install,
)

SAFETY_S = 120
SYSTEM = 'id = "weather"\nupstream = "up"\nname = "echo"\nsystem = "天气：{{VCPWeatherInfo}}"\n'


async def ask(url, model, text):
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    async with httpx.AsyncClient(trust_env=False, timeout=SAFETY_S) as client:
        reply = await client.post(f"{url}/v1/chat/completions", json=body)
        return reply.json()["choices"][0]["message"]["content"]


async def test_one_of_each_type_runs_unchanged(tmp_path):
    patient = {**SYNCHRONOUS, "communication": {"protocol": "stdio", "timeout": SAFETY_S * 1000}}
    install(tmp_path, patient, calculator_py=CALCULATOR)
    install(tmp_path, ASYNCHRONOUS, video_py=VIDEO)
    install(tmp_path, STATIC, weather_sh='echo "晴"\n')
    async with process.provider() as provider:
        toml = '[plugins]\ndirectories = ["plugins"]\n' + process.upstream(provider.url, models=["echo"])
        async with process.hub(tmp_path, f"{toml}[[models]]\n{SYSTEM}") as hub:
            with trio.fail_after(SAFETY_S):
                said = await ask(hub.url, "hands", 'SciCalculator {"expression": "1+1"}')
                assert '"expression":"1+1"' in said
                assert f'"SERVER_PORT":"{hub.url.rpartition(":")[2]}"' in said
                said = await ask(hub.url, "hands", 'VideoGenerator_submit {"prompt": "cats"}')
                assert "submit" in said
                assert "pending" not in said
                told = ""
                while "天气：晴" not in told:  # its text is fetched beside the hub, which waits for nothing
                    await ask(hub.url, "weather", "x")
                    told = str(await process.seen(provider.url))
