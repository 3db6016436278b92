"""``GET /metrics``: what is told, to whom, and that nobody can make it grow."""

from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from apexbridge_trio.metrics import rooms
from tests.harness.journal import broken
from tests.harness.node import joined
from tests.harness.world import World, events, open_world, say
from tests.plugins.folders import call_tool


@pytest.fixture
def state(tmp_path):
    return tmp_path


def bearer(world: World, *scopes: str) -> str:
    return f"Authorization: Bearer {world.hub.keys.create(scopes=list(scopes))[0]}"


class Page:
    """A page as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self._values = {(one.name, frozenset(one.labels.items())): one.value for one in samples}
        self.series = len(self._values)
        assert len(samples) == self.series, "a series was told twice"

    def value(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, frozenset(labels.items())))


async def page_of(world: World) -> Page:
    reply = await world.ask("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(reply.body.decode())


async def test_a_chat_shows_in_every_room(state, autojump_clock):
    async with open_world(state) as world:
        streamed = await world.chat(
            say("x", "stream:5:100", stream=True, stream_options={"include_usage": True})
        )
        assert events(streamed)
        await world.chat(say("x", "hello"))
        await world.chat(say("x", "status:500"))
        page = await page_of(world)
        chat = {"gen_ai_operation_name": "chat"}
        route = "/v1/chat/completions"
        assert page.value("apexbridge_requests_total", route=route, outcome="completed") == 2
        assert page.value("apexbridge_requests_total", route=route, outcome="failed") == 1
        assert page.value("apexbridge_request_duration_seconds_count", route=route) == 3
        first = "gen_ai_server_time_to_first_token_seconds_count"
        assert page.value(first, gen_ai_request_model="stream:5:100", **chat) == 1
        assert page.value(first, gen_ai_request_model="hello", **chat) is None
        answers = "gen_ai_server_request_duration_seconds_count"
        assert page.value(answers, gen_ai_request_model="hello", error_type="", **chat) == 1
        failed = {"gen_ai_request_model": "status:500", "error_type": "upstream_failed"}
        assert page.value(answers, **failed, **chat) == 1
        calls = "gen_ai_client_operation_duration_seconds_count"
        assert page.value(calls, gen_ai_provider_name="up", **failed, **chat) == 1
        tokens = "gen_ai_client_token_usage_sum"
        told_by = {"gen_ai_provider_name": "up", "gen_ai_request_model": "hello", **chat}
        assert (page.value(tokens, gen_ai_token_type="output", **told_by) or 0) > 0
        assert page.value("apexbridge_upstream_requests_total", upstream="up", outcome="ok") == 2
        assert page.value("apexbridge_upstream_requests_total", upstream="up", outcome="upstream_failed") == 3
        assert page.value("apexbridge_upstream_retries_total", upstream="up") == 2
        assert page.value("apexbridge_upstream_circuit", upstream="up", state="closed") == 1
        assert page.value("apexbridge_upstream_slots_limit", upstream="up") == 64
        assert page.value("apexbridge_upstream_slots_used", upstream="up") == 0
        assert (page.value("process_open_fds") or 0) > 2
        assert (page.value("process_resident_memory_bytes") or 0) > 10**7


async def test_a_family_has_its_kind_before_anything_was_counted(state, autojump_clock):
    async with open_world(state) as world:
        kinds = {name: family.type for name, family in (await page_of(world)).families.items()}
        assert kinds["gen_ai_client_token_usage"] == kinds["apexbridge_loop_lag_seconds"] == "histogram"
        assert kinds["apexbridge_requests"] == kinds["apexbridge_journal_failures"] == "counter"
        assert kinds["apexbridge_flights"] == "gauge"


async def test_what_runs_is_told_while_it_runs(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        await client.chat(say("x", "stall", requestId="r1"))
        await world.provider.asked(0)
        page = await page_of(world)
        assert page.value("apexbridge_flights", kind="chat") == 1
        assert page.value("apexbridge_flights", kind="upstream") == 1
        assert page.value("apexbridge_upstream_slots_used", upstream="up") == 1
        await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})
        assert (await client.reply()).status == 499
        page = await page_of(world)
        assert page.value("apexbridge_flights", kind="chat") is None
        route = "/v1/chat/completions"
        assert page.value("apexbridge_requests_total", route=route, outcome="interrupted") == 1
        told = {
            "gen_ai_operation_name": "chat",
            "gen_ai_provider_name": "up",
            "gen_ai_request_model": "stall",
        }
        calls = "gen_ai_client_operation_duration_seconds_count"
        assert page.value(calls, error_type="cancelled", **told) == 1


async def test_plugins_tell_their_calls_and_seconds(state, autojump_clock):
    async with open_world(state) as world:
        await call_tool(world.hub.plugins.tools["clock_now"], {})
        page = await page_of(world)
        assert page.value("apexbridge_plugin_calls_total", plugin="clock", outcome="succeeded") == 1
        assert page.value("apexbridge_plugin_calls_running", plugin="clock") == 0
        assert page.value("apexbridge_plugin_state", plugin="clock", state="ready") == 1
        assert page.value("apexbridge_plugin_seconds_total", plugin="clock") is not None


async def test_the_journal_tells_of_a_broken_disk(state, autojump_clock):
    async with open_world(state) as world:
        await world.hub.journal.post(lambda: None).wait()
        page = await page_of(world)
        assert (page.value("apexbridge_journal_write_seconds_count") or 0) >= 1
        assert page.value("apexbridge_journal_failures_total") == 0
        with broken(world):
            world.hub.journal.post(lambda: None)
        assert (await page_of(world)).value("apexbridge_journal_failures_total") == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", [], 200),
        ("::1", ["Host: [::1]:8088"], 200),
        ("192.0.2.7", ["Host: hub.lan"], 401),
        ("127.0.0.1", ["X-Forwarded-For: 192.0.2.1"], 401),
        ("127.0.0.1", ["Host: evil.example"], 403),
        ("127.0.0.1", ["Origin: https://evil.example"], 403),
        ("127.0.0.1", ["Origin: null"], 403),
        ("127.0.0.1", ["Authorization: Bearer wrong"], 401),
    ],
)
async def test_without_a_key_only_this_machine_reads_it(state, autojump_clock, address, headers, status):
    async with open_world(state) as world, world.client(address) as client:
        reply = await client.ask("GET", "/metrics", None, *headers)
        assert reply.status == status
        assert (b"apexbridge_" in reply.body) is (status == 200)


@pytest.mark.parametrize(("scope", "status"), [("admin", 200), ("chat", 403), ("node", 403), ("logs", 403)])
async def test_a_key_must_be_an_administrators(state, autojump_clock, scope, status):
    async with open_world(state) as world, world.client("192.0.2.7") as far:
        reply = await far.ask("GET", "/metrics", None, "Host: hub.lan", bearer(world, scope))
        assert reply.status == status


async def test_where_every_call_needs_a_key_this_one_does(state, autojump_clock):
    async with open_world(state, auth={"loopback": "none"}) as world:
        assert (await world.ask("GET", "/metrics")).status == 401
        assert (await world.ask("GET", "/metrics", None, bearer(world, "admin"))).status == 200


async def test_names_that_clients_make_up_are_no_labels(state, autojump_clock):
    """Models, paths, ids, tenants, agents of the user: none of it makes a series, or is on the page."""
    async with open_world(state) as world:
        await world.chat(say("x", "hello"))
        await world.ask("GET", "/v1/nothing0")
        before = await page_of(world)
        for number in range(150):
            mark = f"zzz{number}"
            named: dict[str, Any] = {"requestId": f"zzz-{number}", "user": mark}
            assert (await world.chat(say("x", mark, **named))).status == 404
            await world.ask("GET", f"/zzz/{number}")
            await world.ask("GET", f"/v1/models/{mark}", None, f"User-Agent: {mark}")
            await world.ask("POST", f"/plugin-callback/{mark}/task-{number}", {"status": "success"})
            await world.ask("GET", "/health", None, f"X-Request-Id: {mark}", f"X-Tenant-Id: {mark}")
        reply = await world.ask("GET", "/metrics")
        assert b"zzz" not in reply.body
        after = Page(reply.body.decode())
        # Routes that were not asked before (models, callbacks, health, this page) have some each.
        assert after.series - before.series < 150


async def test_what_is_told_is_escaped(state, autojump_clock):
    """A name of the config may have anything in it."""
    odd = 'a"b\\c'
    models = [{"id": odd, "upstream": "up", "name": "hello"}]
    async with open_world(state, models=models) as world:
        assert (await world.chat(say("x", odd))).status == 200
        page = await page_of(world)
        name = "gen_ai_server_request_duration_seconds_count"
        assert page.value(name, gen_ai_operation_name="chat", gen_ai_request_model=odd, error_type="") == 1


async def test_nodes_beyond_the_most_are_told_as_one(state, autojump_clock, monkeypatch):
    """Whoever has a key for nodes may take any number of names."""
    monkeypatch.setattr(rooms, "MOST_NODES", 1)
    async with (
        open_world(state) as world,
        joined(world, "attic"),
        joined(world, "barn"),
        joined(world, "zoo"),
    ):
        reply = await world.ask("GET", "/metrics")
        assert b"barn" not in reply.body
        page = Page(reply.body.decode())
        assert page.value("apexbridge_node_up", node="attic") == 1
        assert page.value("apexbridge_node_tasks_total", node="other", outcome="succeeded") == 0
        assert page.value("apexbridge_nodes", status="online") == 3
        assert page.value("apexbridge_sockets", channel="node") == 3


async def test_open_channels_are_counted(state, autojump_clock):
    async with open_world(state) as world:
        key = world.hub.keys.create(scopes=["chat"])[0]
        async with world.client() as client:
            await client.send(
                f"GET /abp-client/VCP_Key={key} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            await trio.testing.wait_all_tasks_blocked()
            page = await page_of(world)
            assert page.value("apexbridge_sockets", channel="client") == 1
            assert page.value("apexbridge_event_subscribers") == 1
        await trio.testing.wait_all_tasks_blocked()
        page = await page_of(world)
        assert page.value("apexbridge_sockets", channel="client") == 0
        assert page.value("apexbridge_requests_total", route="channel:client", outcome="completed") == 1
