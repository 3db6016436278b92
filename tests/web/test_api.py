"""Models, the live tree, health, and who may come in."""

import pytest

from apexbridge_trio.log import capture
from apexbridge_trio.web.api import build_api
from tests.harness.node import key_for
from tests.harness.world import open_world, say


@pytest.fixture
def state(tmp_path):
    return tmp_path


def bearer(world, *scopes, **more):
    return f"Authorization: Bearer {world.hub.keys.create(scopes=list(scopes), **more)[0]}"


async def test_models_are_listed_and_found(state, autojump_clock):
    async with open_world(state) as world:
        listed = (await world.ask("GET", "/v1/models")).json
        assert listed["object"] == "list"
        owners = {model["id"]: model["owned_by"] for model in listed["data"]}
        assert {"apex-intents": "apexbridge", "hands": "up", "hello": "up"}.items() <= owners.items()
        one = (await world.ask("GET", "/v1/models/stream:5:100")).json
        assert (one["id"], one["object"]) == ("stream:5:100", "model")
        assert (await world.ask("GET", "/v1/models/nothing")).json["error"]["code"] == "model_not_found"


async def test_health_says_how_it_is(state, autojump_clock):
    async with open_world(state) as world:
        said = (await world.ask("GET", "/health")).json
        assert (said["status"], said["draining"]) == ("ok", False)
        assert [entry["name"] for entry in said["dependencies"]] == [
            "store",
            "disk",
            "clock",
            "plugins",
            "nodes",
            "up",
        ]
        async with world.client("192.0.2.7") as far:
            assert "dependencies" not in (await far.ask("GET", "/health", None, "Host: hub.lan")).json
            admin = await far.ask("GET", "/health", None, "Host: hub.lan", bearer(world, "admin"))
            assert "dependencies" in admin.json
        world.hub.flights.is_draining = True
        assert (await world.ask("GET", "/health/ready")).status == 503
        assert (await world.ask("GET", "/health/live")).status == 200
        refused = await world.chat(say("x", "hello"))
        assert (refused.status, refused.json["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0


async def test_the_live_tree_is_shown_to_its_tenant(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        await client.chat(say("x", "stall", requestId="r1", apex={"timeoutS": 60}))
        await world.provider.asked(0)
        mine, theirs = bearer(world, "chat"), bearer(world, "chat", tenant_id="b")
        (entry,) = (await world.ask("GET", "/v1/requests", None, mine)).json
        assert (entry["id"], entry["kind"], entry["state"], entry["deadlineInMs"]) == (
            "r1",
            "chat",
            "running",
            60000,
        )
        assert [child["id"] for child in entry["children"]] == ["r1/round1/llm"]
        one = (await world.ask("GET", "/v1/requests/r1", None, mine)).json
        assert (one["requestId"], one["status"]) == ("r1", "running")
        assert (await world.ask("GET", "/v1/requests", None, theirs)).json == []
        assert (await world.ask("GET", "/v1/requests/r1", None, theirs)).status == 404
        foreign = await world.ask("POST", "/v1/interrupt", {"requestId": "r1"}, theirs)
        unknown = await world.ask("POST", "/v1/interrupt", {"requestId": "r2"}, theirs)
        assert foreign.status == unknown.status == 404
        assert foreign.json["message"].replace("r1", "r2") == unknown.json["message"]
        assert len(world.hub.flights) == 1
        assert (await world.ask("POST", "/v1/interrupt", {"path": "r1/round1/llm"}, mine)).json[
            "state"
        ] == "stopped"
        assert (await client.reply()).status == 499


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "requestId"),
        ({"requestId": 5}, "requestId"),
        ({"requestId": "r", "waitS": -1}, "waitS"),
        ({"requestId": "r", "waitS": 1e9}, "waitS"),
        ({"path": ""}, "path"),
        (b"nonsense", None),
    ],
)
async def test_a_bad_interrupt_is_told(state, autojump_clock, body, param):
    async with open_world(state) as world:
        reply = await world.ask("POST", "/v1/interrupt", body)
        assert (reply.status, reply.json["error"]["param"]) == (400, param)


