"""Hybrid plugins: what goes on after a pending answer has an owner, and an end."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio.errors import Interrupted, ToolFailed
from apexbridge_trio.plugins import Pending
from tests.harness.clock import elapse
from tests.harness.kill import kill_at_every_step
from tests.plugins.programs import Bench, open_bench

HYBRID: dict[str, Any] = {"keys": 'type = "hybrid"\n', "limits": "allow_network = true\n"}
PENDING = "answer({'taskId': 'job-1', 'status': 'pending'})\n"


async def pending(bench: Bench) -> Pending:
    answer = await bench.call()
    assert isinstance(answer, Pending)
    assert answer.task_id == "job-1"
    return answer


async def close(answer: Pending) -> None:
    assert answer.running is not None
    await answer.running.aclose()


async def test_a_process_goes_on_until_it_is_closed(place: Path) -> None:
    async with open_bench(place, f"here()\nprint('busy')\n{PENDING}stay()", **HYBRID) as bench:
        answer = await pending(bench)
        await bench.roll.called(1)
        assert bench.roll.alive() == 1
        await close(answer)
        assert bench.roll.alive() == 0
        await close(answer)


async def test_a_daemon_may_outlive_who_started_it(place: Path) -> None:
    code = f"{PENDING}\nif os.fork(): sys.exit()\nos.setsid()\nhere()\nprint('on' * 100000)\nstay()"
    async with open_bench(place, code, **HYBRID) as bench:
        answer = await pending(bench)
        await bench.roll.called(1)
        assert bench.roll.alive() == 1
        await close(answer)
        assert bench.roll.alive() == 0


async def test_it_may_come_to_its_own_end(place: Path) -> None:
    async with open_bench(place, f"here()\n{PENDING}sys.stdin.read()", **HYBRID) as bench:
        answer = await pending(bench)
        await bench.roll.called(1)
        await bench.roll.gone()
        await close(answer)


async def test_it_ends_when_the_task_expires(place: Path) -> None:
    program = {**HYBRID, "keys": HYBRID["keys"] + "[async]\nexpires_s = 0.2\n"}
    async with open_bench(place, f"here()\n{PENDING}stay()", **program) as bench:
        await pending(bench)
        await bench.roll.called(1)
        await bench.roll.gone()


async def test_it_ends_with_the_hub(place: Path) -> None:
    async with open_bench(place, f"here()\n{PENDING}stay()", **HYBRID) as bench:
        await pending(bench)
        await bench.roll.called(1)
        assert bench.roll.alive() == 1
        # Leaving the bench ends what the hub runs, and looks.


async def test_before_its_answer_an_interrupt_reaches_it(place: Path) -> None:
    branch: dict[str, Any] = {}
    async with open_bench(place, "here(); stay()", **HYBRID) as bench:

        async def say_stop() -> None:
            await bench.roll.called(1)
            branch.update(await bench.interrupt())
            assert bench.roll.alive() == 0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_stop)
            with pytest.raises(Interrupted):
                await bench.call()
    assert branch["processes"] == 1


async def test_a_hybrid_may_answer_at_once(place: Path) -> None:
    async with open_bench(place, "answer({'done': 1})", **HYBRID) as bench:
        assert await bench.call() == {"done": 1}


async def test_a_hybrid_that_fails_says_so(place: Path) -> None:
    async with open_bench(place, "sys.exit('no')", **HYBRID) as bench:
        with pytest.raises(ToolFailed, match="exit code 1"):
            await bench.call()


async def test_pending_from_a_direct_plugin_is_its_result(place: Path) -> None:
    async with open_bench(place, PENDING) as bench:
        assert await bench.call() == {"taskId": "job-1", "status": "pending"}


async def test_what_goes_on_keeps_its_slot(place: Path, mock_clock: MockClock) -> None:
    program = {**HYBRID, "limits": HYBRID["limits"] + "max_concurrency = 1\nmax_execution_s = 5\n"}
    async with open_bench(place, f"{PENDING}stay()", **program) as bench:
        answer = await pending(bench)

        async def one_too_many() -> None:
            with pytest.raises(ToolFailed, match="did not end within 5 s"):
                await bench.call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_too_many)
            await wait_all_tasks_blocked()
            elapse(mock_clock, 5)
        await close(answer)
        await close(await pending(bench))


async def test_without_an_owner_nothing_is_started(place: Path) -> None:
    async with open_bench(place, "here(); stay()", **HYBRID) as bench:
        pass
    with pytest.raises(ToolFailed, match="has not begun, or is about to end"):
        await bench.call()


async def test_an_interrupt_at_any_step_leaves_nothing_that_nobody_owns(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugins.programs.SAFETY_S", 600.0)
    async with open_bench(place, f"here()\n{PENDING}stay()", **HYBRID) as bench:

        async def scenario() -> None:
            answer = await pending(bench)
            await close(answer)

        async def check(_: bool) -> None:
            assert bench.roll.alive() == 0

        assert await kill_at_every_step(scenario, check) > 15


async def test_closing_when_cancelled_waits_all_the_same(place: Path) -> None:
    async with open_bench(place, f"here()\n{PENDING}stay()", **HYBRID) as bench:
        answer = await pending(bench)
        await bench.roll.called(1)
        with trio.CancelScope() as scope:
            scope.cancel(reason="for the test")
            await close(answer)
        assert bench.roll.alive() == 0
