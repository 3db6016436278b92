"""Model answers for nodes: whole and in pieces, under the task they serve, within quotas, gone with the node."""

from pathlib import Path
from typing import Any

import trio

from apexbridge_trio.config import KeyLimits, Limits
from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.protocol.frames import (
    LlmCancel,
    LlmRequest,
    LlmResponse,
    LlmResponseStream,
    TaskResultAck,
)
from tests.harness.node import FakeNode, connected, joined, key_for
from tests.harness.world import World, content, open_world, say
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import QUIET, asked, interrupt, settled, state_of, use


async def ask(node: FakeNode, model: str, request_id: str = "l1", **fields: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    await node.tell(LlmRequest(request_id=request_id, model=model, messages=messages, **fields))


def is_closed(world: World) -> bool:
    """Whether the provider saw the end of the endless answer."""
    (one,) = [
        connection
        for connection in world.provider.connections
        if connection.requests[-1].json["model"] == "endless:50"
    ]
    return one.closed.is_set()


async def test_a_whole_answer(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await ask(node, "hello", options={"maxTokens": 7, "temperature": 0.5})
        said = await node.hear(LlmResponse)
        assert (said.success, said.stream, said.request_id) == (True, False, "l1")
        assert said.content == "Hello from hello."
        assert said.usage["total_tokens"] > 0
        sent = world.provider.connections[-1].requests[-1].json
        assert (sent["max_tokens"], sent["temperature"]) == (7, 0.5)
        await settled(lambda: world.look() == QUIET)


async def test_an_answer_in_pieces_ends_with_the_whole(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await ask(node, "hello", options={"stream": True})
        pieces = []
        while not (piece := await node.hear(LlmResponseStream)).done:
            pieces.append(piece.chunk)
        assert piece.chunk == ""
        assert piece.usage["total_tokens"] > 0
        whole = await node.hear(LlmResponse)
        assert whole.content == "".join(pieces) == "Hello from hello."
        assert whole.stream
        assert whole.success


async def test_without_a_model_the_default_one_is_asked(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path, chat={"default_model": "hello"}) as world, joined(world) as node:
        await node.tell(LlmRequest(request_id="l1", messages=[{"role": "user", "content": "hi"}]))
        assert (await node.hear(LlmResponse)).content == "Hello from hello."


async def test_what_fails_is_told_with_a_code(tmp_path: Path, autojump_clock: object) -> None:
    expected = {
        "nowhere": "llm_unavailable",
        "dead": "llm_unavailable",
        "status:500": "llm_request_failed",
        "status:400": "llm_request_failed",
        "dead-mid:2": "llm_request_failed",
    }
    async with open_world(tmp_path, upstream={"attempts": 1}) as world, joined(world) as node:
        for model, code in expected.items():
            await ask(node, model, model.replace(":", "-"), options={"stream": model == "dead-mid:2"})
            said = await node.hear(LlmResponse)
            assert (said.success, said.error.code, said.request_id) == (False, code, model.replace(":", "-"))
        await settled(lambda: world.look() == QUIET)


async def test_one_without_messages_is_refused(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await node.say('{"type":"llm_request","data":{"requestId":"l1","messages":[]}}')
        refused = await node.hear(LlmResponse)
        assert (refused.request_id, refused.error.code) == ("l1", "invalid_payload")
        assert "messages" in refused.error.message
        await node.tell(LlmRequest(request_id="l1", messages=[{"content": "no role"}]))
        assert (await node.hear(LlmResponse)).error.code == "invalid_payload"


async def test_the_node_may_cancel_it(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await ask(node, "endless:50", options={"stream": True})
        await node.hear(LlmResponseStream)
        await node.tell(LlmCancel("l1"))
        said = await node.hear(LlmResponse)
        assert (said.success, said.error.code) == (False, "interrupted")
        await settled(lambda: world.look() == QUIET and is_closed(world))


async def test_it_ends_with_its_node(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        async with joined(world) as node:
            await ask(node, "endless:50", options={"stream": True})
            await node.hear(LlmResponseStream)
        await settled(lambda: world.look() == QUIET and is_closed(world))


async def test_it_is_under_the_task_it_serves(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
        async with asked(world, use(requestId="r1")) as client:
            task = await node.task()
            await ask(node, "endless:50", options={"stream": True}, metadata={"taskId": task.task_id})
            await node.hear(LlmResponseStream)
            (root,) = world.hub.flights.roots(world.hub.nodes.registry.get("attic").owner)  # type: ignore[union-attr]
            paths = {flight.path for flight in root.subtree()}
            assert "r1/round1/echo/llm/round1/llm" in paths
            nursery.start_soon(interrupt, world, "r1")
            said = await node.hear(LlmResponse)
            assert (said.success, said.error.code) == (False, "interrupted")
            await node.confirm(task.task_id)
            assert (await client.reply()).status == 499
        await settled(lambda: world.look() == QUIET and is_closed(world))


async def test_it_ends_when_its_task_does(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        await ask(node, "endless:50", options={"stream": True}, task_id=task.task_id)
        await node.hear(LlmResponseStream)
        await node.answer(task.task_id, "done without it")
        assert "done without it" in content(await client.reply())
        await settled(lambda: world.look() == QUIET and is_closed(world))


async def test_it_is_told_that_the_time_of_its_task_was_over(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        await Admin(world).create(timeout=1000)
        task = await node.task()
        await ask(node, "stall", task_id=task.task_id)
        assert (await node.hear(LlmResponse)).error.code == "timeout"
        assert world.provider.connections[0].requests[-1].json["model"] == "stall"
        await settled(world.provider.connections[0].closed.is_set)


async def test_nothing_is_paid_for_a_task_that_is_over(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create()
        await node.task()
        await node.answer(task_id, 1)
        await node.hear(TaskResultAck)
        await ask(node, "hello", "l1", task_id=task_id)
        assert (await node.hear(LlmResponse)).error.code == "llm_request_failed"
        late = await Admin(world).create(timeout=1000)
        await node.cancelled()
        await settled(lambda: state_of(world, late) == "timed_out")
        await ask(node, "hello", "l2", metadata={"taskId": late})
        assert (await node.hear(LlmResponse)).error.code == "timeout"
        assert not world.provider.connections
        await ask(node, "hello", "l3", metadata={"taskId": "a-name-of-the-nodes-own"})
        assert (await node.hear(LlmResponse)).success


async def test_a_task_of_others_is_one_that_the_node_does_not_know(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        async with connected(world, key_for(world, "node", tenant="others")) as spy:
            await spy.register("spy")
            task_id = await Admin(world).create()
            await node.task()
            await node.answer(task_id, 1)
            await node.hear(TaskResultAck)
            await ask(spy, "hello", task_id=task_id)
            assert (await spy.hear(LlmResponse)).success


async def test_it_ends_with_its_node_under_a_task_too(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key) as node, asked(world) as client:
            task = await node.task()
            await ask(node, "endless:50", options={"stream": True}, task_id=task.task_id)
            await node.hear(LlmResponseStream)
            await node.stream.aclose()
            await settled(lambda: is_closed(world))
            async with connected(world, key) as again:
                await again.register(active_tasks=[task.task_id])
                await again.answer(task.task_id, "the task went on")
                assert "the task went on" in content(await client.reply())


async def test_a_node_can_not_take_more_than_its_quota(tmp_path: Path, autojump_clock: object) -> None:
    quota = {"llm_requests_per_minute": 3, "llm_tokens_per_day": 1, "llm_concurrent_streams": 1}
    async with open_world(tmp_path, nodes=quota) as world, joined(world) as node:
        await ask(node, "endless:50", "l1", options={"stream": True})
        await node.hear(LlmResponseStream)
        await ask(node, "endless:50", "l2", options={"stream": True})
        assert (await node.hear(LlmResponse)).error.code == "stream_limit_exceeded"
        await ask(node, "hello", "l1")
        assert (await node.hear(LlmResponse)).error.code == "invalid_payload"
        await ask(node, "hello", "l3")
        assert (await node.hear(LlmResponse)).success
        await ask(node, "hello", "l4")
        assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"


async def test_a_node_can_not_ask_too_often(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path, nodes={"llm_requests_per_minute": 2}) as world, joined(world) as node:
        codes = []
        for number in range(3):
            await ask(node, "hello", f"l{number}")
            said = await node.hear(LlmResponse)
            codes.append("" if said.success else said.error.code)
        assert codes == ["", "", "rate_limit_exceeded"]
        began = trio.current_time()
        for number in range(100):
            await ask(node, "hello", f"more{number}")
        for _ in range(100):
            assert (await node.hear(LlmResponse)).error.code == "rate_limit_exceeded"
        # What is refused is not wanted: such a node is read more slowly.
        assert trio.current_time() - began > 0.5


async def test_a_stream_that_is_cancelled_is_used_up_as_far_as_it_came(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path, nodes={"llm_tokens_per_day": 10}) as world, joined(world) as node:
        await ask(node, "endless:50", options={"stream": True})
        for _ in range(15):
            await node.hear(LlmResponseStream)
        await node.tell(LlmCancel("l1"))
        assert (await node.hear(LlmResponse)).error.code == "interrupted"
        await ask(node, "hello", "l2")
        assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"


async def test_names_do_not_multiply_a_day_of_tokens(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path, nodes={"llm_tokens_per_day": 1}) as world:
        key = key_for(world, "node")
        async with joined(world, "attic", key) as one, joined(world, "cellar", key) as other:
            await ask(one, "hello")
            assert (await one.hear(LlmResponse)).success
            for node in (one, other):
                await ask(node, "hello", "l2")
                assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"
        async with joined(world, "barn") as node:
            await ask(node, "hello")
            assert (await node.hear(LlmResponse)).success


async def test_what_nodes_ask_for_is_of_the_tokens_of_their_key(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key, record = world.hub.keys.create(scopes=["node", "chat"])
        world.hub.limiter.replace(Limits(keys={record.id: KeyLimits(tokens_per_day=1)}))
        async with joined(world, key=key) as node:
            await ask(node, "hello")
            assert (cost := (await node.hear(LlmResponse)).usage["total_tokens"]) > 0
            assert world.hub.limiter.tokens.of(record.id).used == cost
            await ask(node, "hello", "l2")
            assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"
        refused = await world.chat(say("x", "hello"), f"Authorization: Bearer {key}")
        assert (refused.status, refused.json["error"]["code"]) == (429, "quota_exceeded")


async def test_a_day_of_another_number_of_tokens_counts_at_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path, nodes={"llm_tokens_per_day": 1}) as world, joined(world) as node:
        await ask(node, "hello")
        assert (await node.hear(LlmResponse)).success
        world.hub.nodes.llm.configure(NodesConfig(llm_tokens_per_day=1000))
        await ask(node, "hello", "l2")
        assert (await node.hear(LlmResponse)).success


async def test_a_prompt_that_is_cut_before_its_answer_is_used_up(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path, nodes={"llm_tokens_per_day": 5}) as world, joined(world) as node:
        await ask(node, "stall", options={"stream": True, "streamOptions": {"include_usage": False}})
        await settled(lambda: bool(world.provider.connections))
        await settled(lambda: bool(world.provider.connections[0].requests))
        await node.tell(LlmCancel("l1"))
        assert (await node.hear(LlmResponse)).error.code == "interrupted"
        await ask(node, "hello", "l2")
        assert (await node.hear(LlmResponse)).error.code == "quota_exceeded"


async def test_options_in_the_hubs_own_words_do_not_reach_the_provider(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        own = {"requestId": "x", "tenantId": "others", "familyId": "f", "apex": {"background": True}}
        await ask(node, "hello", options={**own, "topP": 0.5, "messages": [], "stream": 1})
        assert (await node.hear(LlmResponse)).success
        sent = world.provider.connections[-1].requests[-1].json
        assert sorted(sent) == ["messages", "model", "stream", "top_p"]
