import socket

import pytest
import trio

from apexbridge_trio.config import Secret
from apexbridge_trio.upstream import Upstream, discovery, find_local, local
from tests.fakes.behaviours import Call
from tests.fakes.upstream import FakeUpstream
from tests.harness.kill import kill_at_every_step
from tests.upstream.asking import KEY, entry_of, world

SAFETY_S = 120.0

# Memory: httpx over the provider's memory streams.


async def test_a_list_is_asked_for_once_in_a_while_with_the_key(autojump_clock: object) -> None:
    async with world(key=KEY, api_key=Secret(KEY)) as (provider, upstream):
        for _ in range(3):
            assert await upstream.models() == ["hello", "echo"]
        assert [request.path for request in provider.requests] == ["/v1/models"]
        provider.models = ["new"]
        await trio.sleep(60)
        assert await upstream.models() == ["new"]
        assert upstream.state()["state"] == "ok"
        assert all([(await provider.closed(n)).closed_by == "peer" for n in range(2)])


async def test_the_models_of_the_config_win(autojump_clock: object) -> None:
    async with world(models=["mine"]) as (provider, upstream):
        assert await upstream.models() == ["mine"]
        assert not provider.requests


@pytest.mark.parametrize(
    "fault",
    [
        "dead",
        "stall",
        "stall-mid",
        "garbage",
        "garbage-json",
        "json",
        "status:500",
        "status:401",
        "endless",
        "pours",
    ],
)
async def test_a_look_that_fails_takes_nothing_away(
    fault: str, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pours(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        while True:
            await call.send(b"y" * 9999)

    monkeypatch.setattr(discovery, "MAX_LIST_BYTES", 50_000)
    async with world() as (provider, upstream):
        provider.scripts["pours"] = pours
        await upstream.models()
        await trio.sleep(60)
        provider.models_as = fault
        began = trio.current_time()
        assert await upstream.models() == ["hello", "echo"]
        assert trio.current_time() - began < 6
        assert upstream.state()["state"] == "failing"
        provider.models_as, provider.models = "", ["back"]
        assert await upstream.models() == ["hello", "echo"]
        await trio.sleep(10)
        assert await upstream.models() == ["back"]


async def test_a_provider_that_is_away_lists_nothing(autojump_clock: object) -> None:
    async with world() as (provider, upstream):
        provider.is_refusing = True
        assert await upstream.models() == []
        assert "models" in upstream.state()["detail"]


async def test_ollama_without_a_model_lists_null(autojump_clock: object) -> None:
    async def null(call: Call) -> None:
        await call.whole(b'{"object": "list", "data": null}')

    async with world() as (provider, upstream):
        provider.scripts["null"], provider.models_as = null, "null"
        assert await upstream.models() == []
        assert upstream.state()["state"] == "ok"


async def test_one_looks_for_all_who_wait_and_the_next_takes_over(autojump_clock: object) -> None:
    async def slow(call: Call) -> None:
        await trio.sleep(1)
        await call.whole(b'{"data": [{"id": "slow"}]}')

    async with world() as (provider, upstream):
        provider.scripts["slow"], provider.models_as = slow, "slow"
        listed: list[list[str]] = []

        async def wait() -> None:
            listed.append(await upstream.models())

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):
                async with trio.open_nursery() as first:
                    first.start_soon(wait)
                    await provider.asked(0)
                    for _ in range(5):
                        nursery.start_soon(wait)
        assert listed == [["slow"]] * 5
        assert len(provider.requests) == 2


async def test_killed_at_every_step_of_a_look_the_next_one_works(autojump_clock: object) -> None:
    async with world() as (provider, upstream):

        async def scenario() -> None:
            upstream._listed_until = 0.0
            await upstream.models()

        async def check(is_whole: bool) -> None:
            upstream._listed_until = 0.0
            provider.models = [f"m{len(provider.connections)}"]
            assert await upstream.models() == provider.models
            for connection in provider.connections:
                await connection.closed.wait()

        assert await kill_at_every_step(scenario, check) > 10


# e2e: real sockets.


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is waited for."""
    monkeypatch.setattr(discovery, "LOOK_S", SAFETY_S)
    monkeypatch.setattr(local, "KNOCK_S", SAFETY_S)


async def test_over_tcp(caplog: pytest.LogCaptureFixture, patient: None) -> None:
    with trio.fail_after(SAFETY_S):
        async with FakeUpstream(key=KEY) as provider:
            base_url = f"http://127.0.0.1:{await provider.listen()}/v1"
            upstream = Upstream(entry_of(base_url=base_url, api_key=Secret(KEY)))
            assert await upstream.models() == ["hello", "echo"]
            assert KEY not in caplog.text


async def test_local_providers_with_models_are_found(patient: None) -> None:
    with trio.fail_after(SAFETY_S), socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # taken, and it refuses
        async with FakeUpstream() as ollama, FakeUpstream() as other:
            other.models_as = "garbage"
            nobody = deaf.getsockname()[1]
            places = [("other", await other.listen()), ("nobody", nobody), ("ollama", await ollama.listen())]
            (found,) = await find_local(places=places)
            assert (found.name, found.base_url) == ("ollama", f"http://127.0.0.1:{ollama.port}/v1")
            assert await find_local(places=places, known={"ollama"}) == []
            assert len(ollama.requests) == 1
