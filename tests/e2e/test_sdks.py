"""OpenAI's own clients, in Python and in JavaScript, against the hub and a provider over TCP."""

import json
import os
from dataclasses import dataclass

import openai
import pytest
import trio

from tests.harness import process
from tests.harness.house import NET_S

MODELS = [
    "hello",
    "endless:50",
    "stream:20:50",
    "dead",
    "dead-mid:2",
    "status:400",
    "status:429:0",
    "split:1",
    "garbage",
]
TOOL = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}


@dataclass
class World:
    hub: str
    provider: str
    key: str


@pytest.fixture
async def world(tmp_path):
    """A hub in front of a provider, and a key for it."""
    async with process.provider() as provider:
        async with process.hub(tmp_path, process.upstream(provider.url, models=MODELS)) as hub:
            key = await process.command("keys", "create", "--scope", "chat", "--state", str(tmp_path))
            yield World(hub.url, provider.url, key)


def ask(text, model="hello", **rest):
    return {"model": model, "messages": [{"role": "user", "content": text}], **rest}


async def in_thread(work):
    """The SDKs' own event loop is not Trio; each call runs in a thread, within a bound."""
    with trio.fail_after(NET_S):
        return await trio.to_thread.run_sync(work)


def client(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def local(world):
    with client(world.hub, world.key) as made:
        yield made


async def test_whole_and_streamed(local):
    answer = await in_thread(lambda: local.chat.completions.create(**ask("x")))
    assert answer.choices[0].message.content == "Hello from hello."

    def stream():
        options = {"include_usage": True}
        chunks = list(
            local.chat.completions.create(**ask("x", "split:1"), stream=True, stream_options=options)
        )
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        return text, chunks[-1].usage.total_tokens

    assert await in_thread(stream) == ("今天日程是什么？👩‍👩‍👧 ok", 5)


async def test_tools_of_the_client_and_of_the_hub(local):
    ours = await in_thread(lambda: local.chat.completions.create(**ask("clock_now {}", "hands")))
    assert ours.choices[0].message.content.startswith("Tools said:")
    theirs = await in_thread(
        lambda: local.chat.completions.create(**ask('mine {"a": 1}', "hands", tools=[TOOL]))
    )
    called = theirs.choices[0].message.tool_calls[0].function
    assert (called.name, json.loads(called.arguments)) == ("mine", {"a": 1})

    def stream():
        chunks = local.chat.completions.create(**ask('mine {"a": 1}', "hands", tools=[TOOL]), stream=True)
        calls = [
            call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()
        ]
        return "".join(call.function.arguments or "" for call in calls)

    assert json.loads(await in_thread(stream)) == {"a": 1}


async def test_the_embedded_model(local):
    answer = await in_thread(lambda: local.chat.completions.create(**ask("今天日程是什么？", "apex-intents")))
    assert "日程" in answer.choices[0].message.content


async def test_errors_are_the_sdks_own(local, world):
    for model, fault in [
        ("nothing", openai.NotFoundError),
        ("status:400", openai.BadRequestError),
        ("dead", openai.InternalServerError),
        ("garbage", openai.InternalServerError),
        ("status:429:0", openai.APIStatusError),
    ]:
        with pytest.raises(fault) as caught:
            await in_thread(lambda model=model: local.chat.completions.create(**ask("x", model)))
        assert caught.value.code
    with pytest.raises(openai.APIError):
        await in_thread(lambda: list(local.chat.completions.create(**ask("x", "dead-mid:2"), stream=True)))
    with client(world.hub, "apx_no_such") as wrong, pytest.raises(openai.AuthenticationError):
        await in_thread(lambda: wrong.chat.completions.create(**ask("x")))


async def test_models_are_listed(local):
    names = [model.id for model in (await in_thread(local.models.list)).data]
    assert {"apex-intents", "hands", "hello"} <= set(names)


async def test_an_interrupt_ends_the_stream(local, world):
    def stream():
        reasons: list[str | None] = []
        apex: list[object] = []
        for chunk in local.chat.completions.create(
            **ask("x", "endless:50"), stream=True, extra_body={"requestId": "r1"}
        ):
            if len(reasons) == 3:
                asked = {"requestId": "r1", "waitS": 60}
                receipt = local.post("/interrupt", body=asked, cast_to=dict[str, object])
                assert receipt["state"] == "stopped"
            reasons.append(chunk.choices[0].finish_reason)
            apex.append((chunk.model_extra or {}).get("apex"))
        return reasons[-1], apex[-1]

    assert await in_thread(stream) == ("stop", {"interrupted": True})
    assert (await process.closed(world.provider, 0))["closedBy"] == "peer"


async def test_closing_the_sdks_stream_closes_the_provider(local, world):
    def stream():
        answer = local.chat.completions.create(**ask("x", "endless:50"), stream=True)
        next(iter(answer))
        answer.close()

    await in_thread(stream)
    with trio.fail_after(NET_S):
        assert (await process.closed(world.provider, 0))["closedBy"] == "peer"


async def test_the_javascript_sdk(world):
    script = process.ROOT / "tests" / "e2e" / "node" / "sdk.mjs"
    environment = {**os.environ, "HUB": f"{world.hub}/v1", "KEY": world.key}
    with trio.fail_after(NET_S):
        done = await trio.run_process(
            ["node", str(script)],
            env=environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        "whole": "Hello from hello.",
        "streamed": "今天日程是什么？👩‍👩‍👧 ok",
        "hubTool": True,
        "clientTool": {"a": 1},
        "error": [404, "model_not_found"],
        "broken": True,
        "receipt": "stopped",
        "lastReason": "stop",
        "interrupted": True,
    }
