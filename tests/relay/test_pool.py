import json

import pytest
import trio

from apexbridge_trio.errors import UpstreamBroken, UpstreamError, UpstreamSilent, UpstreamUnreachable
from apexbridge_trio.relay.pool import IDLE_AGE_S
from tests.fakes.behaviours import Call, HangUp
from tests.fakes.memory import MemoryStream
from tests.fakes.upstream import FakeUpstream
from tests.harness.kill import kill_at_every_step
from tests.relay.asking import PATH, ask, body_of, pool_of, read, world


async def test_a_request_is_what_was_asked_and_nothing_else(autojump_clock: object) -> None:
    async with world(base_url="http://fake:81/a b/v1/") as (provider, pool):
        async with pool.open(b"POST", PATH, [(b"X-Own", b"yes")], body_of("hello")) as response:
            assert response.status == 200
            assert response.headers[b"content-type"] == b"application/json"
            assert b"Hello from hello." in await read(response)
            assert await response.receive() == b""
        (request,) = provider.requests
        assert (request.method, request.path) == ("POST", "/a%20b/v1/chat/completions")
        assert request.headers == {
            "host": "fake:81",
            "x-own": "yes",
            "accept-encoding": "identity",
            "content-length": str(len(request.body)),
        }
        assert request.body == body_of("hello")
        assert not provider.faults


@pytest.mark.parametrize("model", ["hello", "split:2", "continue", "trailers", "stream:5:10", "sse"])
async def test_a_whole_answer_gives_its_connection_back(model: str, autojump_clock: object) -> None:
    async with world() as (provider, pool):
        for stream in (False, True, False):
            await ask(pool, model, stream=stream)
        assert len(provider.connections) == 1
        pool.close()
        assert (await provider.closed(0)).closed_by == "peer"


@pytest.mark.parametrize("model", ["close", "until-close", "surplus"])
async def test_an_answer_that_ends_its_connection_is_whole(model: str, autojump_clock: object) -> None:
    async with world() as (provider, pool):
        first, second = await ask(pool, model), await ask(pool, model)
        assert json.loads(first) is not None
        assert len(first) == len(second)
        assert len(provider.connections) == 2


async def test_one_read_is_one_receive(autojump_clock: object) -> None:
    async def burst(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n")
        await trio.sleep(1)
        await call.send(b"1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n")
        await trio.sleep(1)
        await call.send(b"0\r\n\r\n")

    async with world() as (provider, pool):
        provider.scripts["burst"] = burst
        async with pool.open(b"POST", PATH, [], body_of("burst")) as response:
            assert [await response.receive() for _ in range(4)] == [b"ab", b"cde", b"", b""]


async def test_connections_side_by_side_are_kept_up_to_the_bound(autojump_clock: object) -> None:
    async with world(max_idle=2) as (provider, pool):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, pool, "stream:2:10")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask, pool, "stream:2:10")
        assert len(provider.connections) == 5
        assert [one.closed.is_set() for one in provider.connections].count(True) == 3


async def test_an_idle_connection_ages(autojump_clock: object) -> None:
    async with world() as (provider, pool):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask, pool, "stream:1:10")
        for _ in range(3):
            await trio.sleep(IDLE_AGE_S / 2)
            await ask(pool, "hello")
        assert len(provider.connections) == 2
        assert [one.closed.is_set() for one in provider.connections].count(True) == 1
        await trio.sleep(IDLE_AGE_S + 1)
        await ask(pool, "hello")
        assert len(provider.connections) == 3


async def test_a_connection_that_ended_while_idle_is_not_used(autojump_clock: object) -> None:
    async with world() as (provider, pool):
        await ask(pool, "hangup")
        await provider.closed(0)
        await ask(pool, "hello")
        assert [len(one.requests) for one in provider.connections] == [1, 1]


async def test_a_connection_that_ends_under_the_request_is_replaced_once(autojump_clock: object) -> None:
    dead = 1

    async def dies_when_reused(call: Call) -> None:
        if len(provider.connections) <= dead and len(provider.connections[-1].requests) > 1:
            raise HangUp
        await call.whole(b"{}")

    async with world() as (provider, pool):
        provider.scripts["stale"] = dies_when_reused
        await ask(pool, "stale")
        assert await ask(pool, "stale") == b"{}"
        assert [len(one.requests) for one in provider.connections] == [2, 1]
        # The fresh one fails as well: told, not tried for ever.
        dead = 9
        provider.scripts["stale"] = lambda call: hang_up()
        with pytest.raises(UpstreamUnreachable):
            await ask(pool, "stale")
        assert len(provider.requests) == 5


async def hang_up() -> None:
    raise HangUp


FAULTS = {
    "dead": UpstreamUnreachable,
    "dead-head": UpstreamBroken,
    "dead-mid:2": UpstreamBroken,
    "stall": UpstreamSilent,
    "stall-mid:2": UpstreamSilent,
    "garbage": UpstreamBroken,
    "upgrade": UpstreamBroken,
    "length-negative": UpstreamBroken,
    "length-twice": UpstreamBroken,
    "length-and-chunked": UpstreamBroken,
    "coding-unknown": UpstreamBroken,
    "chunk-huge": UpstreamBroken,
    "chunk-negative": UpstreamBroken,
    "status-zero": UpstreamBroken,
    "endless-headers": UpstreamBroken,
}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("model", FAULTS)
async def test_each_fault_has_its_error_and_ends_the_connection(
    model: str, stream: bool, autojump_clock: object
) -> None:
    async with world() as (provider, pool):
        with pytest.raises(UpstreamError) as told:
            await ask(pool, model, stream=stream)
        assert type(told.value) is FAULTS[model]
        assert told.value.message.startswith("Upstream fake ")
        await provider.closed(0)
        assert b"Hello" in await ask(pool, "hello")


