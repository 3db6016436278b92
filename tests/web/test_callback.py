"""Callbacks as they come over HTTP: who may bring them, what is answered, what is on disk then."""

import io
import json
import time
from contextlib import asynccontextmanager

import pytest
import trio

from apexbridge_trio.composition import callback_url
from apexbridge_trio.config import Config, Secret, Server
from apexbridge_trio.log import capture, configure
from apexbridge_trio.plugins import Later, Pending
from apexbridge_trio.protocol.signature import sign_legacy, sign_webhook
from tests.harness.world import open_world, say

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DONE = {"status": "success", "output": "la la"}


class Song:
    """A hybrid tool: it answers that the task `name` is pending, or what `answer` says."""

    def __init__(self, world, later=None, name="song-1"):
        self.tool = world.add_tool("sing")
        self.tool.plugin, self.tool.later, self.tool.call = "suno", later or Later(wait_s=3600), self.call
        self.name = name
        self.addresses = []
        self.called = trio.Event()
        self.answer = None
        self.running = None

    async def call(self, arguments, context):
        self.addresses.append(context.callback)
        self.called.set()
        await trio.lowlevel.checkpoint()
        if self.answer is not None:
            return await self.answer(context.callback)
        return Pending(self.name, self.running)

    @property
    def token(self):
        return self.addresses[-1].token

    @property
    def path(self):
        """As a plugin makes it, which can only append to its address."""
        return self.addresses[-1].base_url.partition("8088")[2] + f"/suno/{self.name}"


PATH = "/plugin-callback/suno/song-1"


@asynccontextmanager
async def waiting(state, later=None, **sections):
    """A chat that waits for a song; what it says in the end is in `answers`."""
    async with open_world(state, **sections) as world, world.client() as client:
        song = Song(world, later)
        await client.chat(say("sing {}", "hands", requestId="r1"))
        await song.called.wait()
        await trio.testing.wait_all_tasks_blocked()
        yield world, song, client


def bearer(key):
    return f"Authorization: Bearer {key}"


def key(world, *scopes, **more):
    return bearer(world.hub.keys.create(scopes=scopes, **more)[0])


def on_disk(state):
    return {
        str(path.relative_to(state / "async_results")): json.loads(path.read_bytes())
        for path in state.glob("async_results/*/*")
    }


async def told(client):
    """What the provider was told of the tool's outcome, which it says again."""
    reply = await client.reply()
    assert reply.status == 200
    return reply.json["choices"][0]["message"]["content"]


async def test_a_callback_wakes_the_chat_that_waits(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, client):
        started = trio.current_time()
        assert song.addresses[0].base_url == f"http://127.0.0.1:8088/plugin-callback/~{song.token}"
        half = await world.ask("POST", song.path, {"status": "progress", "progress": 0.5, "message": "verse"})
        assert (half.status, half.json["message"]) == (200, "The progress was noted.")
        (callback_flight,) = world.hub.flights.find("r1/round1/sing", world_owner(world)).children.values()
        assert (callback_flight.path, callback_flight.kind) == ("r1/round1/sing/callback", "callback")
        assert callback_flight.remarks == {"progress": 0.5, "message": "verse"}
        reply = await world.ask("POST", song.path, DONE)
        assert (reply.status, reply.json) == (
            200,
            {"status": "success", "message": "The result was taken.", "taskId": "song-1", "plugin": "suno"},
        )
        assert on_disk(tmp_path) == {"suno/song-1.json": DONE}
        assert "la la" in await told(client)
        assert trio.current_time() - started < 1
        again = await world.ask("POST", song.path, DONE)
        assert (again.status, again.json["duplicate"]) == (200, True)
        other = await world.ask("POST", song.path, {"status": "success", "output": "lo lo"})
        assert (other.status, other.json["error"]["code"]) == (409, "task_settled")
        assert other.headers["x-should-retry"] == "false"
        assert on_disk(tmp_path) == {"suno/song-1.json": DONE}
        assert world.hub.pendings._tasks.notices() == []
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


def world_owner(world):
    (root,) = world.hub.flights._roots.values()
    return root.owner