async def test_an_interrupt_of_nothing_is_said_in_both_forms(state, autojump_clock):
    async with open_world(state) as world:
        reply = await world.ask("POST", "/v1/interrupt", {"taskId": "task_1"})
        assert reply.status == 404
        said = reply.json
        assert (said["success"], said["status"], said["reason"], said["requestId"]) == (
            False,
            "error",
            "not_found",
            "task_1",
        )
        assert said["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", [], 200),
        ("127.0.0.1", ["Host: 127.0.0.1:9"], 200),
        ("::1", ["Host: [::1]:8088"], 200),
        ("127.0.0.1", ["Origin: http://localhost:3000"], 200),
        ("127.0.0.1", ["Host: evil.example"], 403),
        ("127.0.0.1", ["Host: localhost.evil.example"], 403),
        ("127.0.0.1", ["Host: [::1"], 403),
        ("127.0.0.1", ["Origin: https://evil.example"], 403),
        ("127.0.0.1", ["Origin: null"], 403),
        ("127.0.0.1", ["Sec-Fetch-Site: cross-site"], 403),
        ("127.0.0.1", ["Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"], 200),
        ("127.0.0.1", ["X-Forwarded-For: 192.0.2.1"], 401),
        ("127.0.0.1", ["X-Forwarded-Proto: https"], 401),
        ("127.0.0.1", ["Via: 1.1 front"], 401),
        ("127.0.0.1", ["Tailscale-User-Login: me@example.org"], 401),
        ("192.0.2.7", [], 401),
        ("127.0.0.1", ["Authorization: Bearer wrong"], 401),
        ("127.0.0.1", ["Authorization: Basic eDp5"], 401),
        ("127.0.0.1", ["Authorization: Bearer"], 401),
    ],
)
async def test_who_may_chat_without_a_key(state, autojump_clock, address, headers, status):
    async with open_world(state) as world, world.client(address) as client:
        reply = await client.ask("POST", "/v1/chat/completions", say("x", "hello"), *headers)
        assert reply.status == status
        if status == 401:
            assert reply.headers["www-authenticate"] == "bearer"
            assert reply.json["error"]["type"] == "authentication_error"


async def test_where_every_call_needs_a_key_the_details_of_the_health_do(state, autojump_clock):
    async with open_world(state, auth={"loopback": "none"}) as world:
        assert "dependencies" not in (await world.ask("GET", "/health")).json
        mine = f"Authorization: Bearer {key_for(world, 'admin')}"
        assert "dependencies" in (await world.ask("GET", "/health", None, mine)).json


async def test_a_key_is_a_principal_with_scopes(state, autojump_clock):
    async with open_world(state, auth={"loopback": "none"}) as world, world.client("192.0.2.7") as far:
        host = "Host: hub.lan"
        assert (await world.chat(say("x", "hello"))).status == 401
        assert (
            await far.ask("POST", "/v1/chat/completions", say("x", "hello"), host, bearer(world, "chat"))
        ).status == 200
        refused = await far.ask(
            "POST", "/v1/chat/completions", say("x", "hello"), host, bearer(world, "logs")
        )
        assert (refused.status, refused.json["error"]["type"]) == (403, "permission_error")
        assert (await far.ask("GET", "/v1/requests", None, host, bearer(world, "admin"))).json == []


