"""What the line of a request, and what is counted of it, say of a client that was cut, or hung up."""

import pytest
import trio
from structlog.testing import capture_logs as capture

from apexbridge_trio.errors import RequestStalled
from apexbridge_trio.identity import Principal
from apexbridge_trio.serving import ServingLimits
from apexbridge_trio.web.reading import read_body
from tests.harness.node import key_for
from tests.harness.world import open_world, say

CHAT, TASKS = "/v1/chat/completions", "/v1/tasks"
LIMITS = ServingLimits(max_body_bytes=100_000)


async def ended(world, lines, left=()):
    """Return the line of the one request that was to end; the provider's part has ended too."""
    while not (
        found := [line for line in lines if line["event"] == "request" and line["status"] not in left]
    ):
        await trio.sleep(1)
    counted = sum(
        number for labels, number in world.hub.measures.requests if labels[1] == found[0]["outcome"]
    )
    assert counted == len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "left"),
    [
        ("GET", "/v1/events", None, "closed_by_client"),
        ("GET", "/v1/logs", None, "closed_by_client"),
        ("POST", CHAT, say("x", "stream:5:100", stream=True), "cancelled_by_client"),
        ("POST", CHAT, say("x", "hello"), "completed"),  # all of it was said when it left
        ("GET", "/v1/models", None, "cancelled_by_client"),
    ],
)
async def test_who_does_not_read_is_told_from_who_hangs_up(
    tmp_path, autojump_clock, method, path, body, left
):
    async with open_world(tmp_path, LIMITS) as world:
        key = f"Authorization: Bearer {key_for(world, 'chat', 'logs')}"
        for outcome in ("slow_reader", left):
            with capture() as lines:
                async with world.client(lockstep=True) as client:
                    await client.start(method, path, body, key)
                    await trio.testing.wait_all_tasks_blocked()
                    if outcome == "slow_reader":
                        await trio.sleep(LIMITS.send_timeout_s + 1)
                line = await ended(world, lines)
            assert (line["outcome"], line["log_level"]) == (outcome, "info")
    assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_a_reader_of_events_that_falls_behind_is_told_and_named_so(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        with capture() as lines:
            async with world.client(lockstep=True) as client:
                await client.start(
                    "GET", "/v1/events", None, f"Authorization: Bearer {key_for(world, 'chat')}"
                )
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(40):
                    world.hub.events.publish("alert", Principal("house"), {"message": "x" * 100_000})
                reply = await client.reply()
            line = await ended(world, lines)
        assert reply.body.endswith(b": it did not read what it was sent\n\n")
        assert line["outcome"] == "slow_reader"


@pytest.mark.parametrize("path", [CHAT, TASKS])
@pytest.mark.parametrize(
    ("framed", "sent", "status", "code"),
    [
        ("Content-Length: 9", b"{", 408, "request_timeout"),
        ("Transfer-Encoding: chunked", b"30d40\r\n" + bytes(200_000), 413, "body_too_large"),
        ("Transfer-Encoding: chunked", b"nonsense\r\n", 400, "malformed_request"),
    ],
)
async def test_what_the_server_has_said_is_what_is_written(
    tmp_path, autojump_clock, path, framed, sent, status, code
):
    async with open_world(tmp_path, LIMITS) as world:
        with capture() as lines:
            reply = await said_to(world, path, [framed], sent)
            line = await ended(world, lines)
        assert (reply.status, reply.json["error"]["code"]) == (status, code)
        assert (line["status"], line["outcome"]) == (status, code)
        assert line["request_id"] == reply.headers["x-request-id"] == reply.json["request_id"]
        assert "request failed" not in [line["event"] for line in lines]


@pytest.mark.parametrize(
    ("headers", "sent", "status"),
    [
        (["Content-Length: 100001"], b"", 413),
        (["Content-Length: 9"], b"{", 408),
        (["Content-Length: 9", "Transfer-Encoding: chunked"], b"", 400),
        (["Content-Length: 0", "X-Long: " + "x" * 17_000], b"", 431),
    ],
)
async def test_a_page_that_brings_a_key_may_read_what_the_server_says(
    tmp_path, autojump_clock, headers, sent, status
):
    async with open_world(tmp_path, LIMITS) as world:
        for page in (["Origin: https://a.example"], []):
            reply = await said_to(world, CHAT, [*page, *headers], sent)
            assert reply.status == status
            shown = "retry-after" in reply.headers.get("access-control-expose-headers", "").lower()
            assert (reply.headers.get("access-control-allow-origin"), shown) == (
                ("*", True) if page else (None, False)
            )


async def test_a_head_that_was_not_read_does_not_say_who_may_read_the_answer(tmp_path, autojump_clock):
    """Nor may a page find out by it that a hub is here."""
    async with open_world(tmp_path, LIMITS) as world, world.client() as client:
        await client.send(
            b"GET / HTTP/1.1\r\nOrigin: https://a.example\r\nAuthorization: x\r\nX: " + b"x" * 17_000
        )
        reply = await client.reply()
        assert reply.status == 431
        assert "access-control-allow-origin" not in reply.headers


async def test_what_the_server_has_said_keeps_nothing_of_the_request():
    """The connection has the error for half a minute, and a raised one has the frames, with the body in them."""
    said = RequestStalled("It did not come.", code="mine")
    came = iter(
        [
            {"type": "http.request", "body": b"x", "more_body": True},
            {"type": "http.disconnect", "fault": said},
        ]
    )

    async def receive():
        return next(came)

    with pytest.raises(RequestStalled) as raised:
        await read_body(receive, 10)
    assert (raised.value.code, raised.value.message) == ("mine", "It did not come.")
    assert said.__traceback__ is None


async def said_to(world, path, headers, sent):
    """Return the reply to a request with a key whose body is `sent`, and no more."""
    key = f"Authorization: Bearer {key_for(world, 'chat', 'admin')}"
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", key, *headers]
    async with world.client() as client:
        await client.send("\r\n".join([*head, "", ""]).encode() + sent)
        return await client.reply()
