"""Who may join, as whom, and what becomes of two that want the same name."""

import base64
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from wsproto.events import AcceptConnection, Pong, TextMessage

from apexbridge_trio.nodes import HUB_ENDED, described, is_away
from apexbridge_trio.protocol.envelope import frame
from apexbridge_trio.protocol.frames import (
    ChannelError,
    Heartbeat,
    HeartbeatAck,
    HeartbeatConfig,
    NodeRegistered,
    NodeUnregister,
    NodeUnregistered,
    RegisterConfig,
    TaskResult,
    TaskResultAck,
)
from tests.harness.node import FakeNode, connected, joined, key_for
from tests.harness.world import World, open_world
from tests.nodes.test_calls import QUIET, settled


def entry(world: World, name: str) -> dict[str, Any]:
    node = world.hub.nodes.registry.get(name)
    assert node is not None
    said: dict[str, Any] = msgspec.to_builtins(described(node))
    return said


async def pongs_without_end(node: FakeNode) -> None:
    while True:
        await trio.sleep(1)
        await node.stream.send_all(node.ws.send(Pong()))


class TestTheWayIn:
    @pytest.mark.parametrize(
        "path",
        [
            "/abp-distributed-server",
            "/distributed-server",
            "/vcp-distributed-server",
            "/abp-distributed-server/",
        ],
    )
    @pytest.mark.parametrize("name", ["VCP_Key", "ABP_Key"])
    async def test_every_path_takes_the_key_as_a_segment(
        self, path: str, name: str, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, world.client() as client:
            node = FakeNode(client.stream)
            key = key_for(world, "node")
            accepted = await node.open(f"{path.rstrip('/')}/{name}={key}")
            assert isinstance(accepted, AcceptConnection)

    async def test_a_key_may_be_percent_encoded(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, world.client() as client:
            key = key_for(world, "node").replace("_", "%5F")
            accepted = await FakeNode(client.stream).open(f"/distributed-server/VCP_Key={key}")
            assert isinstance(accepted, AcceptConnection)

    async def test_a_browser_offers_its_key_as_a_subprotocol(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, world.client() as client:
            coded = base64.urlsafe_b64encode(key_for(world, "node").encode()).decode().rstrip("=")
            offered = ["apexbridge.v1", f"bearer.{coded}"]
            accepted = await FakeNode(client.stream).open("/distributed-server", subprotocols=offered)
            assert accepted.subprotocol == "apexbridge.v1"

    @pytest.mark.parametrize(
        ("path", "scopes", "status"),
        [
            ("/distributed-server", (), 401),
            ("/distributed-server/VCP_Key=", (), 401),
            ("/distributed-server/VCP_Key=nonsense", (), 401),
            ("/distributed-server/VCP_Key=apx_0123456789abcdef_" + "x" * 43, (), 401),
            ("/distributed-server", ("chat",), 403),
            ("/distributed-servers", ("node",), 404),
            ("/", ("node",), 404),
        ],
    )
    async def test_who_may_not_is_answered_by_http(
        self, path: str, scopes: tuple[str, ...], status: int, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, world.client() as client:
            headers = [("Authorization", f"Bearer {key_for(world, *scopes)}")] if scopes else []
            refused = await FakeNode(client.stream).open(path, *headers)
            assert refused[0] == status
            assert refused[1]["error"]["message"]

    async def test_a_wrong_key_is_in_no_log_line(
        self, tmp_path: Path, autojump_clock: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with open_world(tmp_path) as world, world.client() as client:
            await FakeNode(client.stream).open("/distributed-server/VCP_Key=hunter2-is-my-key")
        said = capsys.readouterr()
        assert "VCP_Key=***" in said.err + said.out
        assert "hunter2" not in said.err + said.out


class TestRegistration:
    async def test_it_is_told_what_it_needs(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            said = await node.register("attic", type="companion", capabilities=["gpu"], version="1.2")
            assert said.success
            assert said.node_id == "attic"
            assert said.heartbeat == {"intervalMs": 10_000, "timeoutMs": 30_000}
            assert said.hub_info is not None
            assert said.hub_info["llmAvailable"] is True
            shown = entry(world, "attic")
            assert (shown["status"], shown["type"], shown["capabilities"]) == ("online", "companion", ["gpu"])

    async def test_all_faults_are_told_at_once(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            await node.say(
                '{"type":"node_register","data":{"type":"robot","capabilities":[7],"nodeId":"a b"}}'
            )
            said = await node.hear(NodeRegistered)
            assert not said.success
            for field in ("name", "type", "capabilities", "nodeId"):
                assert field in said.message
            assert said.message.count("; ") == 3
            assert (await node.register()).success

    async def test_ten_thousand_tools_are_too_many(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            said = await node.register("attic", tools=[f"t{n}" for n in range(5_000)])
            assert "tools" in said.message
            await node.say(b'{"type":"node_register","data":{"tools":[' + b'"t",' * 20_000 + b'"t"]}}')
            assert await node.close_code() == 1009
            await settled(lambda: world.look() == QUIET)

    async def test_one_that_says_nothing_is_closed(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            began = trio.current_time()
            assert await node.close_code() == 1008
            assert trio.current_time() - began == pytest.approx(10, abs=0.1)

    async def test_nothing_counts_before_it(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            await node.tell(Heartbeat("attic"))
            assert not (await node.hear(HeartbeatAck)).success
            await node.answer("task_1", 1)
            assert not (await node.hear(TaskResultAck)).success
            await node.say("nonsense")
            assert (await node.hear(ChannelError)).code == "invalid_payload"
            await node.say('{"type": "from_the_future", "data": {}}')
            assert (await node.register()).success

    async def test_a_frame_of_another_node_is_refused(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            await node.tell(Heartbeat("other"))
            ack = await node.hear(HeartbeatAck)
            assert not ack.success
            await node.answer("task_1", 1, node_id="other")
            assert not (await node.hear(TaskResultAck)).success

    async def test_its_heartbeat_keeps_it(self, tmp_path: Path, autojump_clock: object) -> None:
        config = RegisterConfig(heartbeat=HeartbeatConfig(1000))
        async with open_world(tmp_path) as world, joined(world, config=config) as node:
            for _ in range(10):
                await trio.sleep(2.5)
                await node.tell(Heartbeat(status="busy", load=0.5))
                ack = await node.hear(HeartbeatAck)
                assert (ack.success, ack.status) == (True, "busy")
            assert entry(world, "attic")["load"] == 0.5
            assert await node.close_code() == 1008
            assert entry(world, "attic")["status"] == "offline"

    async def test_a_large_result_on_a_slow_line_keeps_it(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        config = RegisterConfig(heartbeat=HeartbeatConfig(1000))
        async with open_world(tmp_path) as world, joined(world, config=config) as node:
            result = frame(TaskResult("task_1", result=msgspec.Raw(msgspec.json.encode("x" * 1000))))
            message = node.ws.send(TextMessage(result.decode()))
            for place in range(0, len(message), 100):  # one piece every 2 s, and no heartbeat meanwhile
                await trio.sleep(2)
                await node.stream.send_all(message[place : place + 100])
            assert (await node.hear(TaskResultAck)).stale
            began = trio.current_time()
            assert await node.close_code() == 1008
            assert trio.current_time() - began == pytest.approx(3, abs=0.1)

    async def test_pongs_are_no_words_of_its_own(self, tmp_path: Path, autojump_clock: object) -> None:
        config = RegisterConfig(heartbeat=HeartbeatConfig(1000))
        async with open_world(tmp_path) as world, joined(world, config=config) as node:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pongs_without_end, node)
                assert await node.close_code() == 1008
                nursery.cancel_scope.cancel()
            assert "silent" in entry(world, "attic")["lastDisconnect"]["reason"]

    async def test_it_may_leave(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            await node.tell(NodeUnregister(reason="going to bed"))
            assert (await node.hear(NodeUnregistered)).node_id == "attic"
            assert await node.close_code() == 1000
            shown = entry(world, "attic")
            assert shown["status"] == "offline"
            assert "going to bed" in shown["lastDisconnect"]["reason"]

    async def test_it_may_change_what_it_offers(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            assert (await node.register("attic", tools=["echo", "more"])).success
            assert [tool["name"] for tool in entry(world, "attic")["tools"]] == ["echo", "more"]

    async def test_it_is_not_given_a_name_of_another_tenant(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world):
            async with connected(world, key_for(world, "node", tenant="others")) as thief:
                said = await thief.register()
                assert (said.success, said.code) == (False, "forbidden")
            assert entry(world, "attic")["status"] == "online"

    async def test_without_an_id_it_gets_one_and_keeps_it(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, connected(world) as node:
            said = await node.register("attic", node_id=None)
            assert said.node_id is not None
            assert said.node_id.startswith("node_")
            assert (await node.register("attic", node_id=None)).node_id == said.node_id


class TestWhoIsHereOnDisk:
    """A hub that is killed leaves what the next one goes by: who was away, and since when."""

    async def test_who_has_left_is_away_and_who_is_back_is_not(
        self, tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            for clock_s in (0.0, 0.0, -3600.0, 3600.0):
                ms = int((time.time() + clock_s) * 1000)
                for room in ("record", "registry"):
                    monkeypatch.setattr(f"apexbridge_trio.nodes.{room}.now_ms", lambda ms=ms: ms)
                async with joined(world, key=key):
                    [record] = world.hub.nodes.rows.nodes()
                    assert not is_away(record)
                await settled(lambda: world.look() == QUIET)
                [record] = world.hub.nodes.rows.nodes()
                assert (is_away(record), record.left_reason) == (True, "the node has gone")

    async def test_who_leaves_in_a_drain_was_hung_up_on(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world:
            async with joined(world):
                world.hub.flights.is_draining = True
            await settled(lambda: world.look() == QUIET)
            [record] = world.hub.nodes.rows.nodes()
            assert (is_away(record), record.left_reason) == (True, HUB_ENDED)


class TestBounds:
    async def test_no_more_nodes_are_known_than_there_is_room_for(
        self, tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apexbridge_trio.nodes.admission.MOST_NODES", 1)
        async with open_world(tmp_path) as world:
            async with joined(world):
                pass
            async with connected(world) as other:
                said = await other.register("other")
                assert (said.success, said.code) == (False, "too_many_nodes")
                assert (await other.register("attic")).success

    async def test_its_latency_is_measured(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            nursery.start_soon(node.raw)
            await settled(lambda: entry(world, "attic")["latencyMs"] is not None)
            nursery.cancel_scope.cancel()


class TestDuplicates:
    async def test_the_same_run_of_an_agent_replaces_at_once(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key, instance_id="i1") as old, connected(world, key) as new:
                began = trio.current_time()
                assert (await new.register(instance_id="i1")).success
                assert trio.current_time() == began
                assert await old.close_code() == 4001

    async def test_one_that_is_alive_keeps_its_name(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world, instance_id="i1") as old:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(old.raw)
                async with connected(world) as new:
                    said = await new.register(instance_id="i2")
                    assert (said.success, said.code) == (False, "duplicate_node")
                    assert entry(world, "attic")["status"] == "online"
                nursery.cancel_scope.cancel()

    async def test_the_refused_one_is_let_in_when_the_old_one_leaves(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as old, connected(world) as new:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(old.raw)
                assert not (await new.register()).success
                nursery.cancel_scope.cancel()
            await old.stream.aclose()
            assert (await new.hear(NodeRegistered)).success
            await new.tell(Heartbeat())
            assert (await new.hear(HeartbeatAck)).success

    async def test_force_replaces_one_that_is_alive(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as old, trio.open_nursery() as nursery:
            codes: list[int | None] = []

            async def read() -> None:
                codes.append(await old.close_code())

            nursery.start_soon(read)
            async with connected(world) as new:
                assert (await new.register(force=True)).success
                await settled(lambda: codes == [4001])

    async def test_one_that_does_not_pong_is_replaced(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world), connected(world) as new:
            began = trio.current_time()
            assert (await new.register()).success
            assert trio.current_time() - began == pytest.approx(2, abs=0.1)

    async def test_two_newcomers_at_once_are_not_both_let_in(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world):
            async with connected(world) as one, connected(world) as other, trio.open_nursery() as nursery:
                said: list[NodeRegistered] = []

                async def register(node: FakeNode) -> None:
                    said.append(await node.register())
                    await node.raw()

                nursery.start_soon(register, one)
                nursery.start_soon(register, other)
                await settled(lambda: len(said) == 2)
                assert sorted(one.success for one in said) == [False, True]
                nursery.cancel_scope.cancel()

    async def test_a_suitor_that_leaves_is_forgotten(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as old:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(old.raw)
                async with connected(world) as new:
                    assert not (await new.register()).success
                nursery.cancel_scope.cancel()
            node = world.hub.nodes.registry.get("attic")
            assert node is not None
            await settled(lambda: not node.suitors)
