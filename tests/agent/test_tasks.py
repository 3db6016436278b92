"""What runs on a node: once, in its turn, within its deadline, to one end."""

import pytest
import trio

from apexbridge_trio import log
from apexbridge_trio.agent import kept as kept_room
from apexbridge_trio.agent import tasks as tasks_room
from apexbridge_trio.agent.kept import RESTARTED
from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.plugins import Later, Pending
from apexbridge_trio.plugins.ongoing import Running
from apexbridge_trio.protocol.frames import Heartbeat, NodeRegister, TaskAccepted, TaskCancelled, TaskResult
from tests.agent.node import Bell, open_node
from tests.fakes.nodes_hub import FakeHub, why

BASE = "http://hub.test/plugin-callback/~apx_cb_token"


async def test_a_task_is_accepted_run_and_kept_until_the_hub_has_it(tmp_path, autojump_clock):
    hub = FakeHub(acks=False)
    async with hub.open(), open_node(tmp_path, hub, ping := Bell("ping", holds=True)) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        assert (await wire.hear(TaskAccepted)).task_id == "task_1"
        assert [path.name for path in (tmp_path / "begun").iterdir()] == ["task_1"]
        assert node.agent.tasks.active == ["task_1"]
        ping.let_go()
        result = await wire.result_of("task_1")
        assert (result.success, result.node_id, bytes(result.result)) == (True, "node_1", b'{"pong":true}')
        assert list((tmp_path / "begun").iterdir()) == []
        assert (list(node.kept), node.agent.tasks.active) == (["task_1"], ["task_1"])
        await wire.ack("task_1", success=False)
        await trio.testing.wait_all_tasks_blocked()
        assert list(node.kept) == ["task_1"]
        # The hub could not write it; with a later heartbeat it comes again.
        assert (await wire.result_of("task_1")).success
        await wire.ack("task_1")
        await node.kept.empty()
        assert node.agent.tasks.active == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ToolFailed("It says no."), "tool_failed"),
        (ToolTimeout("It is slow."), "tool_timeout"),
        (ToolFailed("Bad.", code="invalid_arguments"), "invalid_arguments"),
        (ValueError("a defect"), "internal_error"),
    ],
)
async def test_a_task_that_fails_says_how(tmp_path, autojump_clock, fault, code):
    hub, ping = FakeHub(), Bell("ping")
    ping.fault = fault
    async with hub.open(), open_node(tmp_path, hub, ping) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        with log.capture():
            await wire.assign("task_1", "ping")
            result = await wire.result_of("task_1")
        assert (result.success, why(result).code) == (False, code)
        assert "defect" not in why(result).message
        ping.fault = None
        await wire.assign("task_2", "ping")
        assert (await wire.result_of("task_2")).success
        stats = node.agent.tasks.tally.stats(0)
        assert stats.pop("averageResponseTimeMs") >= 0
        assert stats == {"activeTasks": 0, "totalTasks": 2, "completedTasks": 1, "failedTasks": 1}


async def test_an_unknown_tool_and_arguments_that_are_none(tmp_path, autojump_clock):
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, Bell("ping")):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "what")
        assert why(await wire.result_of("task_1")).code == "tool_not_found"
        await wire.assign("task_2", "ping", arguments=[1])
        assert why(await wire.result_of("task_2")).code == "invalid_arguments"


async def test_no_more_than_the_limit_run_and_the_others_wait_in_order(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, most=2):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        for number in range(6):
            await wire.assign(f"t{number}", "ping")
        accepted = []
        for round_ in range(3):
            # Two that begin in one moment begin in any order.
            accepted += sorted([(await wire.hear(TaskAccepted)).task_id for _ in range(2)])
            assert len(ping.calls) == 2 * (round_ + 1)
            ping.let_go()
        await wire.result_of("t5")
        assert ping.most_running == 2
        assert accepted == sorted(accepted)


async def test_a_deadline_counts_from_the_assignment(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, most=1):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        start = trio.current_time()
        await wire.assign("runs", "ping", remaining_ms=5000)
        await wire.assign("waits", "ping", remaining_ms=2000)
        result = await wire.result_of("waits")
        assert why(result).code == "timeout"
        assert trio.current_time() - start == pytest.approx(2)
        result = await wire.result_of("runs")
        assert why(result).code == "timeout"
        assert trio.current_time() - start == pytest.approx(5)
        assert (len(ping.calls), ping.cancelled) == (1, 1)
        await wire.assign("late", "ping", remaining_ms=0)
        assert why(await wire.result_of("late")).code == "timeout"


async def test_a_cancelled_task_is_confirmed_when_it_is_gone(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, most=1) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("runs", "ping")
        await wire.assign("waits", "ping")
        await ping.called()
        await wire.cancel("waits")
        assert (await wire.hear(TaskCancelled)).task_id == "waits"
        await wire.cancel("runs", "the user said stop")
        assert (await wire.hear(TaskCancelled)).task_id == "runs"
        assert (ping.running, ping.cancelled, node.agent.tasks.active) == (0, 1, [])
        await wire.cancel("never_heard_of")
        assert (await wire.hear(TaskCancelled)).task_id == "never_heard_of"
        assert not [said for said in wire.said if isinstance(said, TaskResult)]
        assert list((tmp_path / "begun").iterdir()) == []


