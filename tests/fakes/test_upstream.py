"""The fake as e2e tests start it: a process that tells what it saw."""

import time

import httpx
import trio

from tests.harness.process import STOP_S, provider
from tests.relay.asking import PATH, body_of, pool_of


async def test_the_provider_as_a_process_tells_when_its_connection_was_closed() -> None:
    with trio.fail_after(STOP_S):
        async with provider() as running:
            pool = pool_of(base_url=f"{running.url}/v1", connect_timeout_s=STOP_S)
            async with pool.open(b"POST", PATH, [], body_of("endless", stream=True)) as response:
                await response.receive()
                left_at = time.monotonic_ns()
            async with httpx.AsyncClient(trust_env=False, timeout=STOP_S) as client:
                answer = await client.get(f"{running.url}/seen", params={"closed": 0})
            seen = answer.json()["connections"][0]
            assert seen["closedBy"] == "peer"
            assert seen["closedNs"] > left_at
            (request,) = seen["requests"]
            assert request["model"] == "endless"
            assert request["body"]["messages"] == [{"role": "user", "content": "hi"}]
