"""A chat, cut before every scheduler step it takes: nothing of it stays, and the next one works."""

import json

import pytest
import trio

from apexbridge_trio.flights import Stop
from apexbridge_trio.peer import PEER
from apexbridge_trio.protocol.sse import payloads
from apexbridge_trio.serving.call import Inbox
from tests.harness.kill import kill_at_every_step
from tests.harness.world import open_world, say


class Caller:
    """An ASGI server's side of one request, whose client stays."""

    def __init__(self, body):
        self.body = json.dumps(body).encode()
        self.sent = []
        self.was_read = False
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "extensions": {PEER: Inbox("http")},
        }

    async def receive(self):
        if self.was_read:
            await trio.sleep_forever()
        self.was_read = True
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        # As `serving` does: a message is taken at once, and what waits is only the wire.
        self.sent.append(message)
        await trio.lowlevel.checkpoint()

    @property
    def whole(self):
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.mark.parametrize(
    "body",
    [
        say("x", "hello"),
        say("x", "hello", stream=True),
        say("ping {}", "hands"),
        say("ping {}\nping {}", "hands", stream=True),
        say("x", "safe", stream=True),
        say("你会什么"),
    ],
    ids=["document", "stream", "tools", "streamed tools", "fallback", "embedded"],
)
async def test_a_chat_cut_at_every_step(tmp_path, autojump_clock, body):
    models = [
        {"id": "safe", "upstream": "up", "name": "status:404", "fallback": ["spare"]},
        {"id": "spare", "upstream": "up", "name": "echo"},
    ]
    async with open_world(tmp_path, models=models, upstream={"attempts": 1, "max_concurrency": 2}) as world:
        callers = []

        async def scenario():
            callers.append(caller := Caller(body))
            await world.front(caller.scope, caller.receive, caller.send)

        async def check(whole):
            assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
            relay = world.hub.models.upstreams["up"]._relay
            await trio.testing.wait_all_tasks_blocked()
            still_open = [one for one in world.provider.connections if not one.closed_by]
            assert len(still_open) == len(relay._idle)
            if whole:
                assert callers[-1].sent[0]["status"] == 200
                if body.get("stream"):
                    assert payloads(callers[-1].whole)[-1] == b"[DONE]"

        assert await kill_at_every_step(scenario, check) > 3
        assert callers[-1].sent[0]["status"] == 200


async def test_an_interrupt_at_every_step_has_a_true_receipt(tmp_path, autojump_clock):
    """Stop the request from another task before each step: the receipt and the reply agree."""
    async with open_world(tmp_path) as world:
        for cut in range(400):
            stops: list[Stop] = []
            caller = Caller(say("ping {}", "hands", stream=True, requestId="r1"))
            interrupter = _InterruptBefore(world, cut, stops)
            trio.lowlevel.add_instrument(interrupter)
            try:
                await world.front(caller.scope, caller.receive, caller.send)
            finally:
                trio.lowlevel.remove_instrument(interrupter)
            assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
            if interrupter.steps < cut:
                return
            check_agreement(caller, stops)
        raise AssertionError("not finished after 400 cuts")


def check_agreement(caller, stops):
    status = caller.sent[0]["status"]
    last = payloads(caller.whole)[-2:] if status == 200 else []
    interrupted = status == 499 or b'"interrupted":true' in (last[0] if last else b"")
    if stops:
        receipt = stops[0].written()
        assert (receipt["state"], receipt["notStopped"]) == ("stopped", [])
        assert receipt["interrupted"] == interrupted
    else:
        assert not interrupted


class _InterruptBefore(trio.abc.Instrument):
    def __init__(self, world, cut, stops):
        self.world, self.cut, self.stops, self.steps = world, cut, stops, 0

    def before_task_step(self, task):
        self.steps += 1
        if self.steps == self.cut and len(self.world.hub.flights):
            (flight,) = self.world.hub.flights._roots.values()
            self.stops.append(self.world.hub.flights.interrupt("r1", flight.owner, "cut"))
