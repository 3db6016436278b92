"""The chat endpoint over real HTTP in memory: answers, tools, faults of providers, ends."""

import json

import pytest
import trio

from apexbridge_trio.errors import ToolFailed, ToolTimeout, UpstreamBroken
from apexbridge_trio.log import hide
from apexbridge_trio.web.guards import LOCAL
from tests.harness.world import content, events, open_world, say


@pytest.fixture
def state(tmp_path):
    return tmp_path


def calls(*lines):
    """What the provider's `tools` model calls, one a line."""
    return "\n".join(f"{name} {json.dumps(arguments)}" for name, arguments in lines)


MINE = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}


# --- Relay -----------------------------------------------------------------------------------------


async def test_a_document_is_relayed_byte_for_byte(state, autojump_clock):
    async with open_world(state) as world:

        async def odd(call):
            await call.whole(b'{ "choices" : [{"message":{"content":"hi"}}],  "vendor": [1,  2] }')

        world.provider.scripts["odd"] = odd
        reply = await world.chat(say("x", "odd", seed=3, vendor={"a": [1.0]}))
        assert reply.body == b'{ "choices" : [{"message":{"content":"hi"}}],  "vendor": [1,  2] }'
        sent = world.provider.connections[0].requests[0].json
        assert sent == {**say("x", "odd", seed=3, vendor={"a": [1.0]})}


async def test_the_hubs_own_fields_stay_here(state, autojump_clock):
    async with open_world(state) as world:
        reply = await world.chat(say("x", "hello", requestId="mine-1", apex={"timeoutS": 5}, user="u"))
        assert reply.headers["x-request-id"] == "mine-1"
        assert set(world.provider.connections[0].requests[0].json) == {"model", "messages", "user"}


async def test_a_stream_has_one_id_one_role_one_end(state, autojump_clock):
    async with open_world(state) as world:
        reply = await world.chat(
            say("x", "stream:5:100", stream=True, stream_options={"include_usage": True})
        )
        assert reply.status == 200
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-accel-buffering"] == "no"
        heard = events(reply)
        assert len({(event["id"], event["created"]) for event in heard}) == 1
        assert heard[0]["choices"][0]["delta"]["role"] == "assistant"
        assert content(reply).split() == ["w0", "w1", "w2", "w3", "w4"]
        assert [e["choices"][0]["finish_reason"] for e in heard if e["choices"]][-1] == "stop"
        assert heard[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    "apex", [None, {}, dict.fromkeys(("timeoutS", "background", "push", "tools", "node", "conversationId"))]
)
async def test_what_is_null_is_as_good_as_absent(state, autojump_clock, apex):
    async with open_world(state) as world:
        own = dict.fromkeys(("requestId", "messageId", "tenantId", "familyId"))
        reply = await world.chat(say(calls(("ping", {})), "hands", apex=apex, stream=None, n=None, **own))
        assert "pong" in content(reply)
        assert not own.keys() & world.provider.requests[0].json.keys()


async def test_the_alias_of_the_path_answers_too(state, autojump_clock):
    async with open_world(state) as world:
        assert (await world.ask("POST", "/v1/chatvcp/completions", say("x", "hello"))).status == 200


async def test_a_connection_to_the_provider_is_used_again(state, autojump_clock):
    async with open_world(state) as world:
        for stream in (False, True, True):
            assert (await world.chat(say("x", "hello", stream=stream))).status == 200
        assert len(world.provider.connections) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["json", "sse", "split:1", "no-done", "hold-open", "close", "until-close"])
