"""A hub that ends at any moment of a firing, and the next one on the same state directory."""

from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from apexbridge_trio.store import Store
from tests.harness.kill import kill_at_every_step
from tests.reminders.place import Clock, Place

WANTED: list[tuple[str, dict[str, Any], set[str]]] = [
    ("tea", {}, {"due"}),
    ("weather", {"action": {"chat": "Will it rain?"}}, {"answered", "unknown"}),
    ("lights", {"action": {"tool": "lights"}}, {"failed", "unknown"}),
]


async def test_a_hub_that_is_cut_before_each_step(tmp_path: Path, autojump_clock: Any) -> None:
    places: list[Place] = []
    added = 0

    async def scenario() -> None:
        nonlocal added
        added = 0
        place = Place(tmp_path / str(len(places)), Clock())
        place.state.mkdir()
        place.actions.ends = "done"
        places.append(place)
        async with place.hub() as reminders:
            for text, wanted, _ in WANTED:
                await place.add(reminders, text, **{"in": 10, **wanted})
                added += 1
            await trio.sleep(20)

    async def ended(_is_whole: bool) -> None:
        place = places[-1]
        await trio.sleep(30)
        async with place.hub():
            await trio.sleep(30)
        told = [title or message for _, title, message in place.owed()]
        # What was not acknowledged may be there or not; a chat or tool tells once, whatever it tells.
        assert len(told) == len(set(told)) >= added
        assert len(place.actions.ran) == len(set(place.actions.ran))
        assert place.runs() == 0

    assert await kill_at_every_step(scenario, ended) > 10


class Broken(Store):
    """A store whose `fails_at`th write from now raises, and all after it: the hub is gone."""

    fails_at = 10**9

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        if not sql.lstrip().startswith(("SELECT", "PRAGMA")):
            Broken.fails_at -= 1
        if Broken.fails_at < 0:
            raise apsw.IOError("the disk is gone")
        return super().execute(sql, values)


@pytest.mark.parametrize("fails_at", range(10))
async def test_a_disk_that_is_gone_before_each_write(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    place = Place(tmp_path, store_type=Broken)
    place.actions.ends = ValueError("no bulb")
    monkeypatch.setattr(Broken, "fails_at", 10**9)
    async with place.hub() as reminders:
        for text, wanted, _ in WANTED:
            await place.add(reminders, text, **{"in": 10, **wanted})
        Broken.fails_at = fails_at
        await trio.sleep(20)
    Broken.fails_at = 10**9
    await trio.sleep(30)
    async with place.hub():
        await trio.sleep(30)
    told = sorted(title or message for _, title, message in place.owed())
    assert told == ["lights", "tea", "weather"]
    assert len(place.actions.ran) == len(set(place.actions.ran))
    assert place.runs() == 0


async def test_what_ran_when_the_hub_was_gone_is_told_and_not_run_again(
    tmp_path: Path, autojump_clock: Any
) -> None:
    place = Place(tmp_path)
    place.actions.ends = None
    async with place.hub() as reminders:
        await place.add(reminders, "weather", action={"chat": "Will it rain?"}, at="2026-11-22T08:00:10")
        await trio.sleep(20)
    assert (place.runs(), place.owed()) == (1, [])
    async with place.hub():
        await trio.sleep(300)
    [(state, title, message)] = place.owed()
    assert (state, title) == ("unknown", "weather")
    assert "it may have run" in message
    assert len(place.actions.ran) == 1
    async with place.hub():
        pass
    assert len(place.told) == 1
