"""What has been answered is gone at once: the collector, which stops everybody, finds nothing to do.

A request that holds itself waits for a collection, and each collection looks at all that has been made
since: at sixteen chats at a time this was a twentieth of the processor, and the longest of all waits.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.world import open_world, say

BODIES = {
    "document": say("x", "hello"),
    "stream": say("x", "stream:5:100", stream=True),
    "refused": say("x", "status:400"),
    "unreachable": say("x", "dead"),
    "unknown": say("x", "no such model"),
}


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """Collect what is made inside the block, and count what was ours, by its type."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(one) for one in gc.garbage]
        found.update(kind.__name__ for kind in kinds if kind.__module__.startswith("apexbridge_trio"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", BODIES)
async def test_a_chat_leaves_nothing_for_the_collector(kind, tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as client:
        await client.ask("POST", "/v1/chat/completions", BODIES[kind])
        with collected() as found:
            for _ in range(3):
                await client.ask("POST", "/v1/chat/completions", BODIES[kind])
        assert not found