async def test_odd_but_whole_answers_are_answers(state, autojump_clock, model, stream):
    async with open_world(state) as world:
        reply = await world.chat(say("x", model, stream=stream))
        assert reply.status == 200
        assert content(reply)
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("dead", 502, "upstream_unreachable"),
        ("garbage", 502, "upstream_broken"),
        ("garbage-json", 502, "upstream_broken"),
        ("status:500", 502, "upstream_failed"),
        ("status:401", 502, "upstream_refused"),
        ("status:400", 400, "upstream_refused"),
        ("stall", 504, "upstream_timeout"),
        ("garbage-stream", 502, "upstream_broken"),
    ],
)
async def test_a_provider_that_fails_before_the_first_byte(
    state, autojump_clock, model, status, code, stream
):
    async with open_world(state, chat={"keepalive_s": 1000.0}) as world:
        reply = await world.chat(say("x", model, stream=stream))
        assert (reply.status, reply.json["error"]["code"]) == (status, code)
        assert reply.json["request_id"] == reply.headers["x-request-id"]
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("dead-mid:2", "upstream_broken"),
        ("stall-mid:2", "upstream_timeout"),
        ("error-event", "upstream_broken"),
    ],
)
async def test_a_provider_that_fails_in_the_middle_of_a_stream(state, autojump_clock, model, code):
    async with open_world(state) as world:
        reply = await world.chat(say("x", model, stream=True))
        assert reply.status == 200
        assert events(reply)[-1]["error"]["code"] == code
        assert content(reply)
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"apex": {"background": True}}])
async def test_a_stream_that_only_says_its_end_is_no_answer(state, autojump_clock, asked):
    async with open_world(state) as world:

        async def hollow(call):
            await call.begin()
            await call.chunk(b"data: [DONE]\n\n")
            await call.end()

        world.provider.scripts["odd"] = hollow
        reply = await world.chat(say("x", "odd", requestId="r1", **asked))
        if reply.status == 202:
            await trio.testing.wait_all_tasks_blocked()
            fault = world.hub.backgrounds.find("r1", LOCAL).error
            assert isinstance(fault, UpstreamBroken)
        else:
            assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_broken")
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


@pytest.mark.parametrize(
    "asked", [{"stream": True}, {"apex": {"background": True}}], ids=["counted", "background"]
)
async def test_options_of_a_stream_stay_when_the_hub_adds_one(state, autojump_clock, asked):
    async with open_world(state, quota={"tokens_per_day": 1000}) as world:
        options = {"include_obfuscation": False, "vendor": [1.0], "include_usage": False}
        await world.chat(say("x", "hello", stream_options=options, **asked))
        sent = await world.provider.asked(0)
        assert sent.json["stream_options"] == {**options, "include_usage": True}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_that_a_provider_quotes_in_a_whole_answer_is_not_told(state, autojump_clock, stream):
    async with open_world(state) as world:
        hide("sk-of-the-hub")

        async def quotes(call):
            await call.whole(b'{"error":{"message":"Incorrect API key: sk-of-the-hub"}}')

        world.provider.scripts["odd"] = quotes
        reply = await world.chat(say("x", "odd", stream=stream))
        assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_broken")
        assert "Incorrect API key: ***" in reply.json["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice",
    [
        {"index": "x", "delta": {"content": "b"}},
        {"index": 0, "delta": "abc"},
        {"index": 0, "delta": {"tool_calls": [{"id": 5, "function": {"name": "ping"}}]}},
        {"index": 0, "delta": {"tool_calls": [{"function": {"name": ["ping"]}}]}},
    ],
)
async def test_a_chunk_that_is_none_has_one_outcome(state, autojump_clock, choice, stream):
    entry = {"id": "odd-hands", "upstream": "up", "name": "odd", "tools": "all"}
    async with open_world(state, models=[entry]) as world:

        async def odd(call):
            await call.begin()
            await call.delta(role="assistant", content="a")
            await call.event({"id": "c", "created": 1, "choices": [choice]})
            await call.done()
            await call.end()

        world.provider.scripts["odd"] = odd
        reply = await world.chat(say("x", "odd-hands", stream=stream))
        error = events(reply)[-1]["error"] if stream else reply.json["error"]
        assert error["code"] == "upstream_broken"
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_a_provider_that_never_ends_meets_the_deadline(state, autojump_clock):
    async with open_world(state) as world:
        began = trio.current_time()
        reply = await world.chat(say("x", "endless:50", stream=True, apex={"timeoutS": 3}))
        assert events(reply)[-1]["error"]["code"] == "timeout"
        assert trio.current_time() - began == pytest.approx(3, abs=0.2)
        reply = await world.chat(say("x", "stall", apex={"timeoutS": 2}))
        assert (reply.status, reply.json["error"]["code"]) == (504, "timeout")
        assert reply.headers["x-should-retry"] == "false"


