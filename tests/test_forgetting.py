"""Lines of the audit, and keys that have ended, are kept for years and then forgotten, by the clock on the wall."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from trio.testing import MockClock

from apexbridge_trio.audit import FILE
from apexbridge_trio.composition import open_hub
from apexbridge_trio.config import Config
from apexbridge_trio.config.schema import Audit
from apexbridge_trio.forgetting import AGAIN_S, LOOK_EVERY_S, forget_old
from apexbridge_trio.hub import Hub
from tests.harness.journal import BrokenStore

DAY_S = 86_400.0
BEGAN_S = 1_893_456_000.0  # 2030


def walls() -> float:
    """Return a clock on the wall that goes with the virtual one."""
    return BEGAN_S + trio.current_time()


@asynccontextmanager
async def opened(state: Path, now: Callable[[], float] = walls) -> AsyncIterator[tuple[Hub, trio.Nursery]]:
    """Open a hub that keeps lines for a month; nothing else of it runs, as days of that take hours.

    It has a key that is revoked, one that expires on the tenth day, and one that stays.
    """
    config = Config(audit=Audit(keep_days=30))
    with open_hub(config, state, now=now, steady=trio.current_time) as hub:
        for number, expires_ms in enumerate((None, int((walls() + 10 * DAY_S) * 1000), None)):
            _, record, _ = hub.keyring.create(FILE, scopes=["chat"], name=str(number), expires_ms=expires_ms)
            if number == 0:
                hub.keyring.revoke(record.id, FILE)
        async with trio.open_nursery() as nursery:
            yield hub, nursery
            nursery.cancel_scope.cancel(reason="seen")


def actions(hub: Hub) -> list[str]:
    return [line.action for line in reversed(hub.audit.rows.listed(limit=100))]


def names(hub: Hub) -> list[str]:
    return sorted(record.name for record in hub.keyring.records())


async def test_what_is_old_is_forgotten_and_what_may_be_used_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with opened(tmp_path) as (hub, nursery):
        nursery.start_soon(forget_old, hub)
        await trio.sleep(29.5 * DAY_S)
        assert (names(hub), len(actions(hub))) == (["0", "1", "2"], 4)
        await trio.sleep(2 * DAY_S)
        assert (names(hub), actions(hub)) == (["1", "2"], ["audit.forgotten", "key.forgotten"])
        await trio.sleep(10 * DAY_S)
        assert names(hub) == ["2"]


async def test_nothing_is_forgotten_while_the_clock_is_doubted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ahead = [0.0]
    async with opened(tmp_path, lambda: walls() + ahead[0]) as (hub, nursery):
        hub.clock.look()
        ahead[0] = 3650 * DAY_S
        nursery.start_soon(forget_old, hub)
        await trio.sleep(DAY_S / 2)
        assert names(hub) == ["0", "1", "2"]
        ahead[0] = 0.0
        await trio.sleep(2 * DAY_S)
        assert (names(hub), len(actions(hub))) == (["0", "1", "2"], 4)


async def test_a_disk_that_refuses_is_asked_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with opened(tmp_path) as (hub, nursery):
        await trio.sleep(31 * DAY_S)
        hub.journal._store, store = BrokenStore(), hub.journal._store  # type: ignore[assignment]
        nursery.start_soon(forget_old, hub)
        await trio.sleep(AGAIN_S / 2)
        assert names(hub) == ["0", "1", "2"]
        hub.journal._store = store
        await trio.sleep(AGAIN_S)
        assert names(hub) == ["1", "2"]
        assert LOOK_EVERY_S > 2 * AGAIN_S