async def test_a_task_is_not_run_twice(tmp_path, autojump_clock):
    hub, ping = FakeHub(acks=False), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await ping.called()
        with log.capture() as lines:
            await wire.assign("task_1", "ping")
            await trio.testing.wait_all_tasks_blocked()
        assert [line["event"] for line in lines] == ["a frame of the hub is left aside"]
        ping.let_go()
        first = await wire.result_of("task_1")
        await wire.assign("task_1", "ping")
        second = await wire.result_of("task_1")
        assert first == second
        assert len(ping.calls) == 1


async def test_a_node_whose_folder_is_full_takes_no_new_work(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(kept_room, "MOST", 1)
    hub = FakeHub(acks=False)
    async with hub.open(), open_node(tmp_path, hub, Bell("ping")):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await wire.result_of("task_1")
        with log.capture():
            await wire.assign("task_2", "ping")
            assert why(await wire.result_of("task_2")).code == "node_full"
        await wire.ack("task_2")
        await wire.ack("task_1")
        await wire.assign("task_3", "ping")
        assert (await wire.result_of("task_3")).success


async def test_a_line_that_is_too_long_is_refused(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(tasks_room, "MOST_WAITING", 1)
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, most=1):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        with log.capture():
            for number in range(3):
                await wire.assign(f"t{number}", "ping")
            assert why(await wire.result_of("t2")).code == "node_full"


async def test_callbacks_go_to_tools_that_answer_later_and_to_no_other(tmp_path, autojump_clock):
    now, late = Bell("now"), Bell("late", later=Later())
    late.result = lambda context: context.callback.base_url if context.callback else "none"
    now.result = lambda context: "none" if context.callback is None else "one"
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, now, late):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        callback = {"mode": "http", "url": f"{BASE}/late/task_1"}
        await wire.assign("task_1", "late", callback=callback)
        assert bytes((await wire.result_of("task_1")).result) == f'"{BASE}"'.encode()
        await wire.assign("task_2", "now", callback=callback)
        assert bytes((await wire.result_of("task_2")).result) == b'"none"'
        await wire.assign("task_3", "late")
        assert bytes((await wire.result_of("task_3")).result) == b'"none"'


class Process(Running):
    """Processes that go on until they are told to end, as those of a hybrid plugin do."""

    async def live(self) -> None:
        with self.scope:
            await trio.sleep_forever()
        await trio.sleep(3)  # the grace that they have
        self.ended.set()


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_goes_on_after_a_pending_answer_can_be_cancelled(tmp_path, autojump_clock, is_known):
    late, process = Bell("late", later=Later()), Process()
    late.result = Pending("p-1", process if is_known else Wrapped(process))
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, late) as node, trio.open_nursery() as nursery:
        nursery.start_soon(process.live)
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "late")
        result = await wire.result_of("task_1")
        assert bytes(result.result) == b'{"status":"pending","taskId":"p-1"}'
        await node.kept.empty()
        assert node.agent.tasks.active == ["task_1"]
        with log.capture():
            await wire.assign("task_1", "late")
        await wire.cancel("task_1")
        assert (await wire.hear(TaskCancelled)).task_id == "task_1"
        assert process.ended.is_set()
        assert node.agent.tasks.active == []
        assert len(late.calls) == 1


class Wrapped(trio.abc.AsyncResource):
    """Processes that do not say when they have ended."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def aclose(self) -> None:
        await self.process.aclose()


async def test_what_goes_on_may_end_by_itself(tmp_path, autojump_clock):
    late, process = Bell("late", later=Later()), Process()
    late.result = Pending("p-1", process)
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, late) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "late")
        await wire.result_of("task_1")
        process.ended.set()
        await node.agent.tasks.idle()
        await node.kept.empty()
        assert node.agent.tasks.active == []
        late.result = Pending("p-2")
        await wire.assign("task_2", "late")
        await wire.result_of("task_2")
        await node.kept.empty()
        assert node.agent.tasks.active == []


async def test_what_had_begun_when_the_agent_died_is_answered_for(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open():
        async with open_node(tmp_path, hub, ping):
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            await wire.assign("task_1", "ping")
            await ping.called()
        async with open_node(tmp_path, hub, ping):
            wire = await hub.wire(1)
            assert (await wire.hear(NodeRegister)).active_tasks == ["task_1"]
            assert why(await wire.result_of("task_1")).code == RESTARTED
    assert len(ping.calls) == 1


async def test_heartbeats_tell_how_busy_it_is(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, most=1):
        wire = await hub.wire()
        first = await wire.hear(Heartbeat)
        assert first.stats
        assert (first.status, first.stats["activeTasks"]) == ("online", 0)
        await wire.assign("task_1", "ping")
        await ping.called()
        start = trio.current_time()
        second = await wire.hear(Heartbeat)
        assert second.stats
        assert (second.status, second.load, second.stats["activeTasks"]) == ("busy", 1, 1)
        assert trio.current_time() - start <= 10
