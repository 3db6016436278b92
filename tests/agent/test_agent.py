"""A node and its hub, through all that can happen to the wire between them."""

import socket
import threading

import pytest
import trio

from apexbridge_trio import log
from apexbridge_trio.agent import link as link_room
from apexbridge_trio.agent import outbox as outbox_room
from apexbridge_trio.agent import registration as registration_room
from apexbridge_trio.agent.address import HubAddress
from apexbridge_trio.agent.socket import Ear, Unreachable, connect
from apexbridge_trio.protocol.frames import (
    ChannelError,
    Drain,
    Heartbeat,
    NodeLog,
    NodeRegister,
    NodeUnregister,
    TaskResult,
)
from tests.agent.node import Bell, open_node
from tests.fakes.names import NoNames
from tests.fakes.nodes_hub import KEY, FakeHub, why


async def for_ever(*_):
    await trio.sleep_forever()


def warnings(lines):
    return [line.get("reason") or line["event"] for line in lines if line["log_level"] == "warning"]


async def test_the_key_goes_into_a_header_and_nowhere_else(tmp_path, autojump_clock):
    hub = FakeHub()
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            wire = await hub.wire()
            await wire.hear(Heartbeat)
    (request,) = hub.requests
    assert request.path == "/abp-distributed-server"
    assert KEY not in str(lines)
    assert KEY not in str(wire.said)


@pytest.mark.parametrize(
    ("status", "words", "is_slow"),
    [
        (401, "does not know this key", True),
        (403, "scope node", True),
        (404, "no hub at this address", True),
        (418, "no hub at this address", True),
        (503, "full, or about to end", False),
    ],
)
async def test_a_refused_upgrade_is_told_in_words_once_and_tried_for_ever(
    tmp_path, autojump_clock, status, words, is_slow
):
    hub = FakeHub(status=status)
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, jitter=lambda: 0.9):
            while len(hub.dialled) < 20:
                await trio.sleep(1)
            hub.status = 0
            await (await hub.wire()).hear(Heartbeat)
    told = [line for line in lines if line["event"] == "not connected" and line["log_level"] == "warning"]
    assert len(told) == 1
    assert words in told[0]["reason"]
    assert f"HTTP {status}" in told[0]["reason"]
    waits = [later - earlier for earlier, later in zip(hub.dialled, hub.dialled[1:], strict=False)]
    assert all(wait > 15 for wait in waits) == is_slow
    assert max(waits) < 31


async def test_a_hub_that_asks_for_patience_gets_it(tmp_path, autojump_clock, monkeypatch):
    hub = FakeHub()

    async def reject(request):
        await request.reject(503, extra_headers=[(b"Retry-After", b"7")])

    monkeypatch.setattr(hub, "on_request", reject)
    async with hub.open(), open_node(tmp_path, hub):
        while len(hub.dialled) < 3:
            await trio.sleep(1)
    assert all(later - earlier >= 7 for earlier, later in zip(hub.dialled, hub.dialled[1:], strict=False))


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", None])
async def test_what_is_no_hub_is_said_to_be_none(tmp_path, autojump_clock, monkeypatch, answer):
    hub = FakeHub()

    async def serve(stream):
        await stream.receive_some()
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer)
        await stream.aclose()

    monkeypatch.setattr(hub, "serve", serve)
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            while len(hub.dialled) < 3:
                await trio.sleep(1)
    assert warnings(lines) in (["it did not answer as a hub does"], ["a fault of the connection"])


async def test_the_hub_may_come_up_after_the_node(tmp_path, autojump_clock):
    hub = FakeHub(is_gone=True)
    async with hub.open(), open_node(tmp_path, hub, jitter=lambda: 0.5) as node:
        await trio.sleep(300)
        assert node.agent.state == "waiting"
        hub.is_gone = False
        await (await hub.wire()).hear(Heartbeat)
        assert node.agent.state == "registered"
    assert len(hub.dialled) < 40


async def test_a_key_that_can_not_be_read_is_waited_for(tmp_path, autojump_clock):
    from apexbridge_trio.config import Secret, read_secret

    hub, file = FakeHub(), tmp_path / "key"
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, read_key=lambda: read_secret(file)):
            await trio.sleep(100)
            assert not hub.dialled
            file.write_text(Secret(KEY).reveal())
            await (await hub.wire()).hear(Heartbeat)
    assert len(warnings(lines)) == 1


