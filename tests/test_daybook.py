"""What was used of a day's tokens, over restarts, kills and clocks that are set."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Limits
from apexbridge_trio.daybook import LOOK_S, WRITE_EVERY_S, DayBook
from apexbridge_trio.errors import StorageFailed
from apexbridge_trio.journal import Journal
from apexbridge_trio.limits import DAY_S, Limiter
from apexbridge_trio.protocol.frames import LlmResponse
from apexbridge_trio.store import AllowanceRows, Store
from tests.harness.kill import kill_at_every_step
from tests.harness.node import joined, key_for
from tests.harness.world import content, open_world, say
from tests.nodes.test_api import Admin
from tests.nodes.test_llm import ask
from tests.triggers.place import Wall

HOUR_S = 3600.0


class Broken(Store):
    """A store that takes nothing while it `is_full`."""

    is_full = False

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        if Broken.is_full and not sql.startswith("SELECT"):
            raise StorageFailed("full", retry_after_s=1)
        return super().execute(sql, values)


@dataclass
class Home:
    """A state directory and a clock, which outlive hubs; `newest` is the newest time on record."""

    state: Path
    wall: Wall = field(default_factory=Wall)
    newest: float = 0.0
    writes: int = 0

    @contextmanager
    def opened(self) -> Iterator[tuple[Limiter, DayBook]]:
        """Begin a hub of which only the tokens are there."""
        with Store(self.state) as read, Broken(self.state) as written:
            journal = Journal(written)
            clock = WallClock(self.wall, trio.current_time, self.newest)
            limiter = Limiter(Limits(tokens_per_day=100))
            book = DayBook(journal, read=read, written=written, clock=clock)
            book.restore("key", limiter.tokens.of)
            limiter.spent = lambda name, allowance: book.note("key", name, allowance)
            yield limiter, book
            self.writes = len(journal.writes)

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[Limiter]:
        """Run a hub that is drained in the end."""
        with self.opened() as (limiter, book):
            async with trio.open_nursery() as nursery:
                await nursery.start(book.run)
                try:
                    yield limiter
                finally:
                    nursery.cancel_scope.cancel(reason="the hub ends")

    def on_disk(self) -> dict[str, int]:
        """Say what another process sees now, as it would be there after a kill."""
        with Store(self.state) as store:
            return {record.id: record.used for record in AllowanceRows(store).all()}

    def off(self, seconds: float) -> None:
        """Let time pass without a hub."""
        self.wall.put(seconds)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def spend(limiter: Limiter, tokens: int, key: str = "k") -> None:
    limiter.use_tokens(key, tokens, trio.current_time())


def wait_s(limiter: Limiter, key: str = "k") -> float:
    """So long until the key may go on."""
    return limiter.tokens_wait_s(key, trio.current_time())


async def test_a_restart_is_no_new_day(home: Home, autojump_clock: Any) -> None:
    async with home.hub() as limiter:
        spend(limiter, 60)
        await trio.sleep(2 * HOUR_S)
        spend(limiter, 40)
        assert wait_s(limiter) == pytest.approx(DAY_S - 2 * HOUR_S)
    home.off(HOUR_S)
    async with home.hub() as limiter:
        assert wait_s(limiter) == pytest.approx(DAY_S - 3 * HOUR_S, abs=0.01)
        await trio.sleep(DAY_S - 3 * HOUR_S + 1)
        assert wait_s(limiter) == 0
        spend(limiter, 7)
    assert home.on_disk() == {"k": 7}
    home.off(DAY_S)
    async with home.hub() as limiter:
        assert limiter.tokens.get("k") is None
        spend(limiter, 1, "other")
    assert home.on_disk() == {"other": 1}, "a day that is over is forgotten"


async def test_chats_are_written_together_and_a_kill_loses_seconds(home: Home, autojump_clock: Any) -> None:
    async with home.hub() as limiter:
        spend(limiter, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert home.on_disk() == {"k": 1}, "the first is written at once, by another task"
        for _ in range(50):
            spend(limiter, 1)
            await trio.testing.wait_all_tasks_blocked()
        assert home.on_disk() == {"k": 1}
        await trio.sleep(WRITE_EVERY_S + 1)
        assert home.on_disk() == {"k": 51}
        await trio.sleep(10 * LOOK_S)
        spend(limiter, 1)
    assert home.on_disk() == {"k": 52}, "the rest is written at the end"
    assert home.writes == 3


async def test_a_hub_that_is_cut_before_each_step_has_written_all(home: Home, autojump_clock: Any) -> None:
    spent = rounds = 0

    async def scenario() -> None:
        nonlocal spent
        spent = 0
        async with home.hub() as limiter:
            for _ in range(3):
                spend(limiter, 1, f"k{rounds}")
                spent += 1
                await trio.sleep(WRITE_EVERY_S / 2)

    async def ended(_is_whole: bool) -> None:
        nonlocal rounds
        assert home.on_disk().get(f"k{rounds}", 0) == spent
        rounds += 1

    assert await kill_at_every_step(scenario, ended) > 5


async def test_a_day_lasts_as_long_as_it_would_have_when_the_clock_is_set(
    home: Home, autojump_clock: Any
) -> None:
    for seconds in (3 * DAY_S, -3 * DAY_S):
        async with home.hub() as limiter:
            spend(limiter, 100, f"k{seconds}")
            await trio.sleep(HOUR_S)
            home.wall.put(seconds)
            await trio.sleep(2 * LOOK_S)
            assert wait_s(limiter, f"k{seconds}") == pytest.approx(DAY_S - HOUR_S - 2 * LOOK_S)
        async with home.hub() as limiter:
            assert wait_s(limiter, f"k{seconds}") == pytest.approx(DAY_S - HOUR_S - 2 * LOOK_S, abs=0.01)


async def test_a_clock_that_boots_with_1970_ends_no_day_and_lengthens_none(
    home: Home, autojump_clock: Any
) -> None:
    async with home.hub() as limiter:
        spend(limiter, 50)
    right, home.wall.start = home.wall.start, 5.0
    async with home.hub() as limiter:
        spend(limiter, 50)
        assert wait_s(limiter) == pytest.approx(DAY_S)
        spend(limiter, 100, "new")
        home.wall.start = right + HOUR_S
        await trio.sleep(2 * LOOK_S)
        assert wait_s(limiter) == pytest.approx(DAY_S - HOUR_S - 2 * LOOK_S, abs=0.01)
        assert wait_s(limiter, "new") == pytest.approx(DAY_S - 2 * LOOK_S, abs=0.01)
    home.off(HOUR_S)
    async with home.hub() as limiter:
        assert wait_s(limiter) == pytest.approx(DAY_S - 2 * HOUR_S - 2 * LOOK_S, abs=0.01)
        assert wait_s(limiter, "new") == pytest.approx(DAY_S - HOUR_S - 2 * LOOK_S, abs=0.01)


async def test_a_clock_that_is_behind_and_then_believed_has_days_of_24_hours(
    home: Home, autojump_clock: Any
) -> None:
    async with home.hub() as limiter:
        spend(limiter, 100)
    home.newest = home.wall()
    home.off(-10 * DAY_S)
    async with home.hub() as limiter:
        await trio.sleep(2 * HOUR_S)
        # It is believed after an hour: the day has 24 h from then, whatever the row said.
        assert wait_s(limiter) == pytest.approx(DAY_S - HOUR_S, abs=2 * LOOK_S)
        left = wait_s(limiter)
    home.newest = 0.0
    async with home.hub() as limiter:
        assert wait_s(limiter) == pytest.approx(left, abs=0.01), "the next start does not begin it anew"


async def test_what_the_disk_does_not_take_is_written_later(
    home: Home, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with home.hub() as limiter:
        monkeypatch.setattr(Broken, "is_full", True)
        spend(limiter, 5)
        await trio.sleep(2 * WRITE_EVERY_S)
        assert home.on_disk() == {}
        monkeypatch.undo()
        await trio.sleep(2 * LOOK_S)
        assert home.on_disk() == {"k": 5}


async def test_an_absurd_count_does_not_stop_the_book(home: Home, autojump_clock: Any) -> None:
    """A provider may say that an answer cost 10**30 tokens."""
    async with home.hub() as limiter:
        spend(limiter, 10**30)
        spend(limiter, 3, "other")
    assert home.on_disk() == {"k": 2**53, "other": 3}


async def test_a_whole_hub_goes_on_with_keys_and_nodes(tmp_path: Path, autojump_clock: Any) -> None:
    wall = Wall(1_800_000_000.0)
    few: dict[str, Any] = {"quota": {"tokens_per_day": 1}, "nodes": {"llm_tokens_per_day": 1}}
    async with open_world(tmp_path, now=wall, **few) as world:
        assert content(await world.chat(say("x", "hello")))
        key = key_for(world, "node")
        async with joined(world, key=key) as node:
            await ask(node, "hello")
            assert (await node.hear(LlmResponse)).success
    async with open_world(tmp_path, now=wall, **few) as world:
        reply = await world.chat(say("x", "hello"))
        assert (reply.status, reply.json["error"]["code"]) == (429, "quota_exceeded")
        async with joined(world, key=key) as node:
            await ask(node, "hello")
            assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"
            await Admin(world).ask("DELETE", "/v1/nodes/attic")
            await node.close_code()
        await trio.sleep(10)
    # Neither being forgotten nor another name is a new day: it is the key's.
    async with open_world(tmp_path, now=wall, **few) as world:
        async with joined(world, "cellar", key=key) as node:
            await ask(node, "hello")
            assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"
        async with joined(world) as node:
            await ask(node, "hello")
            assert (await node.hear(LlmResponse)).success
