"""Triggers of a real hub: a webhook that is owed when the hub is killed, and is taken from the next one."""

import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import trio

from apexbridge_trio.protocol.signature import check_webhook
from tests.harness import process
from tests.harness.house import NET_S, make_key

SECRET = "whsec_c2VjcmV0LW9mLXRlc3Q="

TOML = """
[[triggers]]
name = "alarm"
on = "alert"
do = "webhook"
url = "http://127.0.0.1:{port}/in"
secret_file = "hook.secret"
allow_private = ["127.0.0.1"]

[[triggers]]
name = "inside"
on = "notification"
when = {{ level = "info" }}
do = "webhook"
url = "http://127.1:{port}/never"
secret_file = "hook.secret"
"""


class Receiver:
    """Takes webhooks, or says that it can not."""

    def __init__(self) -> None:
        self.status = 503
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self._came = trio.Event()

    async def came(self, count: int) -> None:
        """Wait until so many requests have come."""
        with trio.fail_after(NET_S):
            while len(self.asked) < count:
                await self._came.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        # The hub may be killed at any moment of an attempt.
        with suppress(trio.BrokenResourceError):
            async with stream:
                await self._take(stream)
        self._came.set()
        self._came = trio.Event()

    async def _take(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await _more(stream)
        head, _, body = data.partition(b"\r\n\r\n")
        _first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += await _more(stream)
        self.asked.append((headers, body))
        await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some()
    if not data:
        raise trio.BrokenResourceError
    return bytes(data)


async def test_a_webhook_that_is_owed_survives_the_hub_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "hook.secret").write_text(SECRET)
    (tmp_path / "hook.secret").chmod(0o600)
    receiver = Receiver()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        toml = TOML.format(port=port)
        key = await make_key(tmp_path, "admin", "chat")
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=NET_S, headers={"Authorization": f"Bearer {key}"}
            ) as client,
            process.hub(tmp_path, toml) as hub,
        ):
            told = await client.post(f"{hub.url}/v1/notifications", json={"message": "水", "kind": "alert"})
            assert told.status_code == 201
            await receiver.came(1)
            await entry(client, hub.url, lambda one: one["fired"] == 1)
            hub.process.send_signal(signal.SIGKILL)
            await hub.process.wait()
        # On a slow machine it has tried more than once.
        tried = len(receiver.asked)
        receiver.status = 204
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=NET_S, headers={"Authorization": f"Bearer {key}"}
            ) as client,
            process.hub(tmp_path, toml) as hub,
        ):
            await receiver.came(tried + 1)
            # One that leads inside and is not listed is refused, and its owner told.
            told = await client.post(f"{hub.url}/v1/notifications", json={"message": "x"})
            assert told.status_code == 201
            await entry(client, hub.url, lambda one: one["failed"] == 1, number=1)
            refused = await given_up(client, hub.url)
            assert SECRET.encode() not in hub.said
        nursery.cancel_scope.cancel(reason="the story is over")
    for headers, body in receiver.asked:
        at = float(headers["webhook-timestamp"])
        assert check_webhook([SECRET], headers, body, now=at).id == f"id:{headers['webhook-id']}"
    assert len({headers["webhook-id"] for headers, _ in receiver.asked}) == 1
    (body,) = {body for _, body in receiver.asked}
    assert json.loads(body)["data"]["message"] == "水"
    assert refused == [
        "The webhook was given up: 127.1 leads to a private address, and is not in allow_private."
    ]


async def given_up(client: httpx.AsyncClient, url: str) -> list[str]:
    """Ask until the owner is told of what was given up: that is written after it is counted."""
    with trio.fail_after(NET_S):
        while True:
            waiting = (await client.get(f"{url}/v1/notifications")).json()
            if said := [one["message"] for one in waiting if one.get("trigger") == "inside"]:
                return said
            await trio.sleep(0.02)


async def entry(client: httpx.AsyncClient, url: str, check: Any, number: int = 0) -> None:
    """Ask how a trigger stands until what is answered passes."""
    with trio.fail_after(NET_S):
        while not check((await client.get(f"{url}/v1/triggers")).json()[number]):
            await trio.sleep(0.02)
