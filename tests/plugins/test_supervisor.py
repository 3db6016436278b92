"""What stays up, on the virtual clock."""

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.log import capture
from apexbridge_trio.plugins.supervisor import LATER_S, Keeping, Pace, Supervisor
from tests.harness.kill import kill_at_every_step


class Lamp:
    """Is up until it is broken; `lives` says how long each of its lives lasts, seconds."""

    def __init__(self, name: str, *lives: float) -> None:
        self.name = name
        self.lives = list(lives)
        self.starts: list[float] = []
        self.ends: list[tuple[str, float]] = []
        self.used = trio.Event()
        self.used.set()
        self.is_on = False

    async def run(self, up: Callable[[], None]) -> None:
        self.starts.append(trio.current_time())
        up()
        self.is_on = True
        try:
            await trio.sleep(self.lives.pop(0) if self.lives else float("inf"))
        finally:
            self.is_on = False
        if self.name == "tired":
            return
        raise ToolFailed("the bulb is broken")

    def note_end(self, fault: str, retry_in_s: float) -> None:
        self.ends.append((fault, retry_in_s))

    async def idle(self) -> None:
        await self.used.wait()


def test_the_pace_doubles_and_forgets_after_a_minute() -> None:
    pace = Pace()
    assert [pace.after_end(now) for now in (0, 1, 3, 7, 15)] == [(2.0**n, False) for n in range(5)]
    assert pace.after_end(31) == (LATER_S, True)
    assert pace.after_end(400) == (1.0, False)


async def test_it_is_begun_again_and_at_last_only_now_and_then(autojump_clock) -> None:
    lamp = Lamp("lamp", *[0.0] * 7)
    keeping = Keeping(lamp)
    begun = trio.current_time()
    with capture() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeping.run)
            await trio.sleep(32)
            assert (keeping.state, keeping.restarts, keeping.last_error) == (
                "failed",
                5,
                "the bulb is broken",
            )
            await trio.sleep(LATER_S + 2)
            assert (keeping.state, keeping.restarts) == ("running", 7)
            nursery.cancel_scope.cancel(reason="seen")
    assert [start - begun for start in lamp.starts] == [0, 1, 3, 7, 15, 31, 331, 332]
    assert lamp.ends[5] == ("the bulb is broken", LATER_S)
    assert [line["log_level"] for line in lines] == ["warning"] * 5 + ["error", "warning"]


async def test_to_end_by_itself_is_a_fault_too(autojump_clock) -> None:
    lamp = Lamp("tired", 1.0)
    with capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Keeping(lamp).run)
            await trio.sleep(3)
            nursery.cancel_scope.cancel(reason="seen")
    assert lamp.ends == [("It has ended by itself.", 1.0)]


async def test_what_is_wanted_is_up_and_the_rest_goes_once_it_is_idle(autojump_clock) -> None:
    supervisor, old, kept, new = Supervisor(), Lamp("old"), Lamp("kept"), Lamp("new")
    supervisor.want([old, kept])
    assert supervisor.keeping(old) is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        assert old.is_on
        assert kept.is_on
        old.used = trio.Event()
        supervisor.want([kept, new])
        await trio.testing.wait_all_tasks_blocked()
        assert old.is_on  # somebody uses it still
        assert new.is_on
        old.used.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not old.is_on
        assert len(kept.starts) == 1
        assert supervisor.keeping(old) is None
        state = supervisor.keeping(kept)
        assert state is not None
        assert state.state == "running"
        nursery.cancel_scope.cancel(reason="the test is over")
    assert not kept.is_on
    assert not new.is_on


async def test_the_new_one_begins_when_the_old_one_of_its_name_is_gone(autojump_clock) -> None:
    class Slow(Lamp):
        async def run(self, up: Callable[[], None]) -> None:
            try:
                await super().run(up)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)

    supervisor, old, new = Supervisor(), Slow("bell"), Lamp("bell")
    supervisor.want([old])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.sleep(1)
        supervisor.want([new])
        await trio.sleep(5)
        assert [start - old.starts[0] for start in new.starts] == [3]
        assert old.ends == [("it was changed or removed", math.inf)]
        both = Lamp("bell")
        supervisor.want([new, both])  # as with an MCP server that is to tell its tools first
        await trio.testing.wait_all_tasks_blocked()
        assert new.is_on
        assert both.is_on
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_what_is_wanted_again_while_it_leaves_is_never_up_twice(autojump_clock) -> None:
    supervisor, lamp = Supervisor(), Lamp("lamp")
    supervisor.want([lamp])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        lamp.used = trio.Event()
        for wanted in ([], [lamp]):
            supervisor.want(wanted)
            await trio.testing.wait_all_tasks_blocked()
        assert len(lamp.starts) == 1
        lamp.used.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(lamp.starts) == 2
        assert lamp.is_on
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_cut_anywhere_nothing_stays_on(autojump_clock) -> None:
    lamps: list[Lamp] = []

    async def scenario() -> None:
        lamps[:] = [Lamp("one", 1.0, 1.0), Lamp("two")]
        supervisor = Supervisor()
        supervisor.want(lamps)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await trio.sleep(5)
            supervisor.want(lamps[:1])
            await trio.sleep(5)
            nursery.cancel_scope.cancel(reason="done")

    async def check(_whole: bool) -> None:
        assert not any(lamp.is_on for lamp in lamps)

    with capture():
        assert await kill_at_every_step(scenario, check) > 5


async def test_a_fault_in_the_moment_of_a_cancellation_does_not_get_past(autojump_clock) -> None:
    class Clumsy(Lamp):
        async def run(self, up: Callable[[], None]) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fall)
                await trio.sleep_forever()

        async def fall(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ToolFailed("it fell over while it was being switched off")

    with capture(), trio.move_on_after(1) as scope:
        await Keeping(Clumsy("clumsy")).run()
    assert scope.cancelled_caught


@pytest.mark.parametrize("many", [1, 2])
async def test_faults_that_come_in_a_group_are_one_sentence(autojump_clock, many: int) -> None:
    class Grouped(Lamp):
        async def run(self, up: Callable[[], None]) -> None:
            raise ExceptionGroup("of a nursery", [ToolFailed("no such lamp")] * many)

    lamp = Grouped("grouped")
    with capture(), trio.move_on_after(0.5):
        await Keeping(lamp).run()
    assert lamp.ends[0][0] == ("no such lamp" if many == 1 else "no such lamp (and 1 more)")