async def test_tenants_can_only_be_narrowed(state, autojump_clock):
    async with open_world(state) as world:
        key = bearer(world, "chat", tenant_id="a")
        assert (await world.chat(say("x", "hello"), key, "X-Tenant-Id: a", "X-Family-Id: f")).status == 200
        assert (await world.chat(say("x", "hello"), key, "X-Tenant-Id: b")).status == 403
        assert (await world.chat(say("x", "hello", tenantId="b"), key)).status == 403
        assert (await world.ask("GET", "/v1/requests", None, key, "X-Tenant-Id: b")).status == 403
        assert (await world.chat(say("x", "hello"), key, "X-Tenant-Id: a/b")).status == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/interrupt", {"requestId": "r1"}),
        ("/v1/tasks", {"toolName": "echo"}),
        ("/v1/notifications", {"message": "x"}),
        ("/v1/reminders", {"text": "x", "in": 60}),
    ],
)
async def test_so_they_can_by_every_body(state, autojump_clock, path, body):
    async with open_world(state) as world:
        key = bearer(world, "chat", "admin", tenant_id="a", family_id="f")
        own = await world.ask("POST", path, {**body, "tenantId": "a", "familyId": "f"}, key)
        assert own.status != 403, own.body
        for other in ({"tenantId": "b"}, {"familyId": "g"}):
            refused = await world.ask("POST", path, {**body, **other}, key)
            assert (refused.status, refused.json["error"]["param"]) == (403, next(iter(other)))
        assert (await world.ask("POST", path, {**body, "tenantId": "a/b"}, key)).status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nodes?status=offline", 200),
        ("/v1/nodes?status=off", 400),
        ("/v1/tasks?state=running", 200),
        ("/v1/tasks?state=runs", 400),
    ],
)
async def test_a_state_that_there_is_not_is_not_an_empty_list(state, autojump_clock, path, status):
    async with open_world(state) as world:
        assert (await world.ask("GET", path, None, bearer(world, "admin"))).status == status


async def test_without_a_key_nothing_else_is_open(state, autojump_clock):
    async with open_world(state) as world:
        assert (await world.ask("GET", "/v1/requests")).status == 401
        assert (await world.ask("GET", "/nothing")).json["error"]["code"] == "not_found"
        assert (await world.ask("DELETE", "/v1/models")).json["error"]["code"] == "method_not_allowed"
        async with world.client("192.0.2.7") as far:
            assert (await far.ask("GET", "/nothing")).status == 401


@pytest.mark.parametrize(
    "path", ["//v1/requests", "//v1/models", "/v1//requests", "/v1/models//hello", "/./v1/models"]
)
async def test_a_path_that_a_router_reads_otherwise_opens_nothing(state, autojump_clock, path):
    async with open_world(state) as world:
        for headers in ([], [bearer(world, "logs")], [bearer(world, "admin", "chat")]):
            reply = await world.ask("GET", path, None, *headers)
            assert reply.status in {403, 404}
            assert reply.json["error"]["type"] in {"not_found_error", "permission_error"}


async def test_each_route_has_a_rule(state, autojump_clock):
    async with open_world(state) as world:
        key = bearer(world, "chat", "node", "callback", "logs", "admin")
        for rule in build_api(world.hub).url_map.iter_rules():
            path = str(rule).replace("<", "").replace(">", "").replace("path:", "")
            reply = await world.ask("TRACE", path, {}, key)
            assert reply.status == 405, path


async def test_a_method_that_is_not_there_is_told_which_are(state, autojump_clock):
    async with open_world(state) as world:
        assert (await world.ask("PUT", "/v1/chat/completions")).headers["allow"] == "post"
        assert (await world.ask("PUT", "/v1/models")).headers["allow"] == "get, head, options"


async def test_a_key_in_a_path_is_not_said_back(state, autojump_clock):
    async with open_world(state) as world:
        for path in ("/log/VCP_Key=topsecret", "/health/VCP_Key=topsecret"):
            reply = await world.ask("GET", path)
            assert reply.status == 404
            assert b"topsecret" not in reply.body


@pytest.mark.parametrize("header", ["Host: evil.example", "Origin: https://evil.example"])
async def test_a_page_of_another_site_is_told_no_details(state, autojump_clock, header):
    async with open_world(state) as world:
        assert "dependencies" in (await world.ask("GET", "/health")).json
        assert "dependencies" not in (await world.ask("GET", "/health", None, header)).json


PAGE = "Origin: https://chat.example"


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tasks", "/plugin-callback/a/b"])
async def test_a_browser_is_told_what_a_page_of_another_site_may(state, autojump_clock, path, address):
    async with open_world(state, auth={"loopback": "none"}) as world, world.client(address) as client:
        asked = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-a"]
        reply = await client.ask("OPTIONS", path, None, PAGE, *asked)
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "post" in reply.headers["access-control-allow-methods"]
        assert reply.headers["access-control-allow-headers"] == "authorization, *"
        assert "access-control-allow-credentials" not in reply.headers
        assert (await client.ask("GET", "/health/live")).status == 200