async def test_a_lost_link_stops_nothing_and_results_come_with_the_next(tmp_path, autojump_clock):
    hub, ping, gong = FakeHub(), Bell("ping", holds=True), Bell("gong", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping, gong) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await wire.assign("task_2", "gong", timeout_ms=600_000)
        await ping.called()
        await gong.called()
        hub.is_gone = True
        await wire.close(1001)
        ping.let_go()
        await trio.sleep(60)
        assert node.kept._entries.keys() == {"task_1"}
        hub.is_gone = False
        again = await hub.wire(1)
        assert sorted((await again.hear(NodeRegister)).active_tasks or ()) == ["task_1", "task_2"]
        assert (await again.result_of("task_1")).success
        gong.let_go()
        assert (await again.result_of("task_2")).success
        await node.kept.empty()
    assert (len(ping.calls), len(gong.calls), ping.cancelled, gong.cancelled) == (1, 1, 0, 0)


async def test_results_follow_the_registration_in_order_after_a_restart_of_the_agent(
    tmp_path, autojump_clock
):
    hub, ping = FakeHub(acks=False), Bell("ping")
    names = [f"t{number}" for number in range(20)]
    async with hub.open():
        async with open_node(tmp_path, hub, ping, most=1):
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            for name in names:
                await wire.assign(name, "ping")
            await wire.result_of(names[-1])
        hub.acks = True
        async with open_node(tmp_path, hub, ping) as node:
            again = await hub.wire(1)
            assert (await again.hear(NodeRegister)).active_tasks == names
            assert [(await again.hear(TaskResult)).task_id for _ in names] == names
            await node.kept.empty()
    assert len(ping.calls) == len(names)


async def test_what_the_hub_has_given_up_is_cancelled_and_the_rest_goes_on(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        for name in ("moved", "stays"):
            await wire.assign(name, "ping")
        await ping.called(2)
        hub.resume = lambda _: {"keep": ["stays"], "cancel": ["moved", "unknown"]}
        await wire.close(1001)
        again = await hub.wire(1)
        await again.hear(Heartbeat)
        assert (ping.cancelled, node.agent.tasks.active) == (1, ["stays"])


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_silent_hub_is_left(tmp_path, autojump_clock, is_answered):
    hub = FakeHub(interval_ms=1000, timeout_ms=3000)
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            start = trio.current_time()
            if is_answered:
                await trio.sleep(600)
                assert len(hub.wires) == 1
            else:
                wire.go_deaf()
                await hub.wire(1)
                assert 2.9 <= trio.current_time() - start <= 5
    if not is_answered:
        assert warnings(lines) == ["the hub was silent for 3 s"]


async def test_a_hub_that_never_decides_is_left(tmp_path, autojump_clock):
    hub = FakeHub()
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            hub.decides = False
            await hub.wire(1)
    assert "the hub does not answer the registration" in warnings(lines)


async def test_a_duplicate_waits_to_be_admitted_and_lives(tmp_path, autojump_clock):
    hub, ping = FakeHub(refusal="duplicate_node"), Bell("ping")
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, ping) as node:
            wire = await hub.wire()
            register = await wire.hear(NodeRegister)
            await trio.sleep(600)
            assert (len(hub.wires), node.agent.state, len(wire.said)) == (1, "refused", 1)
            await wire.admit(register)
            await wire.assign("task_1", "ping")
            assert (await wire.result_of("task_1")).success
            assert node.agent.state == "registered"
    assert len(warnings(lines)) == 1


async def test_another_refusal_is_told_and_tried_slowly(tmp_path, autojump_clock):
    hub = FakeHub(refusal="invalid_payload")
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            while len(hub.dialled) < 4:
                await trio.sleep(1)
    assert warnings(lines) == ["the hub refuses this node: no"]
    assert hub.dialled[3] - hub.dialled[0] >= 45


async def test_who_was_replaced_does_not_fight(tmp_path, autojump_clock):
    hub = FakeHub()
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub):
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            start = trio.current_time()
            await wire.close(4001)
            await hub.wire(1)
            assert trio.current_time() - start >= 15
    assert "by force" in warnings(lines)[0]


async def test_a_drain_of_the_hub_lets_tasks_run(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping):
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await ping.called()
        await wire.say(Drain())
        await wire.say(ChannelError("unexpected_frame", "What?"))
        await wire.socket.send_message('{"type":"from_the_future","data":{}}')
        await wire.socket.send_message("no json")
        ping.let_go()
        assert (await wire.result_of("task_1")).success


async def test_tools_that_change_are_told_on_the_same_socket(tmp_path, autojump_clock):
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, Bell("ping")) as node:
        wire = await hub.wire()
        await wire.hear(Heartbeat)
        node.offer(Bell("ping"))
        await trio.testing.wait_all_tasks_blocked()
        node.offer(Bell("ping"), Bell("gong"))
        assert [spec.name for spec in (await wire.hear(NodeRegister)).specs] == ["ping", "gong"]
        node.offer()
        assert (await wire.hear(NodeRegister)).specs == []
        await wire.assign("task_1", "gong")
        assert why(await wire.result_of("task_1")).code == "tool_not_found"
    assert len(hub.wires) == 1
    assert len([said for said in hub.heard if isinstance(said, NodeRegister)]) == 3


