"""Triggers of a real hub: a webhook that is owed when the hub is killed, and is taken from the next one."""

import json
import signal
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
        data = b""
        async with stream:
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some()
            head, _, body = data.partition(b"\r\n\r\n")
            _first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            while len(body) < int(headers["content-length"]):
                body += await stream.receive_some()
            self.asked.append((headers, body))
            await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
        self._came.set()
        self._came = trio.Event()


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
        receiver.status = 204
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=NET_S, headers={"Authorization": f"Bearer {key}"}
            ) as client,
            process.hub(tmp_path, toml) as hub,
        ):
            await receiver.came(2)
            # One that leads inside and is not listed is refused, and its owner told.
            told = await client.post(f"{hub.url}/v1/notifications", json={"message": "x"})
            assert told.status_code == 201
            await entry(client, hub.url, lambda one: one["failed"] == 1, number=1)
            waiting = (await client.get(f"{hub.url}/v1/notifications")).json()
            assert SECRET.encode() not in hub.said
        nursery.cancel_scope.cancel(reason="the story is over")
    first, second = receiver.asked
    for headers, body in receiver.asked:
        at = float(headers["webhook-timestamp"])
        assert check_webhook([SECRET], headers, body, now=at).id == f"id:{headers['webhook-id']}"
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert first[1] == second[1]
    assert json.loads(second[1])["data"]["message"] == "水"
    refused = [one["message"] for one in waiting if one.get("trigger") == "inside"]
    assert refused == [
        "The webhook was given up: 127.1 leads to a private address, and is not in allow_private."
    ]


async def entry(client: httpx.AsyncClient, url: str, check: Any, number: int = 0) -> None:
    """Ask how a trigger stands until what is answered passes."""
    with trio.fail_after(NET_S):
        while not check((await client.get(f"{url}/v1/triggers")).json()[number]):
            await trio.sleep(0.02)
