"""Callbacks while the hub is killed with SIGKILL: what got a 200 is there, once; the rest can come again."""

import json
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trio

from apexbridge_trio.identity import Principal
from apexbridge_trio.ledger import Ledger
from apexbridge_trio.pending.call import hash_of
from apexbridge_trio.results import Results
from apexbridge_trio.store import Store, Tasks
from tests.harness import process
from tests.harness.wire import Peer

SENDERS = 16


def result_of(name):
    return {"status": "success", "output": {"name": name, "text": "啦" * 300}}


def record_tasks(state, count):
    """Leave behind what a hub leaves whose plugins have all answered that they are pending."""
    names = [f"task-{number}" for number in range(count)]
    with Store(state) as store:
        ledger = Ledger(store, Results(state))
        with store.transaction():
            for name in names:
                token_hash, owner = hash_of(f"token-of-{name}"), Principal("anne")
                ledger.open(
                    name, plugin="suno", tool="sing", owner=owner, token_hash=token_hash, expires_s=3600
                )
                ledger.name(name, name)
    return names


class Plugin(Peer):
    """A connection to the hub; that it ends is an error like any other."""

    async def more(self):
        if not await super().more():
            raise trio.BrokenResourceError
        return True

    async def bring(self, name, body):
        return await self.post(f"/plugin-callback/~token-of-{name}/suno/{name}", json.dumps(body).encode())


@asynccontextmanager
async def connection(running):
    port = int(running.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Plugin(stream)


@dataclass
class Storm:
    """Senders that bring each result until it gets a 200, and a hub that is killed under them."""

    waiting: list[str]
    answered: dict[str, int] = field(default_factory=dict)
    sent_again: int = 0

    async def blow(self, running, kill_after):
        """Send until all is answered, or until so many more are and the hub is killed."""
        stop_at = len(self.answered) + kill_after
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(SENDERS):
                    nursery.start_soon(self._send, running, stop_at)

    async def _send(self, running, stop_at):
        with suppress(OSError):
            async with connection(running) as plugin:
                while self.waiting and await self._bring(plugin, self.waiting.pop()):
                    if len(self.answered) == stop_at:
                        running.process.kill()

    async def _bring(self, plugin, name):
        try:
            reply = await plugin.bring(name, result_of(name))
        except trio.BrokenResourceError:
            self.sent_again += 1
            self.waiting.insert(0, name)
            return False
        # Sent again it may be a duplicate; that it is unknown, gone or in conflict may not be.
        assert reply.status == 200, reply
        self.answered[name] = reply.json.get("duplicate", False)
        return True


async def kill_again_and_again(state, tasks, kills):
    names = record_tasks(state, tasks)
    storm, chance = Storm(list(names)), random.Random(7)
    for left in range(kills, 0, -1):
        async with process.hub(state) as running:
            share = max(1, len(storm.waiting) // (left + 1))
            await storm.blow(running, chance.randint(1, share))
    async with process.hub(state) as running:
        with trio.fail_after(120):
            while storm.waiting:  # nobody is killed any more, but who is paused for long may be cut
                await storm.blow(running, tasks + 1)
        check_disk(state, names)
        async with connection(running) as plugin:
            for name in names[:: max(1, tasks // 20)]:
                assert (await plugin.bring(name, result_of(name))).json["duplicate"] is True
                assert (await plugin.bring(name, {"status": "failed"})).status == 409
    assert set(storm.answered) == set(names)
    check_disk(state, names)
    return storm


def check_disk(state, names):
    files = {path.name: json.loads(path.read_bytes()) for path in (state / "async_results/suno").iterdir()}
    assert files == {f"{name}.json": result_of(name) for name in names}
    with Store(state) as store:
        rows = [Tasks(store).named("suno", name) for name in names]
        assert {row.state for row in rows if row} == {"succeeded"}
        assert sorted(notice.id for notice in Tasks(store).notices()) == sorted(names)


async def test_fifty_tasks_and_three_kills(tmp_path):
    await kill_again_and_again(tmp_path, tasks=50, kills=3)


@pytest.mark.prove
async def test_a_thousand_tasks_and_twenty_kills(tmp_path):
    storm = await kill_again_and_again(tmp_path, tasks=1000, kills=20)
    duplicates = sum(storm.answered.values())
    print(f"\n1,000 results, 20 kills: {storm.sent_again} sent again, {duplicates} of them were on disk")
    assert storm.sent_again >= 20
