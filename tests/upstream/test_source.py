import json
from contextlib import suppress

import pytest
import trio

from apexbridge_trio.circuit import MAX_BLOCK_S
from apexbridge_trio.config import Secret
from apexbridge_trio.errors import (
    ConfigInvalid,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnreachable,
)
from apexbridge_trio.protocol.answer import Source
from apexbridge_trio.upstream import Upstream
from tests.fakes.behaviours import Call
from tests.harness.kill import kill_at_every_step
from tests.upstream.asking import KEY, ask, entry_of, world

# Sync: what an entry may hold.


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"content-length": "1"}, {"a b": "x"}, {"x": "a\r\nb: c"}, {"x": "键"}, {"é": "x"}],
)
def test_a_header_that_can_not_be_sent_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid, match="fake"):
        Upstream(entry_of(headers=headers))


def test_a_key_that_can_not_be_sent_is_refused_unseen() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Upstream(entry_of(api_key=Secret(KEY + "\n")))
    assert "hush" not in refused.value.message


# Memory.


async def test_it_is_a_source_that_asks_with_key_and_headers(autojump_clock: object) -> None:
    own = {"X-Own": "1", "User-Agent": "mine"}
    async with world(key=KEY, api_key=Secret(KEY), headers=own) as (provider, upstream):
        source: Source = upstream
        assert source.name == "fake"
        assert upstream.config.name == "fake"
        async with upstream.open_answer(
            b'{"model": "echo", "messages": [{"content": "\xe4\xbb\x8a"}]}'
        ) as answer:
            assert not answer.is_stream
            assert "今".encode() in await answer.receive()
        async with upstream.open_answer(b'{"model": "hello", "stream": true}') as answer:
            assert answer.is_stream
        headers = provider.requests[0].headers
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["content-type"] == "application/json"
        assert (headers["x-own"], headers["user-agent"]) == ("1", "mine")
        assert provider.requests[0].path == "/v1/chat/completions"


FAULTS = {
    "dead": (UpstreamUnreachable, 3),
    "dead-head": (UpstreamBroken, 1),
    "dead-mid:1": (UpstreamBroken, 1),
    "stall": (UpstreamSilent, 1),
    "stall-mid:1": (UpstreamSilent, 1),
    "garbage": (UpstreamBroken, 1),
    "gzip": (UpstreamBroken, 1),
    "redirect": (UpstreamRefused, 1),
    "status:400": (UpstreamRefused, 1),
    "status:401": (UpstreamRefused, 1),
    "status:404": (UpstreamRefused, 1),
    "status:408": (UpstreamError, 3),
    "status:429": (UpstreamLimited, 3),
    "status:429:2": (UpstreamLimited, 3),
    "status:429:11": (UpstreamLimited, 1),
    "status:500": (UpstreamError, 3),
    "status:503:2": (UpstreamError, 3),
    "status:503:11": (UpstreamError, 1),
}


