"""Whatever ends a call, none of its processes is alive afterwards, and the receipt says how that was done."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio.errors import Interrupted, ToolFailed, ToolTimeout
from apexbridge_trio.plugins import process, tree
from apexbridge_trio.plugins.sandbox import probe
from tests.harness.clock import elapse
from tests.harness.kill import kill_at_every_step
from tests.plugins.programs import GRACE_S, SAFETY_S, Bench, open_bench

# Ten nested processes below the first; the one in the middle leaves the session, and its group.
NESTED = """
here()
for depth in range(10):
    if os.fork():
        stay()
    if depth == 4:
        os.setsid()
    here()
stay()
"""

# A daemon by the book: neither its parent nor its session or group lead to who started it, who goes on
# once it is there.
DETACHED = """
def detach():
    there, say = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            here()
            os.close(say)
            stay()
        os._exit(0)
    os.close(say)
    os.wait()
    os.read(there, 1)
"""


@pytest.fixture(autouse=True)
def a_patient_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it sweep after no guard that is only slow."""
    monkeypatch.setattr(tree, "MARGIN_S", SAFETY_S)


@pytest.fixture(params=["cgroup", "group+subreaper"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run with either means; no control group is left by the test."""
    found = probe()
    if request.param == "cgroup":
        if found.cgroup is None:
            pytest.skip("no control group may be made here")
        group = found.cgroup / f"tree-{os.getpid()}"
        group.mkdir()
        monkeypatch.setattr(process, "probe", lambda: replace(found, cgroup=group))
        yield request.param
        group.rmdir()  # refused if one is left in it
    else:
        monkeypatch.setattr(process, "probe", lambda: replace(found, cgroup=None))
        yield request.param


async def interrupted(bench: Bench, count: int) -> dict[str, Any]:
    """Call, wait until so many processes are there, say stop; none is there with the receipt."""
    branch: dict[str, Any] = {}

    async def say_stop() -> None:
        await bench.roll.called(count)
        branch.update(await bench.interrupt())
        assert bench.roll.alive() == 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_stop)
        with pytest.raises(Interrupted):
            await bench.call()
    return branch


async def repeat_nested(place: Path, how: str, times: int) -> None:
    async with open_bench(place, NESTED) as bench:
        for _ in range(times):
            branch = await interrupted(bench, 11)
            assert (branch["kind"], branch["state"]) == ("process", "stopped")
            assert (branch["processes"], branch["how"]) == (11, how)


async def test_ten_nested_processes_one_in_a_session_of_its_own_are_gone_with_the_receipt(
    place: Path, how: str
) -> None:
    await repeat_nested(place, how, 10)


@pytest.mark.prove
async def test_two_hundred_times_in_a_row(place: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.plugins.programs.SAFETY_S", 600.0)
    await repeat_nested(place, how, 200)


async def test_processes_that_ignore_sigterm_are_killed(place: Path, how: str) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" + NESTED
    async with open_bench(place, code, kill_grace_s=0.1) as bench:
        assert (await interrupted(bench, 11))["processes"] == 11


async def test_a_process_that_is_told_may_clean_up(place: Path, how: str) -> None:
    code = """
def clean(*_):
    time.sleep(0.2)
    open(os.environ["HOME"] + "/cleaned", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, clean)
here()
stay()
"""
    async with open_bench(place, code, kill_grace_s=math.inf) as bench:
        await interrupted(bench, 1)
        assert (bench.state / "cleaned").exists()


async def test_a_stopped_process_is_killed(place: Path, how: str) -> None:
    code = """
stopped = os.getpid()
here()
if os.fork() == 0:
    os.kill(stopped, signal.SIGSTOP)
    here()
stay()
"""
    async with open_bench(place, code, kill_grace_s=0.1) as bench:
        assert (await interrupted(bench, 2))["processes"] == 2


async def test_a_normal_end_leaves_no_daemon(place: Path, how: str) -> None:
    async with open_bench(place, DETACHED + "detach(); answer({'done': True})") as bench:
        assert await bench.call() == {"done": True}
        await bench.roll.called(1)
        assert bench.roll.alive() == 0


async def test_who_holds_the_pipe_is_not_waited_for(place: Path, how: str) -> None:
    async with open_bench(place, DETACHED + "detach(); sys.exit('nothing to say')") as bench:
        with pytest.raises(ToolFailed, match="exit code 1"):
            await bench.call()
        assert bench.roll.alive() == 0


async def test_a_process_that_stays_after_its_answer_is_ended(place: Path, how: str) -> None:
    async with open_bench(place, "here(); answer({'done': True}); stay()") as bench:
        assert await bench.call() == {"done": True}
        await bench.roll.called(1)
        assert bench.roll.alive() == 0


async def test_a_timeout_leaves_nothing(place: Path, how: str, mock_clock: MockClock) -> None:
    code = DETACHED + "detach(); here(); stay()"
    async with open_bench(place, code, limits="max_execution_s = 5\n") as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timed_out, bench)
            await bench.roll.called(2)
            elapse(mock_clock, 5)
        assert bench.roll.alive() == 0


async def test_a_process_that_kills_its_guard_is_ended_all_the_same(place: Path, how: str) -> None:
    code = DETACHED + "detach(); here(); os.kill(os.getppid(), signal.SIGKILL); stay()"
    async with open_bench(place, code) as bench:
        with pytest.raises(ToolFailed):
            await bench.call()
        await bench.roll.called(2)
        await bench.roll.gone()


async def test_a_process_that_stops_its_guard_is_ended_all_the_same(
    place: Path, how: str, mock_clock: MockClock
) -> None:
    code = DETACHED + "detach(); os.kill(os.getppid(), signal.SIGSTOP); here(); stay()"
    async with (
        open_bench(place, code, limits="max_execution_s = 5\n") as bench,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(timed_out, bench)
        await bench.roll.called(2)
        mock_clock.jump(5)
        await wait_all_tasks_blocked()  # the guard is waited for
        elapse(mock_clock, GRACE_S + tree.MARGIN_S)
        await bench.roll.gone()


async def timed_out(bench: Bench) -> None:
    with pytest.raises(ToolTimeout):
        await bench.call()


async def test_an_interrupt_at_any_step_leaves_nothing(
    place: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugins.programs.SAFETY_S", 600.0)
    async with open_bench(place, "here(); answer({'done': True})") as bench:

        async def scenario() -> None:
            assert await bench.call() == {"done": True}

        async def check(_: bool) -> None:
            assert len(bench.flights) == bench.roll.alive() == 0

        assert await kill_at_every_step(scenario, check) > 15


async def test_a_hub_that_is_killed_takes_its_processes_along(place: Path) -> None:
    async with open_bench(place, NESTED) as bench:
        code = (
            "import sys, trio; from pathlib import Path; from tests.plugins.test_tree import call_for_ever; "
            "trio.run(call_for_ever, Path(sys.argv[1]))"
        )
        async with trio.open_nursery() as nursery:
            hub = await nursery.start(run_quietly, [sys.executable, "-c", code, str(place)])
            await bench.roll.called(11)
            assert bench.roll.alive() == 11
            hub.kill()
        await bench.roll.gone()


async def run_quietly(command: list[str], *, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(command, check=False, task_status=task_status)


async def call_for_ever(place: Path) -> None:
    """Be a hub that calls the plugin which is there."""
    from apexbridge_trio.plugins import Plugins
    from tests.plugins.folders import SUNDAY, call_tool

    plugins = Plugins.load([place / "plugins"], state=place / "state", clock=lambda: SUNDAY)
    await call_tool(plugins.tools["echo"], {})
    os._exit(1)