async def test_silence_is_filled_with_a_sign_of_life(state, autojump_clock):
    async with open_world(state) as world:

        async def slow(call):
            await trio.sleep(35)
            await call.stream(["late"])

        world.provider.scripts["slow"] = slow
        reply = await world.chat(say("x", "slow", stream=True))
        assert reply.body.startswith(b": keep-alive\n\n: keep-alive\n\n: keep-alive\n\ndata: {")
        assert content(reply) == "late"


async def test_a_fault_after_a_sign_of_life_is_an_event(state, autojump_clock):
    async with open_world(state, upstream={"idle_timeout_s": 15.0, "attempts": 1}) as world:
        reply = await world.chat(say("x", "stall", stream=True))
        assert reply.status == 200
        assert events(reply)[-1]["error"]["code"] == "upstream_timeout"


async def test_another_model_answers_when_the_first_can_not(state, autojump_clock):
    models = [
        {"id": "safe", "upstream": "up", "name": "dead", "fallback": ["spare"]},
        {"id": "spare", "upstream": "up", "name": "echo"},
        {"id": "strict", "upstream": "up", "name": "status:400", "fallback": ["spare"]},
    ]
    async with open_world(state, models=models, upstream={"attempts": 1}) as world:
        assert content(await world.chat(say("hi", "safe", stream=True))) == "hi"
        assert content(await world.chat(say("hi", "safe"))) == "hi"
        # What one provider refuses as a bad request is not asked of another.
        assert (await world.chat(say("hi", "strict"))).status == 400


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_provider_finds_wrong_with_the_request_is_told_in_its_words(
    state, autojump_clock, stream
):
    async with open_world(state) as world:

        async def too_long(call):
            said = {"message": "too long", "code": "context_length_exceeded", "param": "messages"}
            await call.whole(json.dumps({"error": said}).encode(), status=400)

        world.provider.scripts["odd"] = too_long
        reply = await world.chat(say("x", "odd", stream=stream))
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
        assert "too long" in error["message"]


async def test_a_model_over_its_limit_has_another_one_of_its_provider_answer(state, autojump_clock):
    models = [
        {"id": "busy", "upstream": "up", "name": "status:429:40", "fallback": ["spare"]},
        {"id": "spare", "upstream": "up", "name": "echo"},
    ]
    async with open_world(state, models=models) as world:
        assert content(await world.chat(say("hi", "busy"))) == "hi"
        assert content(await world.chat(say("hi", "busy"))) == "hi"
        assert world.provider.counts == {"status:429:40": 1, "echo": 2}


async def test_who_comes_when_it_was_told_to_is_not_too_early(state, autojump_clock):
    async with open_world(state, upstream={"attempts": 1}) as world:

        async def once_limited(call):
            if len(world.provider.requests) == 1:
                await call.fail(429, "slow down", "Retry-After: 7.3\r\n")
            else:
                await call.say(["hi"])

        world.provider.scripts["odd"] = once_limited
        refused = await world.chat(say("x", "odd"))
        assert (refused.status, refused.headers["retry-after"]) == (429, "8")
        await trio.sleep(1)
        again = await world.chat(say("x", "odd"))
        assert (again.status, again.headers["retry-after"]) == (429, "7")
        await trio.sleep(7)
        assert content(await world.chat(say("x", "odd"))) == "hi"


async def test_a_system_prompt_goes_before_the_conversation(state, autojump_clock):
    models = [{"id": "polite", "upstream": "up", "name": "echo", "system": "Be kind."}]
    async with open_world(state, models=models) as world:
        await world.chat(say("hi", "polite"))
        sent = world.provider.connections[0].requests[0].json["messages"]
        assert sent == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]