@pytest.mark.parametrize("model", FAULTS)
async def test_each_fault_is_told_after_as_many_attempts_as_are_safe(
    model: str, autojump_clock: object
) -> None:
    kind, attempts = FAULTS[model]
    async with world() as (provider, upstream):
        with pytest.raises(UpstreamError) as told:
            await ask(upstream, model)
        assert type(told.value) is kind
        assert provider.counts[model] == attempts
        wished = model.split(":")[2:]
        assert told.value.retry_after_s == (float(wished[0]) if wished else None)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_a_fault_that_passes_is_not_noticed(code: int, autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        assert b"Hello" in await ask(upstream, f"flaky:2:{code}")
        assert len(provider.requests) == 3
        assert trio.current_time() >= 0.25 + 0.5
        assert upstream.state()["state"] == "ok"


async def test_a_refused_connection_is_tried_again(autojump_clock: object) -> None:
    async with world() as (provider, upstream), trio.open_nursery() as nursery:
        provider.is_refusing = True

        async def comes_back() -> None:
            await trio.sleep(0.5)
            provider.is_refusing = False

        nursery.start_soon(comes_back)
        assert b"Hello" in await ask(upstream, "hello")


async def test_retry_after_is_waited_for_when_it_is_short(autojump_clock: object) -> None:
    async def once_limited(call: Call) -> None:
        if call.provider.counts["limited"] == 1:
            await call.fail(429, "slow down", "Retry-After: 7\r\n")
        else:
            await call.whole(b"{}")

    async with world() as (provider, upstream):
        provider.scripts["limited"] = once_limited
        began = trio.current_time()
        assert await ask(upstream, "limited") == b"{}"
        assert trio.current_time() - began >= 7


async def test_a_model_over_its_limit_is_left_alone_and_the_others_are_not(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        for after_s in (0, 10):
            await trio.sleep(after_s)
            with pytest.raises(UpstreamLimited) as told:
                await ask(upstream, "status:429:40")
            assert told.value.retry_after_s == pytest.approx(40 - after_s, abs=0.1)
            assert told.value.status == 429
            assert len(provider.requests) == 1
        await ask(upstream, "hello")
        assert len(provider.requests) == 2
        await trio.sleep(31)
        with pytest.raises(UpstreamLimited):
            await ask(upstream, "status:429:40")
        assert len(provider.requests) == 3


async def test_a_long_retry_after_is_told_and_obeyed_by_all(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        with pytest.raises(UpstreamError):
            await ask(upstream, "status:503:40")
        await trio.sleep(10)
        with pytest.raises(UpstreamBusy) as told:
            await ask(upstream, "hello")
        assert told.value.retry_after_s == pytest.approx(30, abs=0.1)
        assert told.value.status == 503
        assert len(provider.requests) == 1
        await trio.sleep(30)
        await ask(upstream, "hello")
        with pytest.raises(UpstreamError):
            await ask(upstream, "status:503:999999999")
        await trio.sleep(MAX_BLOCK_S)
        await ask(upstream, "hello")


async def test_a_dead_provider_is_left_alone_and_found_when_it_is_back(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        provider.is_refusing = True
        for _ in range(2):
            with pytest.raises(UpstreamUnreachable):
                await ask(upstream, "hello")
        assert upstream.state()["state"] == "open"
        with pytest.raises(UpstreamBusy, match="can not be reached") as told:
            await ask(upstream, "hello")
        assert told.value.retry_after_s is not None
        provider.is_refusing = False
        await trio.sleep(told.value.retry_after_s)
        assert b"Hello" in await ask(upstream, "hello")
        assert upstream.state()["state"] == "ok"


async def test_a_cancelled_probe_is_not_the_last(autojump_clock: object) -> None:
    async with world(attempts=1) as (_, upstream):
        for _ in range(5):
            with pytest.raises(UpstreamUnreachable):
                await ask(upstream, "dead")
        await trio.sleep(1)
        with trio.move_on_after(0.5):
            await ask(upstream, "stall")
        await trio.sleep(2)
        assert b"Hello" in await ask(upstream, "hello")


async def test_refusals_do_not_open_the_circuit(autojump_clock: object) -> None:
    async with world() as (_, upstream):
        for model in ["status:400", "status:401", "status:404"] * 4:
            with pytest.raises(UpstreamRefused):
                await ask(upstream, model)
        assert b"Hello" in await ask(upstream, "hello")


async def test_nothing_is_asked_again_once_a_byte_was_heard(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        for model in ("dead-mid:2", "stall-mid:2", "chunk-huge"):
            with pytest.raises(UpstreamError):
                await ask(upstream, model, stream=True)
            assert provider.counts[model] == 1


async def test_an_error_in_the_block_is_not_the_providers(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        with pytest.raises(UpstreamUnreachable, match="another"):
            async with upstream.open_answer(b'{"model": "hello"}'):
                raise UpstreamUnreachable("another provider's")
        assert len(provider.requests) == 1
        assert upstream.state()["state"] == "ok"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
async def test_the_key_is_in_no_error(status: int, autojump_clock: object) -> None:
    async def quotes_the_key(call: Call) -> None:
        await call.fail(status, f"the key {KEY} is not good")

    async with world(api_key=Secret(KEY), attempts=1) as (provider, upstream):
        provider.scripts["quotes"] = quotes_the_key
        with pytest.raises(UpstreamError) as told:
            await ask(upstream, "quotes")
        assert KEY not in str(told.value) + str(upstream.state())
        is_about_keys = status in {401, 403}
        assert ("is not good" in told.value.message) is not is_about_keys
        assert (told.value.message == "The key of upstream fake was refused.") is is_about_keys


async def test_a_refusal_whose_body_does_not_come_is_told_by_its_status(autojump_clock: object) -> None:
    async def stalls(call: Call) -> None:
        await call.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nwhy")
        await trio.sleep_forever()

    async def breaks(call: Call) -> None:
        await call.send(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhy\r\n")
        await trio.sleep(1)
        await call.send(b"zzz\r\n")

    async def pours(call: Call) -> None:
        await call.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 99999999\r\n\r\n")
        while True:
            await call.send(b"y" * 9999)

    async with world() as (provider, upstream):
        for name, how in (("stalls", stalls), ("breaks", breaks), ("pours", pours)):
            provider.scripts[name] = how
            with pytest.raises(UpstreamRefused, match="answered 400") as told:
                await ask(upstream, name)
            assert len(told.value.message) < 600
        assert all([(await provider.closed(n)).closed_by == "peer" for n in range(3)])


async def test_the_wait_for_a_slot_is_inside_the_callers_deadline(autojump_clock: object) -> None:
    async with world(max_concurrency=1) as (provider, upstream):
        async with upstream.open_answer(b'{"model": "endless", "stream": true}'):
            with trio.move_on_after(2) as scope:
                await ask(upstream, "hello")
            assert scope.cancelled_caught
        assert b"Hello" in await ask(upstream, "hello")
        assert len(provider.requests) == 2


async def test_one_task_may_hold_two_answers(autojump_clock: object) -> None:
    endless = b'{"model": "endless", "stream": true}'
    async with world(max_concurrency=2) as (_, upstream), upstream.open_answer(endless) as outer:
        await outer.receive()
        assert b"Hello" in await ask(upstream, "hello")


@pytest.mark.parametrize("model", ["flaky:1", "stream:2:10", "status:429:1", "dead-mid:1"])
async def test_killed_at_every_step_slots_and_connections_are_back(
    model: str, autojump_clock: object
) -> None:
    async with world(max_concurrency=1, attempts=2) as (provider, upstream):

        async def scenario() -> None:
            provider.counts.clear()
            try:
                await ask(upstream, model, stream=True)
            except (UpstreamLimited, UpstreamBroken):
                assert model in {"status:429:1", "dead-mid:1"}

        async def check(is_whole: bool) -> None:
            await trio.sleep(2)  # the provider's wish
            assert b"Hello" in await ask(upstream, "hello")
            assert upstream._slots.borrowed_tokens == 0
            upstream.close()
            upstream._relay._max_idle = 1
            for connection in provider.connections:
                await connection.closed.wait()

        assert await kill_at_every_step(scenario, check) > 10


async def test_a_storm_of_cancellations_leaves_nothing(autojump_clock: object) -> None:
    models = ["hello", "stream:3:4", "dead", "stall", "status:429", "flaky:3", "dead-mid:1"]

    async def one(n: int) -> None:
        with trio.move_on_after(0.002 * (n % 50)):
            with suppress(UpstreamError):
                await ask(upstream, models[n % 7], stream=n % 2 == 0)

    async with world(max_concurrency=10) as (provider, upstream):
        async with trio.open_nursery() as nursery:
            for n in range(1200):
                nursery.start_soon(one, n)
        assert upstream._slots.borrowed_tokens == 0
        await trio.sleep(60)  # longer than any pause of the circuit
        await ask(upstream, "hello")
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask, upstream, "hello")
        upstream.close()
        for connection in provider.connections:
            await connection.closed.wait()


async def test_its_health_is_what_was_last_seen(autojump_clock: object) -> None:
    async with world() as (_, upstream):
        assert upstream.state() == {"name": "fake", "state": "unknown", "checkedAgeS": None, "detail": ""}
        await ask(upstream, "hello")
        await trio.sleep(3)
        assert upstream.state() == {"name": "fake", "state": "ok", "checkedAgeS": 3.0, "detail": ""}
        for model, detail in (
            ("status:401", "The key of upstream fake was refused."),
            ("status:429", "wish"),
        ):
            with pytest.raises(UpstreamError):
                await ask(upstream, model)
            assert upstream.state()["state"] == "failing"
            assert detail in upstream.state()["detail"]
        with pytest.raises(UpstreamRefused):
            await ask(upstream, "status:400")
        assert json.dumps(upstream.state())
        assert upstream.state()["state"] == "ok"
