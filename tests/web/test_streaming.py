"""A streamed reply: its one writer, its signs of life and its end."""

import trio

from apexbridge_trio.openings import Openings
from apexbridge_trio.protocol.sse import DONE, KEEP_ALIVE
from apexbridge_trio.web.arrival import Arrival
from apexbridge_trio.web.streaming import EventReply

SCOPE = {"type": "http", "headers": [], "client": ("127.0.0.1", 1)}


async def test_no_sign_of_life_comes_after_the_end(autojump_clock):
    sent = []
    taken = trio.Event()

    async def send(message):
        sent.append(message)
        if message == {"type": "http.response.body", "body": b""}:
            await taken.wait()  # a client that reads no more, with the kernel's buffers full

    reply = EventReply(Arrival.of(SCOPE, send, Openings()), keepalive_s=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reply.keep_alive)
        await trio.sleep(15)
        nursery.start_soon(reply.close, DONE)
        await trio.sleep(100)
        taken.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="the test is over")
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert bodies == [KEEP_ALIVE, DONE, b""]
