"""Lookups of names that hang: their threads are few, of their own, and given back when they end."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from apexbridge_trio.triggers.names import LOOKUP_S, MOST_LOOKUPS, MOST_OF_HOST, Names, NamesBusy, NameSilent
from apexbridge_trio.triggers.webhook import PAUSES_S, Webhooks
from tests.harness.house import NET_S
from tests.triggers.test_triggers import entry, node, told
from tests.triggers.test_webhook import hooked, waiting


class Server:
    """A name server: what begins with ``dead`` hangs until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self._came = threading.Semaphore(0)

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        self._came.release()
        if host.startswith("dead"):
            self.let_go.wait(NET_S)
        if host == "unknown":
            raise OSError("no such name")
        return ["93.184.215.14"]

    def wait_for(self, count: int) -> None:
        """Wait until so many more have asked; blocks, as Trio knows of a thread before it has begun."""
        assert all(self._came.acquire(timeout=NET_S) for _ in range(count))


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.let_go.set()


async def outcome(names: Names, host: str, into: list[Any]) -> None:
    try:
        into.append(await names.resolve(host, 443))
    except OSError as fault:
        into.append(type(fault))


async def test_an_answer_and_none(server: Server, mock_clock: trio.testing.MockClock) -> None:
    names = Names(server)
    assert await names.resolve("good", 443) == ["93.184.215.14"]
    with pytest.raises(OSError, match="no such name"):
        await names.resolve("unknown", 443)
    assert len(names) == 0


async def test_a_name_server_that_hangs_has_two_places_and_the_others_go_on(
    server: Server, mock_clock: trio.testing.MockClock
) -> None:
    names, told_of = Names(server), list[Any]()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(outcome, names, "dead", told_of)
        await trio.testing.wait_all_tasks_blocked()
        assert len(names) == MOST_OF_HOST
        server.wait_for(MOST_OF_HOST)
        assert await names.resolve("good", 443)
        mock_clock.jump(LOOKUP_S)
    assert sorted(map(str, told_of)) == sorted(map(str, [NameSilent] * 2 + [NamesBusy] * 18))
    assert len(names) == MOST_OF_HOST, "nobody waits, and the threads are still there"
    assert server.asked == ["dead"] * 2 + ["good"]


async def test_when_all_are_taken_nothing_else_that_uses_threads_waits(
    server: Server, mock_clock: trio.testing.MockClock
) -> None:
    names, told_of = Names(server), list[Any]()
    async with trio.open_nursery() as nursery:
        for number in range(MOST_LOOKUPS):
            nursery.start_soon(outcome, names, f"dead{number}", told_of)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(outcome, names, "good", told_of)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        mock_clock.jump(LOOKUP_S)
    assert (told_of.count(NameSilent), told_of.count(NamesBusy)) == (MOST_LOOKUPS, 1)
    # A place is given back when a thread has ended, and not before: this waits for one.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, names, "good", told_of)
        await trio.testing.wait_all_tasks_blocked()
        assert "good" not in server.asked
        server.let_go.set()
    assert told_of[-1] == ["93.184.215.14"]


async def test_who_gives_up_before_a_place_is_free_has_taken_none(
    server: Server, mock_clock: trio.testing.MockClock
) -> None:
    names = Names(server)
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_OF_HOST + 1):
            nursery.start_soon(outcome, names, "dead", [])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="the hub ends")
    assert len(names) == MOST_OF_HOST
    server.let_go.set()
    assert await names.resolve("dead", 443), "all places were given back"
    while len(names):  # threads that nobody waits for
        await trio.lowlevel.checkpoint()
    assert await names.resolve("good", 443)
    assert set(names._hosts) == {"good"}, "a name is forgotten once nobody looks it up"


async def test_a_webhook_whose_name_hangs_comes_again_and_says_why(
    tmp_path: Path, autojump_clock: Any, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with hooked(tmp_path) as (world, other):
        names = Names(lambda _host, port: server("dead", port))
        world.hub.triggers.firings.webhooks = Webhooks(names.resolve, other.dial)
        node(world, "offline")
        await trio.sleep(1 + LOOKUP_S + PAUSES_S[0] + LOOKUP_S)
        assert (waiting(world), len(names)) == (1, 2)
        await trio.sleep(sum(PAUSES_S) + 100)
        reason = "hooks.test can not be reached: its name was not looked up, as too many lookups hang"
        assert told(world) == [
            ("notification", "t", f"The webhook was given up after {len(PAUSES_S) + 1} attempts: {reason}.")
        ]
        assert (waiting(world), entry(world)["failed"]) == (0, 1)
        server.wait_for(MOST_OF_HOST)
        assert len(server.asked) == MOST_OF_HOST
    assert "nobody said within 5 s where its name leads" in capsys.readouterr().err