# --- Tools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_gets_back_what_it_put_into_a_call(state, autojump_clock, stream):
    models = [{"id": "signing", "upstream": "up", "name": "odd", "tools": "all"}]
    signature = {"google": {"thought_signature": "s"}}
    async with open_world(state, models=models) as world:

        async def signs(call):
            if call.request.json["messages"][-1]["role"] == "tool":
                await call.say(["done"])
            elif stream:
                function = {"name": "ping", "arguments": "{}"}
                made = {"index": 0, "id": "c", "type": "function", "function": function}
                await call.begin()
                await call.delta(tool_calls=[{**made, "extra_content": signature}])
                await call.delta("tool_calls")
                await call.done()
                await call.end()
            else:
                made = {"id": "c", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
                calls = [{**made, "extra_content": signature}]
                await call.whole(call.document(None, "tool_calls", tool_calls=calls))

        world.provider.scripts["odd"] = signs
        assert content(await world.chat(say("x", "signing", stream=stream))) == "done"
        (made,) = world.provider.requests[1].json["messages"][-2]["tool_calls"]
        assert made["extra_content"] == signature


async def test_calls_of_the_clients_tools_are_relayed_byte_for_byte(state, autojump_clock):
    async with open_world(state) as world:
        sent = b"""{ "choices": [{"message": {"role": "assistant", "tool_calls": [ {"id": "a", "type": "custom",
            "custom": {"name": "sql", "input": "1"}} ]}, "finish_reason": "tool_calls", "stop_reason": 7}] }"""

        async def odd(call):
            await call.whole(sent)

        world.provider.scripts["odd"] = odd
        assert (await world.chat(say("x", "odd"))).body == sent


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_of_the_hub_is_run_and_the_model_asked_again(state, autojump_clock, stream):
    async with open_world(state) as world:
        body = say(calls(("ping", {})), "hands", stream=stream, stream_options={"include_usage": True})
        reply = await world.chat(body)
        assert reply.status == 200, reply.body
        assert "Tools said:" in content(reply)
        first, second = [r.json for c in world.provider.connections for r in c.requests]
        assert {"ping"} <= {tool["function"]["name"] for tool in first["tools"]}
        assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
        assert second["messages"][1]["tool_calls"][0]["id"] == second["messages"][2]["tool_call_id"]
        told = events(reply)[-1] if stream else reply.json
        assert told["apex"] == {"rounds": 2}


async def test_content_parts_of_a_tool_are_content_for_the_model(state, autojump_clock):
    parts = [
        {"type": "text", "text": "the door"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    async with open_world(state) as world:
        world.add_tool("camera").result = parts
        await world.chat(say(calls(("camera", {})), "hands"))
        _, second = [r.json for c in world.provider.connections for r in c.requests]
        assert second["messages"][2]["content"] == parts


@pytest.mark.parametrize("how", ["no-index", "same-id", "no-id", "whole"])
async def test_calls_with_the_faults_of_the_field_are_run(state, autojump_clock, how):
    models = [{"id": "odd", "upstream": "up", "name": f"tools:{how}", "tools": "all"}]
    async with open_world(state, models=models) as world:
        reply = await world.chat(say(calls(("ping", {})), "odd", stream=True))
        assert "Tools said:" in content(reply)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_tool_goes_back_to_the_client(state, autojump_clock, stream):
    async with open_world(state) as world:
        reply = await world.chat(
            say(calls(("mine", {"a": 1}), ("ping", {})), "hands", tools=[MINE], stream=stream)
        )
        if stream:
            choices = [e["choices"][0] for e in events(reply)]
            sent = [c for choice in choices for c in choice["delta"].get("tool_calls", ())]
            assert {c["index"] for c in sent} == {0}
            assert "".join(c["function"].get("arguments", "") for c in sent) == '{"a": 1}'
            assert choices[-1]["finish_reason"] == "tool_calls"
        else:
            message = reply.json["choices"][0]["message"]
            assert [call["function"]["name"] for call in message["tool_calls"]] == ["mine"]
        assert sum(len(c.requests) for c in world.provider.connections) == 1


async def test_no_tools_are_offered_where_none_are_wanted(state, autojump_clock):
    async with open_world(state) as world:
        for fields in ({"tool_choice": "none"}, {"apex": {"tools": "none"}}, {"n": 2}):
            await world.chat(say("x", "hands", **fields))
        await world.chat(say("x", "hands", apex={"tools": ["ping", "nothing"]}))
        sent = [r.json.get("tools", []) for c in world.provider.connections for r in c.requests]
        assert [[tool["function"]["name"] for tool in tools] for tools in sent] == [[], [], [], ["ping"]]


async def test_a_clients_tool_wins_over_ours_of_the_same_name(state, autojump_clock):
    async with open_world(state) as world:
        own = {"type": "function", "function": {"name": "ping"}}
        reply = await world.chat(say(calls(("ping", {})), "hands", tools=[own]))
        assert reply.json["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_rounds_are_bounded(state, autojump_clock, stream):
    models = [{"id": "eager", "upstream": "up", "name": "tools:forever", "tools": "all"}]
    async with open_world(state, models=models, chat={"max_rounds": 3}) as world:
        reply = await world.chat(say(calls(("ping", {})), "eager", stream=stream))
        assert reply.status == 200
        choice = events(reply)[-1]["choices"][0] if stream else reply.json["choices"][0]
        assert choice["finish_reason"] == "length"
        assert b"tool_calls" not in reply.body
        sent = [r.json for c in world.provider.connections for r in c.requests]
        assert [one.get("tool_choice") for one in sent] == [None, None, "none"]


async def test_what_a_tool_could_not_do_is_told_to_the_model(state, autojump_clock):
    async with open_world(state) as world:
        world.add_tool("bad", ToolFailed("no such zone"))
        world.add_tool("late", ToolTimeout("too slow"))
        deep = "\nping " + '{"a":' + "[" * 50_000
        reply = await world.chat(say(calls(("bad", {}), ("late", {}), ("ping", [1])) + deep, "hands"))
        assert '"code":"tool_failed","message":"no such zone"' in content(reply)
        assert '"code":"tool_timeout"' in content(reply)
        assert content(reply).count('"code":"invalid_arguments"') == 2


async def test_a_fault_after_a_tool_ran_must_not_be_repeated(state, autojump_clock):
    async with open_world(state, upstream={"attempts": 1}) as world:
        rounds = []

        async def fails_second(call):
            rounds.append(1)
            if len(rounds) > 1:
                await call.fail(500, "fell over")
                return
            function = {"name": "ping", "arguments": "{}"}
            await call.whole(
                call.document(None, "tool_calls", tool_calls=[{"id": "a", "function": function}])
            )

        world.provider.scripts["tools"] = fails_second
        reply = await world.chat(say("x", "hands"))
        assert reply.status == 502
        assert reply.headers["x-should-retry"] == "false"
        reply = await world.chat(say("x", "status:500"))
        assert "x-should-retry" not in reply.headers


# --- Ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_interrupt_before_the_first_byte(state, autojump_clock, stream):
    async with open_world(state) as world, world.client() as client:
        await client.chat(say("x", "stall", stream=stream, requestId="r1"))
        await world.provider.asked(0)
        receipt = (await world.ask("POST", "/v1/interrupt", {"requestId": "r1", "reason": "enough"})).json
        assert receipt["state"] == "stopped"
        assert [branch["path"] for branch in receipt["branches"]] == ["r1/round1/llm"]
        assert (await world.provider.closed(0)).closed_by == "peer"
        reply = await client.reply()
        assert (reply.status, reply.json["error"]["code"]) == (499, "interrupted")


async def test_an_interrupt_in_the_middle_of_a_stream(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        await client.chat(say("x", "endless:50", stream=True, messageId="r1"))
        await client.until(b"w3")
        receipt = (await world.ask("POST", "/v1/interrupt", {"messageId": "r1"})).json
        assert (receipt["success"], receipt["interrupted"], receipt["notStopped"]) == (True, True, [])
        assert (await world.provider.closed(0)).closed_by == "peer"
        rest = await client.until(b"[DONE]\n\n")
        last = json.loads(rest.split(b"data: ")[-2].split(b"\n")[0])
        assert last["choices"][0]["finish_reason"] == "stop"
        assert last["apex"] == {"interrupted": True}


async def test_one_branch_is_stopped_and_the_model_is_told(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        slow = world.add_tool("slow", hold=True)
        await client.chat(say(calls(("slow", {}), ("ping", {})), "hands", requestId="r1"))
        await slow.started.wait()
        receipt = (await world.ask("POST", "/v1/interrupt", {"path": "r1/round1/slow"})).json
        assert [branch["path"] for branch in receipt["branches"]] == ["r1/round1/slow"]
        reply = await client.reply()
        assert reply.status == 200
        assert '"code":"interrupted"' in content(reply)


async def test_a_client_that_leaves_takes_everything_along(state, autojump_clock):
    async with open_world(state) as world:
        for number, body in enumerate(
            [say("x", "stall"), say("x", "stall", stream=True), say("x", "endless:50", stream=True)]
        ):
            async with world.client() as client:
                await client.chat(body)
                await world.provider.asked(number)
            assert (await world.provider.closed(number)).closed_by == "peer"
            assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_an_id_in_flight_is_refused_and_nothing_changes(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        await client.chat(say("x", "stall", requestId="same"))
        await world.provider.asked(0)
        reply = await world.chat(say("x", "hello", requestId="same"))
        assert (reply.status, reply.json["error"]["code"]) == (409, "request_id_in_flight")
        assert reply.headers["x-should-retry"] == "false"
        assert len(world.hub.flights) == 1
        await world.ask("POST", "/v1/interrupt", {"requestId": "same"})
        await client.reply()


async def test_a_chat_in_the_background(state, autojump_clock):
    async with open_world(state, chat={"result_ttl_s": 60.0}) as world:
        key = world.hub.keys.create(scopes=["chat"])[0]
        bearer = f"Authorization: Bearer {key}"
        reply = await world.chat(say("hi", "echo", requestId="b1", apex={"background": True}), bearer)
        assert (reply.status, reply.json) == (202, {"requestId": "b1", "status": "accepted"})
        await world.hub.flights.empty()
        got = (await world.ask("GET", "/v1/requests/b1", None, bearer)).json
        assert got["status"] == "completed"
        assert got["result"]["choices"][0]["message"]["content"] == "hi"
        await world.chat(say("hi", "stall", requestId="b2", apex={"background": True}), bearer)
        await world.provider.asked(1)
        assert (await world.ask("POST", "/v1/interrupt", {"requestId": "b2"}, bearer)).json[
            "state"
        ] == "stopped"
        got = (await world.ask("GET", "/v1/requests/b2", None, bearer)).json
        assert (got["status"], got["error"]["code"]) == ("interrupted", "interrupted")
        await trio.sleep(61)
        assert (await world.ask("GET", "/v1/requests/b1", None, bearer)).status == 404
        assert len(world.hub.backgrounds) == 0


# --- Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"\xff\xfe", 400, "invalid_json", None),
        (b"[]", 400, "invalid_request", None),
        (b'{"messages":[{"role":"user","x":' + b"[" * 200_000, 400, "invalid_json", None),
        ({}, 400, "invalid_request", "messages"),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"messages": [{"role": 1}]}, 400, "invalid_request", "messages[0].role"),
        (say("x", stream="yes"), 400, "invalid_request", "stream"),
        (say("x", requestId="no spaces"), 400, "invalid_request", "requestId"),
        (say("x", requestId="x" * 201), 400, "invalid_request", "requestId"),
        (say("x", requestId="x\n"), 400, "invalid_request", "requestId"),
        (say("x", "m" * 301), 400, "invalid_request", "model"),
        (say("x", apex={"tools": "a" * 100_000}), 400, "invalid_request", "apex.tools"),
        (say("x", apex={"timeoutS": 0}), 400, "invalid_request", "apex.timeoutS"),
        (say("x", "helo"), 404, "model_not_found", "model"),
        (say("x", tenantId="other"), 403, "forbidden", "tenantId"),
        (b"x" * (8 * 1024 * 1024 + 1), 413, "body_too_large", None),
    ],
)
async def test_bad_input_is_told_in_the_envelope(state, autojump_clock, body, status, code, param):
    async with open_world(state) as world:
        reply = await world.ask("POST", "/v1/chat/completions", body)
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (status, code, param)
        assert reply.json["request_id"] == reply.headers["x-request-id"]
        assert len(reply.body) < 1000
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
        if code == "model_not_found":
            assert "hello" in error["message"]


@pytest.mark.parametrize(
    "header",
    ["Content-Encoding: gzip", "Content-Type: text/plain", "Content-Type: application/json; charset=gbk"],
)
async def test_encodings_the_hub_does_not_read(state, autojump_clock, header):
    async with open_world(state) as world:
        reply = await world.ask("POST", "/v1/chat/completions", json.dumps(say("x")).encode(), header)
        assert reply.status == 415 or "charset" not in header


async def test_a_get_is_no_chat(state, autojump_clock):
    async with open_world(state) as world:
        reply = await world.ask("GET", "/v1/chat/completions")
        assert (reply.status, reply.json["error"]["code"]) == (405, "method_not_allowed")