@pytest.mark.parametrize(
    ("word", "told_word"),
    [("Succeed", "la la"), ("completed", "la la"), ("Failed", "no voice"), ("PollingTimeout", "task_failed")],
)
async def test_what_older_plugins_say(tmp_path, autojump_clock, word, told_word):
    async with waiting(tmp_path) as (world, song, client):
        body = {"status": word, "result": "la la", "error": "no voice", "requestId": "song-1"}
        assert (await world.ask("POST", song.path, body)).status == 200
        assert told_word in await told(client)
        assert on_disk(tmp_path) == {"suno/song-1.json": body}


def signed_headers(body, *, secret=SECRET, message_id="m1", at=None):
    now = int(time.time()) if at is None else at
    return (
        f"webhook-id: {message_id}",
        f"webhook-timestamp: {now}",
        f"webhook-signature: v1,AAAA {sign_webhook(secret, message_id, now, body)}",
    )


def legacy_headers(body, authorization=""):
    now = int(time.time())
    said = (f"Authorization: {authorization}",) if authorization else ()
    return (*said, f"X-Timestamp: {now}", f"X-Signature: {sign_legacy(SECRET, authorization, now, body)}")


def with_secret(world):
    world.hub.config.callbacks.signing_secrets["suno"] = [Secret("whsec_b2xkIG9sZCBvbGQ="), Secret(SECRET)]


BODY = b'{ "status":"success",  "output": "la la" }'

WAYS = {
    "token in a header": lambda world, song: (PATH, (bearer(song.token),)),
    "token in the path": lambda world, song: (song.path, ()),
    "token in the path, odd header": lambda world, song: (song.path, ("Authorization: Basic eA==",)),
    "key": lambda world, song: (PATH, (key(world, "callback"),)),
    "webhook": lambda world, song: (PATH, signed_headers(BODY)),
    "legacy": lambda world, song: (PATH, legacy_headers(BODY)),
    "legacy with authorization": lambda world, song: (PATH, legacy_headers(BODY, "Bearer xyz")),
}


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_to_be_believed(tmp_path, autojump_clock, way):
    async with waiting(tmp_path) as (world, song, client):
        with_secret(world)
        path, headers = WAYS[way](world, song)
        assert (await world.ask("POST", path, BODY, *headers)).status == 200
        assert "la la" in await told(client)


FORGED = {
    "nothing": lambda world, song: (PATH, (), 401),
    "another token": lambda world, song: (PATH, (bearer("apx_cb_" + "A" * 43),), 401),
    "a token in the path that is none": lambda world, song: ("/plugin-callback/~x/suno/song-1", (), 401),
    "no token in the path": lambda world, song: ("/plugin-callback/~/suno/song-1", (), 401),
    "a key without the scope": lambda world, song: (PATH, (key(world, "chat"),), 403),
    "a key of another tenant": lambda world, song: (PATH, (key(world, "callback", tenant_id="b"),), 404),
    "a revoked key": lambda world, song: (PATH, (revoked(world),), 401),
    "another secret": lambda world, song: (PATH, signed_headers(BODY, secret="whsec_AAAA"), 401),
    "another body": lambda world, song: (PATH, signed_headers(BODY + b" "), 401),
    "long ago": lambda world, song: (PATH, signed_headers(BODY, at=int(time.time()) - 4000), 401),
    "of the future": lambda world, song: (PATH, signed_headers(BODY, at=int(time.time()) + 4000), 401),
    "legacy, another body": lambda world, song: (PATH, legacy_headers(BODY + b" "), 401),
    "legacy, for another plugin": lambda world, song: (
        "/plugin-callback/luna/song-1",
        legacy_headers(BODY),
        401,
    ),
    "token for another task": lambda world, song: (
        "/plugin-callback/suno/song-2",
        (bearer(song.token),),
        403,
    ),
    "token for another plugin": lambda world, song: (
        "/plugin-callback/luna/song-1",
        (bearer(song.token),),
        403,
    ),
}


def revoked(world):
    made, record = world.hub.keys.create(scopes=["callback"])
    world.hub.keys.revoke(record.id)
    return bearer(made)


@pytest.mark.parametrize("forgery", FORGED)
async def test_a_forged_callback_changes_nothing(tmp_path, autojump_clock, forgery):
    async with waiting(tmp_path) as (world, song, client):
        with_secret(world)
        path, headers, status = FORGED[forgery](world, song)
        refused = await world.ask("POST", path, BODY, *headers)
        assert (refused.status, set(refused.json)) == (status, {"error", "request_id"})
        assert on_disk(tmp_path) == {}
        assert (await world.ask("POST", song.path, BODY)).status == 200
        assert "la la" in await told(client)


