"""Nodes that lie, flood, dawdle and steal; the others do not notice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from wsproto.events import BytesMessage, TextMessage

from apexbridge_trio.protocol.frames import (
    ChannelError,
    Heartbeat,
    NodeLog,
    TaskAccepted,
    TaskCancelled,
    TaskResultAck,
)
from tests.harness.node import connected, joined, key_for
from tests.harness.world import content, open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import QUIET, asked, settled, state_of, use


async def test_a_result_for_anothers_task_has_no_effect(tmp_path: Path, autojump_clock: object) -> None:
    async with (
        open_world(tmp_path) as world,
        joined(world) as node,
        joined(world, "thief", tools=[]) as thief,
    ):
        async with asked(world) as client:
            task = await node.task()
            await thief.answer(task.task_id, "stolen")
            ack = await thief.hear(TaskResultAck)
            assert (ack.success, ack.stale) == (True, True)
            await thief.tell(TaskCancelled(task.task_id))
            await thief.tell(TaskAccepted(task.task_id))
            assert state_of(world, task.task_id) == "assigned"
            await node.answer(task.task_id, "mine")
            assert "mine" in content(await client.reply())


async def test_one_that_answers_twice_is_heard_once(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        await node.answer(task.task_id, "first")
        await node.answer(task.task_id, "second")
        assert "first" in content(await client.reply())
        assert (await node.hear(TaskResultAck)).success
        assert (await node.hear(TaskResultAck)).success
        record = world.hub.nodes.rows.task(task.task_id)
        assert record is not None
        assert record.output == b'"first"'


async def test_results_before_registering_do_not_count(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, connected(world) as stranger:
        async with asked(world) as client:
            task = await node.task()
            await stranger.answer(task.task_id, "forged")
            assert not (await stranger.hear(TaskResultAck)).success
            await node.answer(task.task_id, "true")
            assert "true" in content(await client.reply())


@pytest.mark.parametrize("task_id", ["../../etc/passwd", "", "x" * 201, "a\nb", "a b"])
async def test_an_id_that_is_none_is_refused(task_id: str, tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await node.say(json.dumps({"type": "task_result", "data": {"taskId": task_id}}))
        assert (await node.hear(ChannelError)).code == "invalid_payload"
        await node.say(json.dumps({"type": "node_register", "data": {"name": "x", "nodeId": task_id}}))
        assert not (await node.hear()).success


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        '"x"',
        "{",
        "null",
        '{"type":7}',
        '{"data":{}}',
        "{" * 100_000,
        '{"type":"heartbeat","data":[]}',
    ],
)
async def test_nonsense_is_told_and_the_node_stays(text: str, tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await node.say(text)
        assert (await node.hear(ChannelError)).code == "invalid_payload"
        await node.answer("task_none", 1)
        assert (await node.hear(TaskResultAck)).stale


async def test_a_frame_that_is_too_large_ends_it(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path, nodes={"max_frame_bytes": 100_000}) as world, joined(world) as node:
        await node.answer("task_1", "x" * 99_000)
        assert (await node.hear(TaskResultAck)).stale
        await node.answer("task_1", "x" * 101_000)
        assert await node.close_code() == 1009
        await settled(lambda: world.look() == QUIET)


class FullSocket:
    """A peer that leaves too much unread."""

    def post(self, text: bytes) -> bool:
        return False

    def limit(self, max_bytes: int) -> None:
        raise AssertionError

    def slow(self, messages: int) -> None:
        raise AssertionError

    def attend(self, heard: Callable[[], None]) -> None:
        raise AssertionError

    async def answers(self, within_s: float) -> bool:
        raise AssertionError

    async def send_all(self, texts: Sequence[bytes]) -> None:
        raise AssertionError


async def test_one_that_does_not_read_is_cut(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, joined(world, "other") as other:
        registered = world.hub.nodes.registry.get("attic")
        assert registered is not None
        assert registered.link is not None
        registered.link.socket = FullSocket()
        await node.tell(Heartbeat())
        assert await node.close_code() == 1013
        assert registered.status == "offline"
        async with asked(world) as client:
            await other.answer((await other.task()).task_id, "unmoved")
            assert "unmoved" in content(await client.reply())
        await settled(lambda: world.look() == QUIET)


async def test_one_byte_a_second_is_not_a_registration(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, connected(world) as node:
        data = node.ws.send(TextMessage('{"type":"node_register","data":{"name":"slow"}}'))
        began = trio.current_time()

        async def trickle() -> None:
            for byte in data:
                await node.stream.send_all(bytes([byte]))
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert await node.close_code() == 1008
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_a_log_that_is_a_flood_is_not_written(
    tmp_path: Path, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        began = trio.current_time()
        for number in range(2000):
            await node.tell(NodeLog(f"line {number} of VCP_Key=secret-of-mine"))
        await node.answer("task_none", 1)
        await node.hear(TaskResultAck)
        said = capsys.readouterr()
        lines = (said.err + said.out).count("node says")
        # A minute's worth, and what is due in the time for which it is read more slowly.
        assert 500 < lines <= 602 + 10 * (trio.current_time() - began)
        assert "secret-of-mine" not in said.err + said.out


async def test_a_line_that_is_more_work_weighs_more(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        took = []
        for line in (NodeLog("short"), NodeLog("x" * 2000, fields={str(n): "x" * 300 for n in range(20)})):
            began = trio.current_time()
            for _ in range(100):
                await node.tell(line)
            await node.answer("task_none", 1)
            await node.hear(TaskResultAck)
            took.append(trio.current_time() - began)
        assert took[1] > 5 * took[0]


async def test_secrets_in_the_fields_of_a_line_are_masked_however_deep(
    tmp_path: Path, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        nested = {"request": {"headers": {"Authorization": "hunter2"}, "body": [{"refreshToken": "hunter2"}]}}
        await node.tell(NodeLog("it failed", fields={"password": "hunter2", "tokens": 7, **nested}))
        await node.answer("task_none", 1)
        await node.hear(TaskResultAck)
    said = capsys.readouterr()
    assert "it failed" in said.err
    assert "tokens" in said.err
    assert "hunter2" not in said.err + said.out


async def test_a_field_of_many_texts_is_left_out(
    tmp_path: Path, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await node.tell(
            NodeLog("it failed", fields={"many": ["x"] * 1000, "few": ["x"] * 10, "text": "y" * 900})
        )
        await node.answer("task_none", 1)
        await node.hear(TaskResultAck)
    said = capsys.readouterr().err
    assert "4001 bytes, left out" in said
    assert said.count("x") < 100
    assert "y" * 300 in said
    assert "y" * 301 not in said


async def test_a_binary_frame_is_read_as_text(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await node.stream.send_all(node.ws.send(BytesMessage(b'{"type":"heartbeat","data":{}}')))
        assert (await node.hear()).success
        await node.stream.send_all(node.ws.send(BytesMessage(b"\xff\xfe\x00")))
        assert (await node.hear(ChannelError)).code == "invalid_payload"
        await node.stream.send_all(node.ws.send(BytesMessage(b"")))
        assert (await node.hear(ChannelError)).code == "invalid_payload"


# Stands for a number that JSON can say, and nothing here can hold.
TOO_HIGH = "too high"


async def test_a_result_that_can_not_be_held_is_told_to_the_model(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        text = json.dumps({"type": "task_result", "data": {"taskId": task.task_id, "result": [TOO_HIGH]}})
        await node.say(text.replace(json.dumps(TOO_HIGH), "1e999"))
        assert (await client.reply()).status == 200
        assert (await node.hear(TaskResultAck)).success


async def test_a_result_that_is_no_utf8_is_not_taken(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        text = (
            b'{"type":"task_result","data":{"taskId":"%s","result":{"text":"\xff"}}}' % task.task_id.encode()
        )
        await node.stream.send_all(node.ws.send(BytesMessage(text)))
        assert (await node.hear(ChannelError)).code == "invalid_payload"
        await node.answer(task.task_id, "in UTF-8")
        assert "in UTF-8" in content(await client.reply())


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ({"success": False, "error": [["x"] * 30_000]}, "tool_failed", "which is not kept"),
        ({"result": {"success": False, "error": [["x"] * 30_000]}}, "tool_failed", "which is not kept"),
        ({"success": False, "error": TOO_HIGH}, "tool_failed", "can not be read"),
        ({"result": {"delegations": [{}] * 400_000}}, "delegations_too_large", "delegates too much"),
    ],
    ids=["an error", "a legacy error", "an error that is no number", "delegations"],
)
async def test_what_a_result_says_beside_its_value_has_a_size(
    said: dict[str, object], code: str, words: str, tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create()
        await node.task()
        text = json.dumps({"type": "task_result", "data": {"taskId": task_id, **said}})
        await node.say(text.replace(json.dumps(TOO_HIGH), "1e999"))
        assert (await node.hear(TaskResultAck)).success
        record = world.hub.nodes.rows.task(task_id)
        assert record is not None
        assert record.state == "failed"
        error = json.loads(record.error or "")
        assert (error["code"], words in error["message"]) == (code, True)


async def test_a_node_of_another_tenant_is_given_nothing(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node", tenant="others")
        async with connected(world, key) as spy:
            assert (await spy.register("spy")).success
            reply = await world.chat(use())
            # The tool is not offered: the model's call is one of the client's.
            assert reply.json["choices"][0]["finish_reason"] == "tool_calls"
            assert (await Admin(world).ask("POST", "/v1/tasks", {"toolName": "echo"})).status == 503
            assert (await Admin(world).ask("POST", "/v1/nodes/spy/tasks", {"toolName": "echo"})).status == 202
            assert (await spy.task()).tool_name == "echo"


async def test_a_result_for_a_task_of_another_tenant_is_not_counted_there(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world):
        task_id = await Admin(world).create()
        async with connected(world, key_for(world, "node", tenant="others")) as spy:
            await spy.register("spy")
            await spy.answer(task_id, "forged")
            assert (await spy.hear(TaskResultAck)).stale
        record = world.hub.nodes.rows.task(task_id)
        assert record is not None
        assert record.late == 0