async def test_a_page_of_another_site_reads_only_with_a_key(state, autojump_clock):
    async with open_world(state) as world:
        key, shown = bearer(world, "chat"), "access-control-allow-origin"
        for stream in (False, True):
            reply = await world.chat(say("x", "hello", stream=stream), key, PAGE)
            assert (reply.status, reply.headers[shown]) == (200, "*")
        for path, headers, status in [
            ("/v1/models", (key, PAGE), 200),
            ("/v1/models", ("Authorization: Bearer no", PAGE), 401),
            ("/v1/keys", (key, PAGE), 403),
            ("/v1/nothing", (key, PAGE), 404),
        ]:
            reply = await world.ask("GET", path, None, *headers)
            assert (reply.status, reply.headers[shown]) == (status, "*")
        for headers in [(PAGE,), (key,), ()]:
            assert shown not in (await world.ask("GET", "/v1/models", None, *headers)).headers
            assert shown not in (await world.ask("GET", "/health", None, *headers)).headers
        assert (await world.chat(say("x", "hello"), PAGE)).status == 403


async def test_request_ids_are_kept_if_they_are_sane(state, autojump_clock):
    async with open_world(state) as world:
        assert (await world.ask("GET", "/health", None, "X-Request-Id: mine-1")).headers[
            "x-request-id"
        ] == "mine-1"
        for bad in ("no spaces", "x" * 201, "a/b"):
            assert (
                (await world.ask("GET", "/health", None, f"X-Request-Id: {bad}"))
                .headers["x-request-id"]
                .startswith("req_")
            )


async def test_a_websocket_where_there_is_no_channel_is_refused_with_http(state, autojump_clock):
    async with open_world(state) as world:
        upgrade = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        async with world.client() as client:
            await client.send(
                "\r\n".join(["GET /nothing HTTP/1.1", "Host: localhost", *upgrade, "", ""]).encode()
            )
            reply = await client.reply()
        assert (reply.status, reply.json["error"]["code"]) == (404, "not_found")


async def test_the_answer_to_an_upgrade_names_its_request(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        upgrade += [
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            bearer(world, "chat"),
            "X-Request-Id: mine-1",
        ]
        await client.send("\r\n".join(["GET /client HTTP/1.1", "Host: localhost", *upgrade, "", ""]).encode())
        reply = await client.head()
        assert (reply.status, reply.headers["x-request-id"]) == (101, "mine-1")


async def test_each_request_leaves_one_line(state, autojump_clock):
    async with open_world(state) as world:
        with capture() as lines:
            await world.chat(say("x", "hello"), "X-Request-Id: a")
            await world.chat(say("x", "status:500"), "X-Request-Id: b")
            async with world.client() as client:
                await client.chat(say("x", "stall"), "X-Request-Id: c")
                await world.provider.asked(4)
        told = {line["request_id"]: line for line in lines if line["event"] == "request"}
        assert len(told) == len([line for line in lines if line["event"] == "request"]) == 3
        assert (told["a"]["outcome"], told["a"]["status"], told["a"]["rounds"], told["a"]["model"]) == (
            "completed",
            200,
            1,
            "hello",
        )
        assert (told["b"]["outcome"], told["b"]["status"], told["b"]["log_level"]) == (
            "failed",
            502,
            "warning",
        )
        assert (told["c"]["outcome"], told["c"]["status"], told["c"]["log_level"]) == (
            "cancelled_by_client",
            None,
            "info",
        )


async def test_a_defect_is_one_answer_and_one_line(state, autojump_clock, monkeypatch):
    async with open_world(state) as world:

        async def broken(model_id):
            raise RuntimeError("secret detail")

        monkeypatch.setattr(world.hub.models, "find", broken)
        with capture() as lines:
            reply = await world.chat(say("x"))
            streamed = await world.chat(say("x", stream=True))
            other = await world.ask("GET", "/v1/models/x")
        for one in (reply, streamed, other):
            assert (one.status, one.json["error"]["code"]) == (500, "internal_error")
            assert b"secret" not in one.body
        assert [line["event"] for line in lines].count("request failed") == 3
