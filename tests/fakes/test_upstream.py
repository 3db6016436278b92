"""The fake as other tests start it: a process that tells what it saw."""

import time

import trio

from tests.fakes.process import provider_process
from tests.relay.asking import PATH, body_of, pool_of


async def test_the_provider_as_a_process_tells_when_its_connection_was_closed() -> None:
    with trio.fail_after(30):
        async with provider_process() as provider:
            pool = pool_of(base_url=provider.base_url)
            async with pool.open(b"POST", PATH, [], body_of("endless", stream=True)) as response:
                await response.receive()
                left_at = time.monotonic_ns()
            (seen,) = (await provider.seen(closed=0))[:1]
            assert seen["closedBy"] == "peer"
            assert seen["closedNs"] > left_at
            (request,) = seen["requests"]
            assert request["model"] == "endless"
            assert request["body"]["messages"] == [{"role": "user", "content": "hi"}]
