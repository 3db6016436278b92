"""Webhooks to another side that does its worst: over memory streams, on the virtual clock."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from apexbridge_trio.config import Trigger
from apexbridge_trio.protocol.signature import check_webhook
from apexbridge_trio.triggers.webhook import PAUSES_S, SEND_S, Webhooks, pause_s, read_status
from tests.fakes.memory import MemoryStream
from tests.harness.world import World, open_world
from tests.triggers.place import Wall
from tests.triggers.test_triggers import HOME, entry, node, told, trigger

PUBLIC = "93.184.215.14"
SECRET = "whsec_c2VjcmV0LW9mLXRlc3Q="
HOOK = trigger(on="node.status", do="webhook", url="https://hooks.test/in?key=k", when={"to": "offline"})
PLAIN = msgspec.structs.replace(HOOK, url="http://hooks.test/in?key=k")

Script = Callable[[MemoryStream], Awaitable[None]]


@dataclass
class Other:
    """The other side.

    Attributes:
        answers: What it says to each request, the last one again and again; a script instead of bytes.
        names: What the host's name leads to, each time it is asked for; the last one again and again.
        dialled: Addresses that were connected to.
        asked: Requests that came, with their bodies.
    """

    nursery: trio.Nursery
    answers: list[bytes | Script] = field(default_factory=lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"])
    names: list[list[str]] = field(default_factory=lambda: [[PUBLIC]])
    dialled: list[tuple[str, int]] = field(default_factory=list)
    asked: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    open: int = 0

    async def resolve(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return self.names.pop(0) if len(self.names) > 1 else self.names[0]

    async def dial(self, address: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((address, port))
        near, far = MemoryStream.pair()
        self.nursery.start_soon(self._serve, far)
        return near

    async def _serve(self, stream: MemoryStream) -> None:
        self.open += 1
        head = b""
        while b"\r\n\r\n" not in head:
            head += bytes(await stream.receive_some(65536))
        head, _, body = head.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += bytes(await stream.receive_some(65536))
        self.asked.append(({**headers, "": first}, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            await (stream.send_all(answer) if isinstance(answer, bytes) else answer(stream))
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass  # it was hung up on
        finally:
            self.open -= 1
            stream.close()


@asynccontextmanager
async def hooked(state: Path, *triggers: Trigger) -> AsyncIterator[tuple[World, Other]]:
    async with open_world(state, now=Wall()) as world, trio.open_nursery() as nursery:
        other = Other(nursery)
        world.hub.triggers.firings.webhooks = Webhooks(other.resolve, other.dial)
        world.hub.triggers.firings._jitter = lambda a, b: 0.0
        world.hub.triggers.replace(triggers or (PLAIN,))
        yield world, other
        await trio.testing.wait_all_tasks_blocked()
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
        assert other.open == 0, "each connection is closed"


def status(code: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} X", "Content-Length: 0", *headers, "", ""]).encode()


def waiting(world: World) -> int:
    return world.hub.triggers.firings.rows.count()


async def test_what_is_sent_is_signed_and_says_what_happened(tmp_path: Path, autojump_clock: Any) -> None:
    async with hooked(tmp_path) as (world, other):
        node(world, "offline")
        await trio.sleep(1)
        [(headers, body)] = other.asked
        assert headers[""] == "POST /in?key=k HTTP/1.1"
        assert (headers["host"], headers["content-type"]) == ("hooks.test:80", "application/json")
        now = world.hub.triggers._now()
        assert check_webhook([SECRET], headers, body, now=now).id == f"id:{headers['webhook-id']}"
        said = json.loads(body)
        assert said["type"] == "node.status"
        assert said["data"] == {"nodeId": "attic", "from": "online", "to": "offline", "reason": "it left"}
        assert (said["trigger"], said["tenantId"]) == ("t", "default")
        assert other.dialled == [(PUBLIC, 80)]
        assert (waiting(world), told(world), entry(world)["failed"]) == (0, [], 0)


async def test_one_that_is_not_taken_comes_again_with_the_same_id(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(500), status(503), status(429), status(200)]
        began = trio.current_time()
        node(world, "offline")
        while waiting(world) or not other.asked:
            await trio.sleep(1)
        assert sum(PAUSES_S[:3]) <= trio.current_time() - began < sum(PAUSES_S[:3]) + 60
        assert len({headers["webhook-id"] for headers, _ in other.asked}) == 1
        assert len({body for _, body in other.asked}) == 1
        stamps = [int(headers["webhook-timestamp"]) for headers, _ in other.asked]
        assert stamps == sorted(set(stamps)), "each attempt is of its own time"
        assert (len(other.asked), told(world)) == (4, [])


async def test_who_asks_for_patience_has_it(tmp_path: Path, autojump_clock: Any) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(429, "Retry-After: 1000"), status(200)]
        node(world, "offline")
        await trio.sleep(990)
        assert len(other.asked) == 1
        await trio.sleep(70)
        assert (len(other.asked), waiting(world)) == (2, 0)


async def test_one_that_nobody_takes_is_given_up_and_told(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apexbridge_trio.triggers.webhook.PAUSES_S", PAUSES_S[:3])
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(502)]
        node(world, "offline")
        await trio.sleep(1000)
        assert len(other.asked) == 4
        said = "The webhook was given up after 4 attempts: hooks.test answered 502."
        assert told(world) == [("notification", "t", said)]
        assert (waiting(world), entry(world)["failed"], entry(world)["state"]) == (0, 1, "armed")


async def test_a_webhook_that_hangs(tmp_path: Path, autojump_clock: Any) -> None:
    async def hang(stream: MemoryStream) -> None:
        await trio.sleep(SEND_S + 1)

    async with hooked(tmp_path) as (world, other):
        other.answers = [hang, status(200)]
        node(world, "offline")
        await trio.sleep(SEND_S - 1)
        assert len(world.hub.flights) == 1
        await trio.sleep(2)
        assert len(world.hub.flights) == 0
        await trio.sleep(60)
        assert (len(other.asked), waiting(world), told(world)) == (2, 0, [])


async def test_a_deadline_that_is_shorter_ends_an_attempt_and_not_the_webhook(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async def hang(stream: MemoryStream) -> None:
        await trio.sleep(60)

    async with hooked(tmp_path, msgspec.structs.replace(PLAIN, timeout_s=2.0)) as (world, other):
        other.answers = [hang, status(200)]
        node(world, "offline")
        await trio.sleep(3)
        assert (len(world.hub.flights), waiting(world)) == (0, 1)
        await trio.sleep(70)
        assert (len(other.asked), waiting(world), told(world)) == (2, 0, [])


async def test_a_webhook_that_drips_its_head(tmp_path: Path, autojump_clock: Any) -> None:
    async def drip(stream: MemoryStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-A: b\r\n")
            await trio.sleep(1)

    async with hooked(tmp_path) as (world, other):
        other.answers = [drip, status(200)]
        node(world, "offline")
        await trio.sleep(SEND_S + 1)
        assert len(world.hub.flights) == 0
        await trio.sleep(60)
        assert waiting(world) == 0


@pytest.mark.parametrize(
    "answer",
    [b"garbage\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, b"HTTP/1.1 200"],
    ids=["garbage", "nothing", "headers", "half"],
)
async def test_an_answer_that_is_none(answer: bytes, tmp_path: Path, autojump_clock: Any) -> None:
    async def say(stream: MemoryStream) -> None:
        await stream.send_all(answer)
        stream.close()
        raise trio.BrokenResourceError

    async with hooked(tmp_path) as (world, other):
        other.answers = [say, status(200)]
        node(world, "offline")
        await trio.sleep(60)
        assert (len(other.asked), waiting(world), told(world)) == (2, 0, [])


async def test_a_huge_answer_is_not_read(tmp_path: Path, autojump_clock: Any) -> None:
    sent = 0

    async def pour(stream: MemoryStream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)
            sent += 65536
            await trio.lowlevel.checkpoint()

    async with hooked(tmp_path) as (world, other):
        other.answers = [pour]
        node(world, "offline")
        await trio.sleep(1)
        assert (waiting(world), told(world), entry(world)["failed"]) == (0, [], 0)
        assert sent < 10_000_000


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_to_this_machine_is_not_followed(
    code: int, tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(code, "Location: http://127.0.0.1:22/")]
        node(world, "offline")
        await trio.sleep(1000)
        assert other.dialled == [(PUBLIC, 80)]
        said = f"The webhook was given up: hooks.test answered {code}; redirects are not followed."
        assert (told(world), waiting(world)) == ([("notification", "t", said)], 0)


async def test_who_answers_410_is_left_alone(tmp_path: Path, autojump_clock: Any) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(410)]
        node(world, "offline")
        await trio.sleep(1)
        [(_, _, said)] = told(world)
        assert said.startswith("hooks.test answered 410: it wants no more webhooks. The trigger is off until")
        assert entry(world)["state"] == "disabled"
        for number in range(3):
            node(world, "offline", name=f"n{number}")
        await trio.sleep(1000)
        assert (len(other.asked), len(told(world)), entry(world)["leftOut"], waiting(world)) == (1, 1, 3, 0)
        # Read again as it was, it stays off; changed, it is tried again.
        world.hub.triggers.replace([msgspec.structs.replace(PLAIN)])
        assert entry(world)["state"] == "disabled"
        world.hub.triggers.replace([msgspec.structs.replace(PLAIN, url="http://hooks.test/new")])
        assert entry(world)["state"] == "armed"
        other.answers = [status(200)]
        node(world, "offline")
        await trio.sleep(1)
        assert len(other.asked) == 2


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_who_finds_fault_with_it_is_not_asked_again(
    code: int, tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(code)]
        node(world, "offline")
        await trio.sleep(1000)
        assert len(other.asked) == 1
        assert told(world) == [
            ("notification", "t", f"The webhook was given up: hooks.test answered {code}.")
        ]


@pytest.mark.parametrize(
    "leads_to",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:192.168.0.1"], ["fe80::1%eth0"]],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_refused(
    leads_to: list[str], tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        other.names = [leads_to]
        node(world, "offline")
        await trio.sleep(1000)
        assert (other.dialled, waiting(world)) == ([], 0)
        [(_, _, said)] = told(world)
        assert said == (
            "The webhook was given up: hooks.test leads to a private address, and is not in allow_private."
        )


async def test_a_rebinding_name_is_only_reached_where_it_was_looked_at(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        other.names = [[PUBLIC], ["127.0.0.1"]]
        other.answers = [status(500)]
        node(world, "offline")
        await trio.sleep(1)
        assert other.dialled == [(PUBLIC, 80)]
        await trio.sleep(1000)
        assert other.dialled == [(PUBLIC, 80)], "looked at again for the second attempt, and refused"
        assert "leads to a private address" in told(world)[0][2]


async def test_a_private_host_that_is_listed_is_asked(tmp_path: Path, autojump_clock: Any) -> None:
    listed = msgspec.structs.replace(PLAIN, allow_private=["Hooks.test"])
    async with hooked(tmp_path, listed) as (world, other):
        other.names = [["192.168.1.7"]]
        node(world, "offline")
        await trio.sleep(1)
        assert (other.dialled, waiting(world), told(world)) == ([("192.168.1.7", 80)], 0, [])


async def test_a_name_that_nobody_knows_and_a_host_that_is_away_are_tried_again(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with hooked(tmp_path) as (world, other):
        faults: list[OSError] = [OSError("no such name"), ConnectionRefusedError()]

        async def resolve(host: str, port: int) -> list[str]:
            await trio.lowlevel.checkpoint()
            if faults:
                raise faults.pop()
            return ["2606:4700::1", PUBLIC]

        async def dial(address: str, port: int) -> trio.abc.Stream:
            if ":" in address:
                raise OSError("no way there")
            return await other.dial(address, port)

        world.hub.triggers.firings.webhooks = Webhooks(resolve, dial)
        node(world, "offline")
        await trio.sleep(100)
        assert (waiting(world), len(other.asked), told(world)) == (0, 1, [])


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """A home whose IPv6 leads nowhere has such an address first, for each name."""
    async with hooked(tmp_path) as (world, other):

        async def dial(address: str, port: int) -> trio.abc.Stream:
            if ":" in address:
                await trio.sleep_forever()
            return await other.dial(address, port)

        other.names = [["2606:4700::1", "2606:4700::2", "2606:4700::3", PUBLIC]]
        world.hub.triggers.firings.webhooks = Webhooks(other.resolve, dial)
        node(world, "offline")
        await trio.sleep(SEND_S)
        assert (waiting(world), len(other.asked), told(world)) == (0, 1, [])


async def test_it_can_be_stopped_while_it_is_sent(tmp_path: Path, autojump_clock: Any) -> None:
    async def hang(stream: MemoryStream) -> None:
        await trio.sleep(5)

    async with hooked(tmp_path) as (world, other):
        other.answers = [hang]
        node(world, "offline")
        await trio.sleep(1)
        [flight] = world.hub.flights.roots(HOME)
        receipt = await world.hub.flights.interrupt(flight.path, HOME, "enough").receipt(10)
        assert receipt["notStopped"] == []
        await trio.sleep(1000)
        assert (len(other.asked), waiting(world)) == (1, 0)


async def test_an_event_that_is_large_is_sent_cut(tmp_path: Path, autojump_clock: Any) -> None:
    hook = msgspec.structs.replace(PLAIN, on="chat.completed", when={})
    async with hooked(tmp_path, hook) as (world, other):
        said = {"requestId": "r", "content": "水" * 1_000_000, "usage": {"x": ["y"] * 100_000}}
        world.hub.events.publish("chat.completed", HOME, said)
        await trio.sleep(1)
        [(_, body)] = other.asked
        assert len(body) < 20_000
        assert json.loads(body)["data"] == {"requestId": "r", "content": "水" * 2000}


async def test_one_that_was_taken_out_of_the_config_is_not_sent(tmp_path: Path, autojump_clock: Any) -> None:
    async with hooked(tmp_path) as (world, other):
        other.answers = [status(500)]
        node(world, "offline")
        await trio.sleep(1)
        world.hub.triggers.replace([])
        await trio.sleep(100)
        assert (len(other.asked), waiting(world)) == (1, 0)
        assert told(world) == [("notification", "t", "It was taken out of the config before this was done.")]


def test_every_status_is_one_of_four() -> None:
    words = {code: read_status("h", code, 0).word for code in range(200, 600)}
    assert {code for code, word in words.items() if word == "taken"} == set(range(200, 300))
    assert {code for code, word in words.items() if word == "gone"} == {410}
    assert {code for code, word in words.items() if word == "again"} == {408, 425, 429, *range(500, 600)}
    assert read_status("h", 503, 1e9).wait_s == 86_400


def test_the_pauses_grow_and_end_and_are_jittered() -> None:
    pauses = [pause_s(attempt, 0, lambda _low, high: high) for attempt in range(1, 9)]
    assert pauses == [*(one * 1.25 for one in PAUSES_S), None]
    assert pause_s(1, 600, lambda _low, _high: 0.0) == 600