async def test_a_replayed_message_is_a_duplicate_here_and_nothing_elsewhere(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, _client):
        with_secret(world)
        headers = signed_headers(BODY)
        assert (await world.ask("POST", PATH, BODY, *headers)).status == 200
        assert (await world.ask("POST", PATH, BODY, *headers)).json["duplicate"] is True
        async with world.client() as second:
            song.name = "song-2"
            await second.chat(say("sing {}", "hands", requestId="r2"))
            await trio.testing.wait_all_tasks_blocked()
            replayed = await world.ask("POST", "/plugin-callback/suno/song-2", BODY, *headers)
            assert (replayed.status, replayed.json["error"]["code"]) == (401, "invalid_signature")
            assert set(on_disk(tmp_path)) == {"suno/song-1.json"}


@pytest.mark.parametrize(
    "path",
    [
        "/plugin-callback/../hub.sqlite3", "/plugin-callback/suno/..", "/plugin-callback/suno/%2e%2e",
        "/plugin-callback/suno/..%2f..%2fx", "/plugin-callback/%2e%2e/x", "/plugin-callback/suno/a%00b",
        "/plugin-callback/suno/" + "x" * 201, "/plugin-callback/suno", "/plugin-callback", "/plugin-callback/",
        "/plugin-callback/suno/a/b", "/plugin-callback//song-1", "/plugin-callback/~t/~t/suno/song-1",
        "/plugin-callback/suno/%E4%B8%AD",
    ],
)  # fmt: skip
async def test_a_path_that_is_none_leads_nowhere(tmp_path, autojump_clock, path):
    state = tmp_path / "state"
    state.mkdir()
    async with open_world(state) as world:
        before = sorted(tmp_path.rglob("*"))
        refused = await world.ask("POST", path, DONE, key(world, "callback"))
        assert (refused.status, refused.json["error"]["code"]) == (404, "not_found")
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", (), 400),
        (b"[]", (), 400),
        (b'{"status": "maybe"}', (), 400),
        (b'{"status": "success", "output": "' + b"x" * 5000 + b'"}', (), 413),
        (BODY, ("Content-Encoding: gzip",), 415),
    ],
)
async def test_a_body_that_is_none_changes_nothing(tmp_path, autojump_clock, body, headers, status):
    async with waiting(tmp_path, callbacks={"max_body_bytes": 4096}) as (world, song, client):
        assert (await world.ask("POST", song.path, body, *headers)).status == status
        assert on_disk(tmp_path) == {}
        assert (await world.ask("POST", song.path, DONE)).status == 200
        assert "la la" in await told(client)


async def test_a_body_of_another_type_and_another_method(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, _client), world.client() as raw:
        await raw.send(f"POST {song.path} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n".encode())
        await raw.send(b"Content-Length: 2\r\n\r\n{}")
        assert (await raw.reply()).status == 415
        refused = await world.ask("GET", song.path)
        assert (refused.status, refused.headers["allow"]) == (405, "post")  # the peer lowers


async def test_a_slow_callback_is_cut_and_can_be_sent_again(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, client), world.client() as slow:
        await slow.send(f"POST {song.path} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert (await slow.reply()).status == 408
        assert (await world.ask("POST", song.path, DONE)).status == 200
        assert "la la" in await told(client)


async def test_more_than_the_disk_can_follow_is_told_to_come_again(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr("apexbridge_trio.pending.pendings.MOST_WAITING_BYTES", 10)
    async with waiting(tmp_path) as (world, song, _client):
        refused = await world.ask("POST", song.path, DONE)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "x-should-retry" not in refused.headers
        assert on_disk(tmp_path) == {}


async def test_an_interrupt_withdraws_the_task(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, client):
        receipt = (await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})).json
        assert receipt["state"] == "stopped"
        kinds = {branch["path"]: branch["kind"] for branch in receipt["branches"]}
        assert kinds["r1/round1/sing/callback"] == "callback"
        assert (await client.reply()).status == 499
        with capture() as lines:
            late = await world.ask("POST", song.path, DONE)
        assert (late.status, late.json["error"]["code"]) == (410, "task_interrupted")
        (refused,) = [line for line in lines if line["event"] == "callback refused"]
        assert (refused["reason"], refused["task_id"]) == ("gone", "song-1")
        assert world.hub.pendings.task_of(song.token).late == 1
        assert on_disk(tmp_path) == {}
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_an_interrupt_of_the_wait_alone_is_told_to_the_model(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, client):
        await world.ask("POST", "/v1/interrupt", {"path": "r1/round1/sing/callback"})
        assert "interrupted" in await told(client)
        assert (await world.ask("POST", song.path, DONE)).status == 410


