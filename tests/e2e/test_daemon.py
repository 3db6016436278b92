"""The hub as its command: the first line, signals, the drain, and what makes it refuse to start."""

import signal
import socket

import httpx
import pytest
import trio

from tests.harness import process

NET_S = 120.0  # a safety net, not a bound that is tested


def say(model, **fields):
    return {"model": model, "messages": [{"role": "user", "content": "x"}], **fields}


@pytest.fixture
async def provider():
    async with process.provider() as running:
        yield running.url


async def stream_until(client, url, body, mark, reached, rest):
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        async for data in reply.aiter_bytes():
            rest.append(data)
            if mark in b"".join(rest):
                reached.set()


def asking():
    return httpx.AsyncClient(trust_env=False, timeout=NET_S)


async def test_a_drain_lets_streams_finish_and_refuses_new_chats(tmp_path, provider):
    toml = "[server]\ndrain_timeout_s = 600\n" + process.upstream(provider, models=["held", "hello"])
    async with process.hub(tmp_path, toml) as hub, asking() as client:
        reached = trio.Event()
        heard: list[bytes] = []
        async with trio.open_nursery() as nursery:
            body = say("held", stream=True)
            nursery.start_soon(stream_until, client, hub.url, body, b"w2", reached, heard)
            with trio.fail_after(NET_S):
                await reached.wait()
                hub.process.send_signal(signal.SIGTERM)
                ready = await client.get(f"{hub.url}/health/ready")
                while ready.status_code == 200:
                    ready = await client.get(f"{hub.url}/health/ready")
                assert ready.json()["status"] == "draining"
                refused = await client.post(f"{hub.url}/v1/chat/completions", json=say("hello"))
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
                assert b"w3" not in b"".join(heard)
                await process.let_go(provider)
        assert b"w3" in b"".join(heard)
        assert b"".join(heard).endswith(b"data: [DONE]\n\n")
        assert await hub.ended() == 0


@pytest.mark.parametrize("second", [False, True], ids=["after the timeout", "at the second signal"])
async def test_what_does_not_finish_is_interrupted_with_its_last_words(tmp_path, provider, second):
    timeout = 600 if second else 0.2
    toml = f"[server]\ndrain_timeout_s = {timeout}\n" + process.upstream(provider, models=["endless:50"])
    async with process.hub(tmp_path, toml) as hub, asking() as client:
        reached = trio.Event()
        heard: list[bytes] = []
        async with trio.open_nursery() as nursery:
            body = say("endless:50", stream=True, requestId="r1")
            nursery.start_soon(stream_until, client, hub.url, body, b"w2", reached, heard)
            with trio.fail_after(NET_S):
                await reached.wait()
                hub.process.send_signal(signal.SIGTERM)
                while second and (await client.get(f"{hub.url}/health/ready")).status_code == 200:
                    pass
                if second:
                    hub.process.send_signal(signal.SIGTERM)
                assert await hub.ended() == 0
        assert b'"interrupted":true' in b"".join(heard)
        assert b"".join(heard).endswith(b"data: [DONE]\n\n")
        assert (await process.closed(provider, 0))["closedBy"] == "peer"
        assert b"interrupted by the drain" in hub.said


async def test_an_address_in_use_is_said_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [process.PYTHON, "-m", "apexbridge_trio", "serve", "--state", str(tmp_path)]
        with trio.fail_after(NET_S):
            done = await trio.run_process(
                [*command, "--bind", f"127.0.0.1:{port}"],
                check=False,
                capture_stdout=True,
                capture_stderr=True,
            )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"the hub can not run" in done.stderr
    assert f"Can not listen on 127.0.0.1:{port}: Address already in use".encode() in done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_provider_on_this_machine_is_found(tmp_path, provider, monkeypatch):
    """The usual ports may be taken here, so the looking is pointed at the provider's."""
    from apexbridge_trio import composition, config, daemon

    async def found(known):
        return [] if "ollama" in known else [config.Upstream(name="ollama", base_url=f"{provider}/v1")]

    monkeypatch.setattr(daemon, "find_local", found)
    with composition.open_hub(config.Config(), tmp_path) as hub:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon._look_for_local, hub)
            with trio.fail_after(NET_S):
                while "ollama" not in hub.models.upstreams:
                    await trio.lowlevel.checkpoint()
                assert (await hub.models.find("hello")).owner == "ollama"
            nursery.cancel_scope.cancel(reason="the test is over")
