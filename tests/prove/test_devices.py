"""Two devices and a hub that is killed under their acknowledgements: `make prove`."""

import random
from pathlib import Path

import httpx
import pytest
import trio

from tests.harness import process
from tests.harness.house import NET_S, kill_hub, make_key

# httpx 0.28.1 leaves its generator to the collector when a connection breaks under it.
pytestmark = [
    pytest.mark.prove,
    pytest.mark.filterwarnings("ignore:Async generator .httpx:ResourceWarning"),
]

KILLS = 10
NOTICES = 40
DICE = random.Random(6)


class Phone:
    """Acknowledges what it is told, and remembers what it was said to have acknowledged."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.asked: set[str] = set()
        self.said: set[str] = set()
        self.told: set[str] = set()
        self.news = trio.Event()

    @property
    def done(self) -> int:
        """What the hub has acknowledged so far."""
        return len(self.said) + len(self.told)

    async def until(self, done: int) -> None:
        """Wait until the hub has acknowledged so much."""
        while self.done < done:
            await self.news.wait()

    def _note(self, into: set[str], notice_id: str) -> None:
        into.add(notice_id)
        self.news.set()
        self.news = trio.Event()

    def client(self, url: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=url, trust_env=False, timeout=NET_S, headers=headers)

    async def listed(self, client: httpx.AsyncClient, device: str) -> set[str]:
        return {one["id"] for one in (await client.get(f"/v1/notifications?device={device}")).json()}

    async def tell(self, client: httpx.AsyncClient, number: int) -> None:
        try:
            reply = await client.post("/v1/notifications", json={"message": str(number)})
        except httpx.TransportError:
            return
        self._note(self.told, reply.json()["id"])

    async def ack(self, client: httpx.AsyncClient, notice_id: str) -> None:
        self.asked.add(notice_id)
        try:
            reply = await client.post(f"/v1/notifications/{notice_id}/ack?device=phone")
        except httpx.TransportError:
            return
        assert reply.status_code in {200, 404}  # 404: an earlier one was written, and not said
        self._note(self.said, notice_id)


async def _remember(phone: Phone, url: str, device: str) -> None:
    """Have a device known: it comes once."""
    async with phone.client(url) as client:
        assert (await client.get(f"/v1/events?follow=false&device={device}")).status_code == 200


async def _killed_while_acknowledging(phone: Phone, hub: process.Running) -> None:
    async with phone.client(hub.url) as client, trio.open_nursery() as nursery:
        due = await phone.listed(client, "phone")
        assert not due & phone.said, "it was said to be seen, and is told again"
        assert due >= phone.told - phone.asked, "it was said to be kept, and is not told"
        for number in range(NOTICES):
            nursery.start_soon(phone.tell, client, number)
        kill_at = phone.done + DICE.randrange(5, NOTICES)
        for notice_id in due:
            nursery.start_soon(phone.ack, client, notice_id)
        with trio.fail_after(NET_S):
            await phone.until(kill_at)
        kill_hub(hub)
        await hub.process.wait()


async def test_what_was_said_to_be_seen_is_seen_and_the_other_device_is_told_all_of_it(
    tmp_path: Path,
) -> None:
    phone = Phone(await make_key(tmp_path, "chat"))
    for number in range(KILLS):
        async with process.hub(tmp_path) as hub:
            if number == 0:
                await _remember(phone, hub.url, "tablet")
            await _killed_while_acknowledging(phone, hub)
    async with process.hub(tmp_path) as hub, phone.client(hub.url) as client:
        mine, theirs = [await phone.listed(client, device) for device in ("phone", "tablet")]
    assert not mine & phone.said
    assert mine >= phone.told - phone.asked
    assert theirs >= phone.told
    assert phone.said
    print(
        f"{KILLS} kills: {len(phone.told)} notices, {len(phone.asked)} acknowledged, {len(phone.said)} said so"
    )