class Running(trio.abc.AsyncResource):
    def __init__(self):
        self.closed = trio.Event()

    async def aclose(self):
        self.closed.set()
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["callback", "interrupt"])
async def test_what_still_runs_is_ended_with_its_task(tmp_path, autojump_clock, how):
    async with open_world(tmp_path) as world, world.client() as client:
        song = Song(world)
        song.running = Running()
        await client.chat(say("sing {}", "hands", requestId="r1"))
        await song.called.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not song.running.closed.is_set()
        if how == "callback":
            await world.ask("POST", song.path, DONE)
        else:
            await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})
        assert song.running.closed.is_set()
        await client.reply()
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_the_model_is_told_that_it_is_pending_and_the_owner_is_owed_the_rest(tmp_path, autojump_clock):
    async with waiting(tmp_path, Later(wait_s=5)) as (world, song, client):
        started = trio.current_time()
        said = await told(client)
        assert trio.current_time() - started >= 5
        assert "pending" in said
        assert "song-1" in said
        assert (await world.ask("POST", song.path, DONE)).status == 200
        (notice,) = world.hub.pendings._tasks.notices()
        assert json.loads(notice.body) == {
            "taskId": "song-1", "plugin": "suno", "tool": "sing", "state": "succeeded", "message": ""
        }  # fmt: skip


@pytest.mark.parametrize("end", ["the client leaves", "the deadline"])
async def test_who_only_leaves_loses_no_result(tmp_path, autojump_clock, end):
    async with open_world(tmp_path) as world:
        song = Song(world)
        async with world.client() as client:
            await client.chat(say("sing {}", "hands", apex={"timeoutS": 10}))
            await song.called.wait()
            await trio.testing.wait_all_tasks_blocked()
            if end == "the deadline":
                assert (await client.reply()).status == 504
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}
        assert (await world.ask("POST", song.path, DONE)).status == 200
        assert len(world.hub.pendings._tasks.notices()) == 1


