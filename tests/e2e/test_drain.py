"""SIGTERM, sentence by sentence: what each peer of a real hub sees of its end."""

import json
import signal
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from wsproto.events import AcceptConnection

from apexbridge_trio.protocol.frames import ConnectionAck, Drain
from tests.harness import process
from tests.harness.house import House, house
from tests.harness.node import PATH as NODES
from tests.harness.node import FakeNode

NET_S = 120.0  # a safety net, not a bound that is tested
GOING_AWAY = 1001  # RFC 6455, 7.4.1
LOG = '[log]\nformat = "json"\n'
LONG = f"{LOG}[server]\ndrain_timeout_s = 600\n[nodes]\nregister_timeout_s = 600\n"
SHORT = f"{LOG}[server]\ndrain_timeout_s = 0.2\n"


def say(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}], **fields}


async def connect(at: House, held: AsyncExitStack) -> FakeNode:
    """Open a connection to the hub that nothing was said on yet."""
    port = int(at.hub.url.rpartition(":")[2])
    stream = await held.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
    return FakeNode(stream)


async def join(at: House, held: AsyncExitStack) -> FakeNode:
    node = await connect(at, held)
    accepted = await node.open(NODES, ("Authorization", f"Bearer {at.node_key}"))
    assert isinstance(accepted, AcceptConnection), accepted
    assert isinstance(await node.hear(), ConnectionAck)
    said = await node.register()
    assert said.success, said
    return node


async def begin(at: House, url: str, request_id: str, heard: bytearray, task_status: Any) -> None:
    """Begin a chat, started at its first words, and listen to its end."""
    body = say(at_model(request_id), stream=True, requestId=request_id)
    async with at.admin.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        async for data in reply.aiter_bytes():
            heard += data
            if b"w2" in heard and task_status is not None:
                task_status.started()
                task_status = None


def at_model(request_id: str) -> str:
    return {"finishes": "held"}.get(request_id, "endless:50")


async def started(nursery: trio.Nursery, at: House, request_id: str) -> bytearray:
    heard = bytearray()

    async def run(*, task_status: Any) -> None:
        await begin(at, at.hub.url, request_id, heard, task_status)

    await nursery.start(run)
    return heard


async def drain(at: House) -> None:
    """Tell the hub to end, and wait until it says so."""
    at.hub.process.send_signal(signal.SIGTERM)
    while (await at.admin.get(f"{at.hub.url}/health/ready")).status_code == 200:
        pass


def receipts(at: House) -> list[dict[str, Any]]:
    """Return the receipts in the log of a hub that has ended."""
    lines = [json.loads(line) for line in bytes(at.hub.said).splitlines() if line.startswith(b"{")]
    return [line for line in lines if line["event"] == "interrupted by the drain"]


async def test_new_work_is_refused_and_says_when_to_come_again_while_old_work_finishes(
    tmp_path: Path,
) -> None:
    async with process.provider() as provider:
        toml = LONG + process.upstream(provider.url, models=["held", "hello"])
        with trio.fail_after(NET_S):
            async with house(tmp_path, toml) as at, trio.open_nursery() as nursery:
                heard = await started(nursery, at, "finishes")
                await drain(at)
                live = await at.admin.get(f"{at.hub.url}/health/live")
                assert (live.status_code, live.json()["draining"]) == (200, True)
                refused = {
                    "/v1/chat/completions": say("hello"),
                    "/v1/tasks": {"toolName": "echo"},
                }
                for path, body in refused.items():
                    reply = await at.post(path, body)
                    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "draining"), path
                    assert int(reply.headers["Retry-After"]) > 0
                assert b"w3" not in heard
                await process.let_go(provider.url)
                assert await at.hub.ended() == 0
        assert heard.endswith(b"data: [DONE]\n\n")
        assert b"w3" in heard
        assert receipts(at) == []


async def test_nodes_are_told_and_every_socket_is_closed_with_going_away(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = LONG + process.upstream(provider.url, models=["endless:50"])
        with trio.fail_after(NET_S):
            async with house(tmp_path, toml) as at, AsyncExitStack() as held, trio.open_nursery() as nursery:
                # First, as it may take its time: who is connected and says nothing is cut one day.
                await started(nursery, at, "goes-on")
                node = await join(at, held)
                unregistered = await connect(at, held)
                await unregistered.open(NODES, ("Authorization", f"Bearer {at.node_key}"))
                device = await connect(at, held)
                key = at.admin.headers["Authorization"]
                assert isinstance(await device.open("/abp-client", ("Authorization", key)), AcceptConnection)
                await drain(at)
                assert isinstance(await node.hear(Drain), Drain)
                at.hub.process.send_signal(signal.SIGTERM)
                for peer in (node, unregistered, device):
                    assert await peer.close_code() == GOING_AWAY
                assert await at.hub.ended() == 0


async def test_events_end_with_a_word(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = SHORT + process.upstream(provider.url, models=["endless:50"])
        with trio.fail_after(NET_S):
            async with house(tmp_path, toml) as at, trio.open_nursery() as nursery:
                heard = bytearray()

                async def listen(*, task_status: Any) -> None:
                    async with at.admin.stream("GET", f"{at.hub.url}/v1/events") as reply:
                        task_status.started()
                        async for data in reply.aiter_bytes():
                            heard.extend(data)

                await nursery.start(listen)
                await started(nursery, at, "r1")
                at.hub.process.send_signal(signal.SIGTERM)
                assert await at.hub.ended() == 0
        assert heard.endswith(b": the end\n\n")


async def test_the_rest_is_interrupted_with_receipts_in_the_log_and_the_store_is_closed(
    tmp_path: Path,
) -> None:
    async with process.provider() as provider:
        toml = SHORT + process.upstream(provider.url, models=["endless:50"])
        with trio.fail_after(NET_S):
            async with house(tmp_path, toml) as at, trio.open_nursery() as nursery:
                heard = await started(nursery, at, "r1")
                at.hub.process.send_signal(signal.SIGTERM)
                assert await at.hub.ended() == 0
                (receipt,) = receipts(at)
        assert b'"interrupted":true' in heard
        assert (receipt["requestId"], receipt["state"], receipt["notStopped"]) == ("r1", "stopped", [])
    stores = [file for file in (tmp_path / "hub").iterdir() if file.suffix in {".db", ".sqlite", ".sqlite3"}]
    assert stores
    assert not [file.name for file in (tmp_path / "hub").iterdir() if file.name.endswith(("-wal", "-shm"))]
    for store in stores:
        connection = sqlite3.connect(store)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


async def test_a_second_signal_hurries_and_what_it_cut_short_has_receipts_too(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = LONG + process.upstream(provider.url, models=["endless:50"])
        with trio.fail_after(NET_S):
            async with house(tmp_path, toml) as at, trio.open_nursery() as nursery:
                both = [await started(nursery, at, name) for name in ("r1", "r2")]
                await drain(at)
                at.hub.process.send_signal(signal.SIGTERM)
                assert await at.hub.ended() == 0
                cut = receipts(at)
        assert all(heard.endswith(b"data: [DONE]\n\n") for heard in both)
        assert sorted(receipt["requestId"] for receipt in cut) == ["r1", "r2"]
        assert all(receipt["state"] == "stopped" for receipt in cut)
        assert b"hurried" in at.hub.said
