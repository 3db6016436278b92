"""A node that says too much, for ever: ``python -m tests.fakes.flooder URL KIND``, its key in NODE_KEY."""

import os
import sys

import trio

from apexbridge_trio.protocol.envelope import frame
from apexbridge_trio.protocol.frames import Heartbeat, NodeLog
from tests.harness.node import FakeNode

WHAT = {
    "heartbeats": frame(Heartbeat()),
    "log": frame(NodeLog("x" * 200)),
    "nonsense": b"{" * 50,
    "results": b'{"type":"task_result","data":{"taskId":"task_none","result":"' + b"x" * 20_000 + b'"}}',
}


async def flood(port: int, key: str, kind: str) -> None:
    """Say it until the hub has had enough."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        node = FakeNode(stream)
        await node.open("/distributed-server", ("Authorization", f"Bearer {key}"))
        assert (await node.register(f"flood-{kind}")).success
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.close_code)
            while node.closed is None:
                await node.say(WHAT[kind])


async def main(url: str, kind: str) -> None:
    """Come back whenever it is thrown out."""
    while True:
        try:
            await flood(int(url.rpartition(":")[2]), os.environ["NODE_KEY"], kind)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await trio.sleep(0.1)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
