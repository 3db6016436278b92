"""No byte of one tenant reaches another, and what is another's is as if it were not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from apexbridge_trio.events import Event, Events, Kind
from apexbridge_trio.identity import Principal
from tests.harness.tenants import MARKS, Tenants, open_tenants


async def test_random_traffic_of_three_tenants_does_not_cross(tmp_path: Path, autojump_clock: object) -> None:
    async with open_tenants(tmp_path, seed=6) as tenants:
        await tenants.run(300)
        assert len(tenants.done) == 17
        assert len(tenants.pairs) > 15


async def is_seen(state: Path, arrange: Callable[[Tenants], None]) -> bool:
    """Tell whether what was broken on purpose is noticed."""
    seen = False
    try:
        async with open_tenants(state, seed=6) as tenants:
            arrange(tenants)
            await tenants.run(300)
    except* AssertionError:
        seen = True
    return seen


async def test_a_door_left_open_is_seen(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Principal, "may_see", lambda *_: True)
    assert await is_seen(tmp_path, lambda _: None)


async def test_an_event_told_to_all_is_seen(tmp_path: Path, autojump_clock: object) -> None:
    def arrange(tenants: Tenants) -> None:
        events, names = tenants.world.hub.events, [f"t-{mark}" for mark in MARKS.values()]

        def publish(kind: Kind, owner: Principal, data: Any, **chat: Any) -> Event:
            told = [
                Events.publish(events, kind, replace(owner, tenant_id=one), data, **chat) for one in names
            ]
            return told[0]

        events.publish = publish  # type: ignore[method-assign]

    assert await is_seen(tmp_path, arrange)


def test_marks_have_no_letter_in_common() -> None:
    letters = [set(mark) for mark in MARKS.values()]
    assert len(set.union(*letters)) == sum(map(len, letters))