async def test_silence_is_counted_per_wait_and_never_against_a_slow_client(autojump_clock: object) -> None:
    async with world(idle_timeout_s=1.0) as (_, pool):
        started = trio.current_time()
        async with pool.open(b"POST", PATH, [], body_of("stream:5:900", stream=True)) as response:
            while await response.receive():
                await trio.sleep(3)
        assert trio.current_time() - started > 4.5


async def test_a_provider_that_takes_nothing_is_silent(autojump_clock: object) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        near, _ = MemoryStream.pair()
        near.send_all = blocked  # type: ignore[method-assign]
        return near

    async def blocked(data: object) -> None:
        await trio.sleep_forever()

    with pytest.raises(UpstreamSilent):
        await ask(pool_of(connect), "hello")


async def test_a_large_request_is_not_silence_while_its_pieces_are_taken(autojump_clock: object) -> None:
    async with FakeUpstream() as provider:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            stream = await provider.connect(host, port)
            send_all = stream.send_all

            async def slowly(data: bytes | bytearray | memoryview) -> None:
                await trio.sleep(0.8)
                await send_all(data)

            stream.send_all = slowly  # type: ignore[method-assign]
            return stream

        pool = pool_of(connect, idle_timeout_s=1.0)
        large = json.dumps({"model": "hello", "messages": [{"content": "x" * 1_000_000}]}).encode()
        async with pool.open(b"POST", PATH, [], large) as response:
            assert response.status == 200
        assert trio.current_time() > 3
        assert provider.requests[0].body == large


async def test_an_answer_before_the_request_was_taken_is_heard(autojump_clock: object) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        near, far = MemoryStream.pair()
        await far.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        far._in.close()
        return near

    pool = pool_of(connect)
    async with pool.open(b"POST", PATH, [], b"x" * 600_000) as response:
        assert (response.status, await read(response)) == (413, b"{}")
    assert not pool._idle


@pytest.mark.parametrize(("heard", "kind"), [(b"", UpstreamUnreachable), (b"HTTP/1.1 200", UpstreamBroken)])
async def test_a_reset_is_told_by_what_was_heard(
    heard: bytes, kind: type[UpstreamError], autojump_clock: object
) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        near, _ = MemoryStream.pair()
        said = [heard] if heard else []

        async def receive(max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            if said:
                return said.pop()
            raise trio.BrokenResourceError

        near.receive_some = receive  # type: ignore[method-assign]
        return near

    with pytest.raises(kind) as told:
        await ask(pool_of(connect), "hello")
    assert type(told.value) is kind


async def test_no_connection_is_unreachable(autojump_clock: object) -> None:
    async with world() as (provider, pool):
        provider.is_refusing = True
        with pytest.raises(UpstreamUnreachable, match="refused or lost"):
            await ask(pool, "hello")

    async def never(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(UpstreamUnreachable, match="no connection in 5 s"):
        await ask(pool_of(never), "hello")


@pytest.mark.parametrize("model", ["stream:9:100", "stall", "stall-mid:0"])
async def test_a_cancelled_block_closes_in_the_same_step(model: str, autojump_clock: object) -> None:
    async with world() as (provider, pool):
        with trio.move_on_after(0.25):
            await ask(pool, model, stream=True)
        assert (await provider.closed(0)).closed_by == "peer"


async def test_leaving_early_closes(autojump_clock: object) -> None:
    async with world() as (provider, pool):
        async with pool.open(b"POST", PATH, [], body_of("endless", stream=True)) as response:
            await response.receive()
        assert (await provider.closed(0)).closed_by == "peer"


async def test_what_comes_back_to_a_closed_pool_is_closed(autojump_clock: object) -> None:
    async with world() as (provider, pool):
        async with pool.open(b"POST", PATH, [], body_of("hello")) as response:
            pool.close()
            await read(response)
        await provider.closed(0)


@pytest.mark.parametrize("model", ["stream:3:10", "dead-mid:1", "hangup"])
async def test_killed_at_every_step_nothing_is_left(model: str, autojump_clock: object) -> None:
    async with world() as (provider, pool):

        async def scenario() -> None:
            for _ in range(2):
                try:
                    await ask(pool, model, stream=True)
                except UpstreamBroken:
                    assert model == "dead-mid:1"

        async def check(is_whole: bool) -> None:
            idle = len(pool._idle)
            assert idle <= 1
            assert b"Hello" in await ask(pool, "hello")
            pool.close()
            pool._max_idle = 64
            for connection in provider.connections:
                await connection.closed.wait()

        assert await kill_at_every_step(scenario, check) > 10


async def test_a_storm_of_cancellations_leaves_a_pool_that_works(autojump_clock: object) -> None:
    slots = trio.CapacityLimiter(10)

    async def one(n: int) -> None:
        with trio.move_on_after(0.001 * (n % 40)):
            async with slots:
                await ask(pool, f"stream:3:{n % 5}", stream=n % 2 == 0)

    async with world(max_idle=10) as (provider, pool):
        async with trio.open_nursery() as nursery:
            for n in range(1200):
                nursery.start_soon(one, n)
        assert len(pool._idle) <= 10
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask, pool, "hello")
        assert slots.borrowed_tokens == 0
        pool.close()
        for connection in provider.connections:
            await connection.closed.wait()
        assert not provider.faults
