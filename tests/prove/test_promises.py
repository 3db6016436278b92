"""The promises with large numbers, against real processes: `make prove`.

1. An interrupt from the command line closes the provider's connection: 200 times, and how fast.
2. 10,000 requests, a third interrupted, a third dropped, a third finished: nothing is left.
"""

import json
import os
import statistics
import time
from pathlib import Path

import httpx
import pytest
import trio

from tests.harness import process
from tests.harness.wire import Peer

INTERRUPTS = 200
REQUESTS = 10_000
MODELS = ["endless:50", "stream:3:5", "stall", "hello"]


def ask(model, request_id, *, stream=True):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "x"}],
        "stream": stream,
        "requestId": request_id,
    }
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def connect(url):
    return Peer(await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])))


def rss_kb(pid):
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def fds(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@pytest.mark.prove
async def test_an_interrupt_reaches_the_provider(tmp_path, capsys):
    async with process.provider() as provider:
        toml = process.UNLIMITED + process.upstream(provider.url, models=MODELS)
        async with process.hub(tmp_path, toml) as hub, httpx.AsyncClient(trust_env=False) as client:
            delays, took = [], []
            for number in range(INTERRUPTS):
                peer = await connect(hub.url)
                async with peer.stream:
                    await peer.send(ask("endless:50", f"r{number}"))
                    await peer.until(b"w1")
                    asked = time.monotonic_ns()
                    reply = await client.post(f"{hub.url}/v1/interrupt", json={"requestId": f"r{number}"})
                    receipt = reply.json()
                    assert (receipt["state"], receipt["notStopped"]) == ("stopped", [])
                    assert [branch["kind"] for branch in receipt["branches"]] == ["upstream"]
                    assert b'"interrupted":true' in await peer.until(b"[DONE]\n\n")
                    took.append(receipt["tookMs"])
                seen = [
                    one
                    for one in await process.seen(provider.url)
                    if one["requests"] and one["requests"][0]["path"].endswith("completions")
                ]
                assert seen[-1]["closedBy"] == "peer"
                delays.append((seen[-1]["closedNs"] - asked) / 1e6)
    with capsys.disabled():
        print(
            f"\ninterrupt to the provider's close, ms: p50 {statistics.median(delays):.1f} "
            f"p99 {percentile(delays, 0.99):.1f} max {max(delays):.1f}; receipts said {max(took)} ms at most"
        )
    assert len(delays) == INTERRUPTS


@pytest.mark.prove
async def test_the_command_interrupts(tmp_path):
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=MODELS)
        async with process.hub(tmp_path, toml) as hub:
            peer = await connect(hub.url)
            async with peer.stream:
                await peer.send(ask("endless:50", "r1"))
                await peer.until(b"w1")
                command = [process.PYTHON, "-m", "apexbridge_trio", "interrupt", "r1", "--json"]
                environment = {**os.environ, "APEXBRIDGE_URL": hub.url}
                done = await trio.run_process(command, env=environment, capture_stdout=True)
                assert json.loads(done.stdout)["state"] == "stopped"
            assert (await process.closed(provider.url, 0))["closedBy"] == "peer"


async def one_request(hub, client, number):
    """Interrupt, drop or finish one chat, streamed or not."""
    fate, stream = number % 3, number % 2 == 0
    peer = await connect(hub.url)
    async with peer.stream:
        model = "stream:3:5" if fate == 2 else "endless:50" if stream else "stall"
        await peer.send(ask(model, f"r{number}", stream=stream))
        if stream:
            await peer.until(b"w1")
        if fate == 0:
            receipt = {"state": None}
            while receipt.get("state") is None:  # a request without a byte may not be in flight yet
                receipt = (
                    await client.post(f"{hub.url}/v1/interrupt", json={"requestId": f"r{number}"})
                ).json()
            assert receipt["state"] == "stopped"
        if fate in {0, 2}:
            await (peer.until(b"[DONE]\n\n") if stream else peer.reply())


async def flights(hub, client, key):
    reply = await client.get(f"{hub.url}/v1/requests", headers={"Authorization": f"Bearer {key}"})
    return reply.json()


async def run_batch(hub, client, numbers, at_once):
    limiter = trio.CapacityLimiter(at_once)

    async def one(number):
        async with limiter:
            await one_request(hub, client, number)

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(one, number)


async def settled(hub, client, key):
    """Wait until the drops were noticed; then nothing is in flight."""
    with trio.fail_after(60):
        while await flights(hub, client, key):
            await trio.lowlevel.checkpoint()


@pytest.mark.prove
async def test_ten_thousand_requests_leave_nothing(tmp_path, capsys):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with process.provider() as provider:
        toml = f'{process.UNLIMITED}[log]\nlevel = "warning"\n' + process.upstream(
            provider.url, models=MODELS, max_concurrency=256
        )
        async with (
            process.hub(tmp_path, toml) as hub,
            httpx.AsyncClient(trust_env=False, limits=limits) as client,
        ):
            key = await process.command("keys", "create", "--scope", "admin", "--state", str(tmp_path))
            pid = hub.process.pid
            await run_batch(hub, client, range(100_000, 101_500), at_once=32)  # warm: pools, caches, arenas
            await settled(hub, client, key)
            before = (fds(pid), rss_kb(pid))
            await run_batch(hub, client, range(REQUESTS), at_once=32)
            await settled(hub, client, key)
            after = (fds(pid), rss_kb(pid))
    with capsys.disabled():
        print(f"\n{REQUESTS} requests: fds {before[0]} -> {after[0]}, RSS {before[1]} -> {after[1]} KB")
    # Idle connections to the provider are kept, up to the pool's bound.
    assert after[0] <= before[0] + 40
    assert after[1] <= before[1] + 5 * 1024


@pytest.mark.soak
async def test_hours_of_mixed_load_leave_nothing(tmp_path, capsys):
    """`SOAK_MINUTES=600 make soak`: the same mix until the time is over; memory is read after each batch."""
    minutes = float(os.environ.get("SOAK_MINUTES", "60"))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with process.provider() as provider:
        toml = f'{process.UNLIMITED}[log]\nlevel = "warning"\n' + process.upstream(
            provider.url, models=MODELS, max_concurrency=256
        )
        async with (
            process.hub(tmp_path, toml) as hub,
            httpx.AsyncClient(trust_env=False, limits=limits) as client,
        ):
            key = await process.command("keys", "create", "--scope", "admin", "--state", str(tmp_path))
            sizes: list[int] = []
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end or len(sizes) < 3:
                await run_batch(hub, client, range(3000), at_once=32)
                await settled(hub, client, key)
                sizes.append(rss_kb(hub.process.pid))
                with capsys.disabled():
                    print(
                        f"\nafter {len(sizes) * 3000} requests: fds {fds(hub.process.pid)}, RSS {sizes[-1]} KB"
                    )
    # The first batch warms; from then on it may not grow with the number of requests.
    assert max(sizes[1:]) <= sizes[0] + 5 * 1024