async def test_a_large_offer_comes_in_two_steps(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(registration_room, "MOST_FIRST_BYTES", 100)
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub, Bell("ping")):
        wire = await hub.wire()
        assert (await wire.hear(NodeRegister)).specs == []
        assert [spec.name for spec in (await wire.hear(NodeRegister)).specs] == ["ping"]


async def test_a_result_too_large_for_the_hub_is_replaced_by_its_failure(tmp_path, autojump_clock):
    hub, ping = FakeHub(acks=False), Bell("ping")
    ping.result = "x" * 100_000
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            await wire.assign("task_1", "ping")
            await wire.result_of("task_1")
            hub.acks = True
            await wire.close(1009)
            again = await hub.wire(1)
            assert why(await again.result_of("task_1")).code == "result_too_large"
            await node.kept.empty()
    assert warnings(lines) == ["a result is too large for the hub"]


async def test_a_small_result_is_never_too_large(tmp_path, autojump_clock):
    hub, ping = FakeHub(acks=False), Bell("ping")
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            await wire.assign("task_1", "ping")
            await wire.result_of("task_1")
            hub.acks = True
            await wire.close(1009)
            assert (await (await hub.wire(1)).result_of("task_1")).success
            await node.kept.empty()
    assert warnings(lines) == ["the hub closed it with 1009"]