async def test_a_restarted_hub_takes_the_result(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (_world, song, _client):
        pass
    async with open_world(tmp_path) as world:
        assert (await world.ask("POST", song.path, DONE)).status == 200
        assert (await world.ask("POST", song.path, DONE)).json["duplicate"] is True
        assert on_disk(tmp_path) == {"suno/song-1.json": DONE}
        assert len(world.hub.pendings._tasks.notices()) == 1


@pytest.mark.parametrize("way", ["token", "key", "webhook"])
async def test_a_callback_may_overtake_the_plugin_s_own_answer(tmp_path, autojump_clock, way):
    async with open_world(tmp_path) as world:
        with_secret(world)
        song = Song(world)

        async def overtakes(_address):
            headers = {"token": (), "key": (key(world, "callback"),), "webhook": signed_headers(BODY)}[way]
            path = song.path if way == "token" else PATH
            assert (await world.ask("POST", path, BODY, *headers)).status == 200
            return Pending("song-1")

        song.answer = overtakes
        async with world.client() as client:
            await client.chat(say("sing {}", "hands"))
            assert "la la" in await told(client)
        assert world.hub.pendings._tasks.notices() == []
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_a_hybrid_tool_may_answer_at_once(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        song = Song(world)

        async def at_once(_address):
            return "la la at once"

        song.answer = at_once
        async with world.client() as client:
            await client.chat(say("sing {}", "hands"))
            assert "la la at once" in await told(client)
        assert (await world.ask("POST", song.path, DONE)).status == 401


async def test_a_name_that_may_not_be_is_the_plugin_s_failure(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        song = Song(world, name="../../etc")
        song.running = Running()
        async with world.client() as client:
            await client.chat(say("sing {}", "hands"))
            assert "bad_task_id" in await told(client)
        assert song.running.closed.is_set()
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_what_failed_is_tried_again_as_the_manifest_says(tmp_path, autojump_clock):
    later = Later(wait_s=3600, attempts=3, backoff_s=2.0)
    async with waiting(tmp_path, later) as (world, song, client):
        for attempt, pause in enumerate([2.0, 4.0], 1):
            failed = {"status": "failed", "error": "hoarse"}
            before = trio.current_time()
            song.called = trio.Event()
            path, song.name = song.path, f"song-{attempt + 1}"
            assert (await world.ask("POST", path, failed)).status == 200
            await song.called.wait()
            assert trio.current_time() - before >= pause
            await trio.testing.wait_all_tasks_blocked()
        assert (await world.ask("POST", song.path, DONE)).status == 200
        assert "la la" in await told(client)
        assert len({address.token for address in song.addresses}) == 3
        assert world.hub.pendings._tasks.notices() == []


async def test_an_interrupt_between_two_attempts_ends_them(tmp_path, autojump_clock):
    async with waiting(tmp_path, Later(wait_s=3600, attempts=3, backoff_s=60.0)) as (world, song, client):
        assert (await world.ask("POST", song.path, {"status": "failed", "error": "hoarse"})).status == 200
        await trio.testing.wait_all_tasks_blocked()
        receipt = (await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})).json
        assert receipt["state"] == "stopped"
        assert (await client.reply()).status == 499
        await trio.sleep(600)
        assert len(song.addresses) == 1
        assert (await world.ask("POST", song.path, DONE)).status == 409
        assert len(world.hub.pendings) == 0
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


@pytest.mark.parametrize("end", ["interrupted", "timed_out", "failed"])
async def test_what_was_over_before_a_restart_is_over_after_it(tmp_path, autojump_clock, end):
    later = Later(wait_s=3600, expires_s=0.001 if end == "timed_out" else 3600)
    async with waiting(tmp_path, later) as (world, song, client):
        if end == "interrupted":
            await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})
            assert (await client.reply()).status == 499
        if end == "failed":
            await world.ask("POST", song.path, {"status": "failed", "error": "hoarse"})
    # The plugin is not there any more, either.
    async with open_world(tmp_path) as world:
        late = await world.ask("POST", song.path, DONE)
        if end == "failed":
            assert (late.status, late.json["error"]["code"]) == (409, "task_settled")
        else:
            assert (late.status, late.json["error"]["code"]) == (410, f"task_{end}")


async def test_a_long_result_is_cut_for_the_model_and_whole_on_disk(tmp_path, autojump_clock):
    async with waiting(tmp_path, Later(max_output_bytes=20)) as (world, song, client):
        long = {"status": "success", "output": "la " * 20}
        assert (await world.ask("POST", song.path, long)).status == 200
        said = await told(client)
        assert "62 bytes, the limit is 20" in said
        assert "la " * 7 not in said
        assert on_disk(tmp_path) == {"suno/song-1.json": long}


async def test_a_token_reaches_no_log_line(tmp_path, autojump_clock):
    stream = io.StringIO()
    async with waiting(tmp_path) as (world, song, _client):
        configure("debug", "json", stream)
        try:
            odd = "/plugin-callback/~not-of-ours-but-secret/suno/song-1"
            assert (await world.ask("POST", odd, DONE)).status == 401
            assert (await world.ask("POST", song.path, DONE, bearer(song.token))).status == 200
        finally:
            configure()
    written = stream.getvalue()
    assert song.token not in written
    assert "not-of-ours" not in written
    assert written.count('"path": "/plugin-callback/~***/suno/song-1"') == 2


@pytest.mark.parametrize(
    ("public_url", "address", "url"),
    [
        ("", "127.0.0.1:8088", "http://127.0.0.1:8088/plugin-callback"),
        ("", "0.0.0.0:9", "http://127.0.0.1:9/plugin-callback"),
        ("", "[::]:9", "http://[::1]:9/plugin-callback"),
        ("https://home.example/hub/", "0.0.0.0:9", "https://home.example/hub/plugin-callback"),
    ],
)
def test_plugins_are_told_an_address_that_leads_here(public_url, address, url):
    assert callback_url(Config(server=Server(public_url=public_url)), address) == url
