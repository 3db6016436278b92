"""Changes of the config while a house streams: `make prove`.

Each change exchanges a pair that belongs together: the system prompt of the model that is asked, and a
header of its provider. A stream of several rounds whose requests do not all carry one and the same pair
has seen two configs.
"""

import json
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.harness import process
from tests.harness.house import NET_S, House, house
from tests.harness.wire import Peer
from tests.prove.test_house import percentile

STREAMS = 200
CHANGES = 500
EVERY_S = 0.02
LIMITS = "[limits]\nmax_connections = 3000\nchats_per_minute = 0\ncontrol_per_minute = 0\nconcurrent_chats = 0\nconcurrent_streams = 0\n"
# Half of the streams have two rounds with a tool (one that needs no process) between, half last 2 s.
ASKED = "clock_now {}"
WORDS, WORD_MS = 8, 250
# What a person does between two questions; so the machine is not just busy with chats.
THINKS_S = 4.0


def pair(number: int, url: str) -> dict[str, Any]:
    """What a change exchanges."""
    upstream = {
        "name": "up",
        "base_url": f"{url}/v1",
        "models": ["hello"],
        "headers": {"X-Config": str(number)},
    }
    model = {"id": "paired", "upstream": "up", "name": "tools", "tools": "all", "system": f"config {number}"}
    slow = {"id": "slow", "upstream": "up", "name": f"stream:{WORDS}:{WORD_MS}", "system": f"config {number}"}
    return {"upstreams": [upstream], "models": [model, slow], "chat": {"max_rounds": 4}}


@dataclass
class Told:
    """What came of it."""

    answered: int = 0
    broken: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    applied: int = 0
    refused: int = 0
    unexplained: list[str] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    lasted_s: float = 0.0


class Storm:
    """A house that streams, and somebody who changes its config."""

    def __init__(self, home: House, provider: str) -> None:
        self.home = home
        self.provider = provider
        self.told = Told()
        self.is_over = False

    async def stream(self, number: int) -> None:
        """Ask one chat after the other on a connection of its own, until the changes are over."""
        turn = 0
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", int(self.home.hub.url.rpartition(":")[2])))
        while not self.is_over or turn == 0:
            turn += 1
            await self.chat(peer, f"s{number}t{turn}", is_slow=number % 2 == 1)
            await trio.sleep(THINKS_S * (not self.is_over))
        await peer.stream.aclose()

    async def chat(self, peer: Peer, mark: str, *, is_slow: bool) -> None:
        body = {
            "model": "slow" if is_slow else "paired",
            "stream": True,
            "user": mark,
            "messages": [{"role": "user", "content": ASKED}],
        }
        data = json.dumps(body).encode()
        key = self.home.admin.headers["Authorization"]
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        await peer.send(head.encode() + data)
        reply = await peer.reply()
        text = reply.body.decode()
        last = f"w{WORDS - 1} " if is_slow else "weekday"
        is_whole = reply.status == 200 and text.rstrip().endswith("data: [DONE]") and last in text
        if not is_whole or "tool_timeout" in text or '"error"' in text:
            self.told.broken.append(f"{mark}: {reply.status} {text[-300:]}")
        self.told.answered += 1

    async def change(self, number: int) -> None:
        """Bring one change: most are good, some have a fault, some are stale."""
        patch, match = pair(number, self.provider), "*"
        if number % 10 == 3:
            patch["chat"] = {"max_rounds": 0}
        if number % 10 == 7:
            match = '"1-000000000000"'
        began = time.perf_counter()
        reply = await self.home.admin.patch(
            f"{self.home.hub.url}/v1/config", json=patch, headers={"If-Match": match}
        )
        self.told.took_ms.append((time.perf_counter() - began) * 1000)
        said = reply.json()
        if reply.status_code == 200 and number % 10 not in {3, 7} and said["recorded"]:
            self.told.applied += 1
        elif reply.status_code in {412, 422} and said["error"]["message"] and number % 10 in {3, 7}:
            self.told.refused += 1
        else:
            self.told.unexplained.append(f"{number}: {reply.status_code} {reply.text[:300]}")

    async def changes(self, number: int, pause_s: float) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for one in range(1, number + 1):
                nursery.start_soon(self.change, one)
                await trio.sleep_until(began + one * pause_s)
        self.told.lasted_s = trio.current_time() - began
        self.is_over = True

    async def compare(self) -> None:
        """Look at what the provider was asked: all requests of a stream are of one config."""
        seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for connection in await process.seen(self.provider):
            for request in connection["requests"]:
                if (body := request["body"]) and "user" in body:
                    system = body["messages"][0]["content"].removeprefix("config ")
                    seen[body["user"]].add((system, request["config"]))
        for mark, pairs in seen.items():
            if len(pairs) != 1 or any(system != header for system, header in pairs):
                self.told.mixed.append(f"{mark}: {sorted(pairs)}")
        assert len(seen) == self.told.answered


async def storm(state: Path, *, streams: int, changes: int, pause_s: float) -> Told:
    async with process.provider() as provider:
        async with house(state, LIMITS) as home:
            home.admin.timeout = httpx.Timeout(NET_S)
            made = Storm(home, provider.url)
            first = await home.admin.patch(
                f"{home.hub.url}/v1/config", json=pair(0, provider.url), headers={"If-Match": "*"}
            )
            assert first.status_code == 200, first.text
            with trio.fail_after(600):
                async with trio.open_nursery() as nursery:
                    for number in range(streams):
                        nursery.start_soon(made.stream, number)
                    nursery.start_soon(made.changes, changes, pause_s)
                await made.compare()
            final = (await home.admin.get(f"{home.hub.url}/v1/config/history")).json()
            assert len(final) == min(200, made.told.applied + 2)
        return made.told


@pytest.mark.prove
async def test_fifty_changes_a_second_under_two_hundred_streams(tmp_path: Path, capsys: Any) -> None:
    told = await storm(tmp_path, streams=STREAMS, changes=CHANGES, pause_s=EVERY_S)
    with capsys.disabled():
        print(
            f"\n{CHANGES} changes in {told.lasted_s:.1f} s under {STREAMS} streams: {told.applied} applied, "
            f"{told.refused} refused with a reason; {told.answered} streams answered, {len(told.broken)} broken, "
            f"{len(told.mixed)} of two configs; a change took {statistics.median(told.took_ms):.0f} ms (p50), "
            f"{percentile(told.took_ms, 0.99):.0f} ms (p99)"
        )
    assert (told.broken, told.mixed, told.unexplained) == ([], [], [])
    assert told.applied + told.refused == CHANGES