async def test_a_hub_that_does_not_read_is_cut_and_loses_nothing(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(outbox_room, "MOST", 5)
    hub, ping = FakeHub(), Bell("ping", holds=True)
    with log.capture() as lines:
        async with hub.open(), open_node(tmp_path, hub, ping, most=20) as node:
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            monkeypatch.setattr(node.link._socket._stream, "send_all", for_ever)
            for number in range(8):
                await wire.assign(f"t{number}", "ping")
            again = await hub.wire(1)
            # The last ones may still have been on the wire.
            assert len((await again.hear(NodeRegister)).active_tasks or ()) >= 6
            ping.let_go()
            await again.result_of("t0")
            await node.kept.empty()
    assert warnings(lines) == ["the hub does not read what it is sent"]
    assert ping.cancelled == 0


async def test_warnings_reach_the_hub_redacted_and_others_do_not(tmp_path, autojump_clock, capsys):
    log.configure("info", "text")
    hub = FakeHub()
    async with hub.open(), open_node(tmp_path, hub):
        wire = await hub.wire()
        await wire.hear(Heartbeat)
        told = log.get_logger("plugins")
        told.info("nothing special")
        told.warning("the oven is hot", key=KEY, degrees=230)
        # The clock would jump over a thread that is awaited.
        other = threading.Thread(target=told.warning, args=("from a thread",))
        other.start()
        other.join()
        line = await wire.hear(NodeLog)
        assert (line.message, line.level) == ("the oven is hot", "warning")
        assert line.fields == {"room": "plugins", "key": "***", "degrees": 230}
        await wire.hear(Heartbeat)
    assert len([said for said in wire.said if isinstance(said, NodeLog)]) == 1


async def test_a_node_leaves_in_order(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    async with hub.open(), open_node(tmp_path, hub, ping) as node, trio.open_nursery() as nursery:
        wire = await hub.wire()
        await wire.hear(Heartbeat)
        await wire.assign("task_1", "ping")
        await ping.called()
        nursery.start_soon(node.drain)
        assert (await wire.hear(Heartbeat)).status == "offline"
        with log.capture():
            await wire.assign("task_2", "ping")
            assert why(await wire.result_of("task_2")).code == "draining"
        ping.let_go()
        assert (await wire.result_of("task_1")).success
        await wire.hear(NodeUnregister)
        await wire.closed()
    assert wire.socket.closed
    assert wire.socket.closed.code == 1000
    assert node.ended.is_set()
    assert (len(hub.wires), len(ping.calls)) == (1, 1)


@pytest.mark.parametrize("how", ["in time", "hurried"])
async def test_what_does_not_end_is_interrupted_and_told(tmp_path, autojump_clock, how):
    hub, ping, hurry = FakeHub(), Bell("ping", holds=True), trio.Event()
    async with hub.open(), open_node(tmp_path, hub, ping) as node, trio.open_nursery() as nursery:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await ping.called()
        start = trio.current_time()
        nursery.start_soon(node.drain, 20.0, hurry)
        if how == "hurried":
            await trio.sleep(1)
            hurry.set()
        assert why(await wire.result_of("task_1")).code == "interrupted"
        assert trio.current_time() - start == pytest.approx(1 if how == "hurried" else 20)
        await wire.hear(NodeUnregister)
    assert ping.cancelled == 1


@pytest.mark.parametrize("hub_is", ["gone", "deaf", "without acks", "without a word"])
async def test_an_end_is_bounded_whatever_the_hub_does(tmp_path, autojump_clock, hub_is):
    hub, ping = FakeHub(acks=hub_is != "without acks"), Bell("ping")
    with log.capture():
        async with hub.open(), open_node(tmp_path, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(NodeRegister)
            await wire.assign("task_1", "ping")
            await wire.result_of("task_1")
            if hub.acks:
                await node.kept.empty()
            if hub_is == "gone":
                hub.is_gone = True
                await wire.close(1001)
            if hub_is == "deaf":
                wire.go_deaf()
            if hub_is == "without a word":
                hub.is_silent = True
            start = trio.current_time()
            await node.drain()
            assert trio.current_time() - start <= link_room.FAREWELL_S * 3 + 5
            assert list(node.kept) == (["task_1"] if hub_is == "without acks" else [])


async def test_an_end_while_nobody_is_there(tmp_path, autojump_clock):
    hub = FakeHub(is_gone=True)
    async with hub.open(), open_node(tmp_path, hub) as node:
        await trio.sleep(30)
        start = trio.current_time()
        await node.drain()
        assert trio.current_time() == start


async def test_the_hub_sets_the_pace_within_reason(tmp_path, autojump_clock):
    hub = FakeHub(interval_ms=500, timeout_ms=1)
    async with hub.open(), open_node(tmp_path, hub) as node:
        wire = await hub.wire()
        await wire.hear(Heartbeat)
        start = trio.current_time()
        for _ in range(20):
            await wire.hear(Heartbeat)
        assert trio.current_time() - start == pytest.approx(10, abs=0.6)
        assert node.link._pace.timeout_s == 1.0


async def test_no_host_no_port_no_tls():
    trio.socket.set_custom_hostname_resolver(NoNames())
    with trio.fail_after(60), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match="Connection refused"):
            await connect(HubAddress("127.0.0.1", port, is_tls=False))
        taken.listen()
        async with trio.open_nursery() as nursery:

            async def hang_up():
                stream, _ = await trio.socket.from_stdlib_socket(taken).accept()
                stream.close()

            nursery.start_soon(hang_up)
            with pytest.raises(Unreachable, match="no TLS"):
                await connect(HubAddress("127.0.0.1", port, is_tls=True))
        with pytest.raises(Unreachable, match="not known"):
            await connect(HubAddress("no.such.host.invalid", 80, is_tls=False))


async def test_a_long_message_is_a_sign_of_life_as_long_as_it_is_taken(autojump_clock):
    near, far = trio.testing.lockstep_stream_pair()
    heard = []
    async with Ear(near) as ear, far, trio.open_nursery() as nursery:
        ear.heard = lambda: heard.append(trio.current_time())
        nursery.start_soon(ear.send_all, b"x" * 200_000)
        taken = 0
        while taken < 200_000:
            taken += len(await far.receive_some(65_536))
            await trio.sleep(1)
        assert len(heard) == 3
        nursery.start_soon(far.send_all, b"pong")
        assert await ear.receive_some() == b"pong"
        assert len(heard) == 4
        nursery.start_soon(far.receive_some)
        await ear.wait_send_all_might_not_block()
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_what_the_hub_gives_up_but_is_done_is_delivered_all_the_same(tmp_path, autojump_clock):
    hub, ping = FakeHub(acks=False), Bell("ping")
    async with hub.open(), open_node(tmp_path, hub, ping) as node:
        wire = await hub.wire()
        await wire.hear(NodeRegister)
        await wire.assign("task_1", "ping")
        await wire.result_of("task_1")
        hub.acks, hub.resume = True, lambda said: {"keep": [], "cancel": said.active_tasks or []}
        await wire.close(1001)
        again = await hub.wire(1)
        assert (await again.result_of("task_1")).success
        await node.kept.empty()
        node.link.deliver("task_1")  # it was acknowledged while it waited to be sent again
        await again.hear(Heartbeat)
        assert len([said for said in again.said if isinstance(said, TaskResult)]) == 1


async def test_a_duplicate_has_nothing_to_say_until_it_is_admitted(tmp_path, autojump_clock):
    hub, ping = FakeHub(), Bell("ping", holds=True)
    with log.capture():
        async with hub.open(), open_node(tmp_path, hub, ping) as node:
            wire = await hub.wire()
            await wire.hear(Heartbeat)
            await wire.assign("task_1", "ping")
            await ping.called()
            hub.refusal = "duplicate_node"
            await wire.close(1001)
            again = await hub.wire(1)
            register = await again.hear(NodeRegister)
            await trio.sleep(1)
            ping.let_go()
            node.offer(ping, Bell("gong"))
            log.get_logger("agent").warning("nobody hears this")
            await trio.sleep(100)
            assert again.said == [register]
            await again.admit(register)
            assert (await again.result_of("task_1")).success
            assert node.agent._specs[1].name == "gong"
