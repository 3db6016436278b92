"""``/v1/keys``: a key is shown once, and only administrators make, see and revoke them."""

import json
import time

import pytest

from apexbridge_trio.identity import Principal
from apexbridge_trio.store import KeyRecord
from tests.harness.node import key_for
from tests.harness.world import open_world


def bearer(key):
    return f"Authorization: Bearer {key}"


class Admin:
    def __init__(self, world, **of):
        self.world, self.key = world, key_for(world, "admin", **of)
        self.id = self.key.split("_")[1]

    async def ask(self, method, path, body=None):
        return await self.world.ask(method, path, body, bearer(self.key))


async def test_a_key_is_shown_once_and_good_at_once(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        body = {
            "scopes": ["chat", "logs"],
            "name": "平板",
            "tenantId": "home",
            "familyId": "kid",
            "expiresInS": 3600,
        }
        made = await admin.ask("POST", "/v1/keys", body)
        assert (made.status, made.headers["cache-control"]) == (201, "no-store")
        key, key_id = made.json["key"], made.json["id"]
        principal = world.hub.keys.principal_of(key)
        assert principal == Principal(key_id, "home", "kid", frozenset({"chat", "logs"}))
        listed = await admin.ask("GET", "/v1/keys")
        secret = key.rpartition("_")[2].encode()
        assert secret not in listed.body
        (_, entry) = listed.json["keys"]
        assert entry | {"lastUsedAt": None} == {name: made.json[name] for name in made.json if name != "key"}
        assert (
            entry["lastUsedAt"] <= time.time() * 1000 < entry["expiresAt"] <= time.time() * 1000 + 3_600_000
        )
        assert (entry["state"], entry["scopes"], entry["name"]) == ("good", ["chat", "logs"], "平板")
        assert (await admin.ask("GET", f"/v1/keys/{key_id}")).json == entry
        told = await admin.ask("GET", "/v1/audit")
        assert secret not in told.body
        (line,) = told.json["entries"]
        assert (line["action"], line["target"], line["by"]["principal"]) == ("key.created", key_id, admin.id)
        assert line["after"]["scopes"] == ["chat", "logs"]


async def test_what_is_open_is_counted(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        (entry,) = (await admin.ask("GET", "/v1/keys")).json["keys"]
        assert entry["open"] == 1  # this request


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": ["chat"] * 21}, "scopes"),
        ({"scopes": "chat"}, "scopes"),
        ({"scopes": ["chat"], "name": "two\nlines"}, "name"),
        ({"scopes": ["chat"], "name": "\x1b[2J"}, "name"),
        ({"scopes": ["chat"], "name": "x" * 1_000_000}, "name"),
        ({"scopes": ["chat"], "tenantId": "../etc"}, "tenantId"),
        ({"scopes": ["chat"], "tenantId": "a b"}, "tenantId"),
        ({"scopes": ["chat"], "familyId": ""}, "familyId"),
        ({"scopes": ["chat"], "expiresInS": 0}, "expiresInS"),
        ({"scopes": ["chat"], "expiresInS": -5}, "expiresInS"),
        ({"scopes": ["chat"], "expiresInS": 1e12}, "expiresInS"),
        ({"scopes": ["chat"], "expiresAt": 1}, "expiresAt"),
        ({"scopes": ["chat"], "expiresAt": 2**60}, "expiresAt"),
        ({"scopes": ["chat"], "expiresAt": "2030-01-01"}, "expiresAt"),
        ({"scopes": ["chat"], "expiresAt": 2_000_000_000_000, "expiresInS": 5}, "expiresAt"),
    ],
)
async def test_a_key_that_may_not_be_is_refused(tmp_path, autojump_clock, body, param):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        reply = await admin.ask("POST", "/v1/keys", body)
        assert reply.status == 400, reply
        assert (
            param in {reply.json["error"]["param"], reply.json["error"]["message"]}
            or param in reply.json["error"]["message"]
        )
        assert len(reply.body) < 1000
        assert len(world.hub.keys.records()) == 1
        assert world.hub.audit.rows.listed(limit=1) == []


@pytest.mark.parametrize("tenant", ["default", "other"])
async def test_who_is_no_administrator_may_do_nothing_and_learns_nothing(tmp_path, autojump_clock, tenant):
    async with open_world(tmp_path) as world:
        target = Admin(world)
        key = key_for(world, "chat", "node", "callback", "logs", tenant=tenant)
        own = key.split("_")[1]
        for method, path in [("POST", "/v1/keys"), ("GET", "/v1/keys"), ("GET", f"/v1/keys/{target.id}"),
                             ("DELETE", f"/v1/keys/{target.id}"), ("DELETE", f"/v1/keys/{own}"),
                             ("DELETE", "/v1/keys/ffffffffffffffff")]:  # fmt: skip
            body = {"scopes": ["admin"]} if method == "POST" else None
            replies = [await world.ask(method, path, body, bearer(key)), await world.ask(method, path, body)]
            assert [reply.status for reply in replies] == [403, 401], path
            messages = {reply.json["error"]["message"] for reply in replies}
            assert not any(target.id in message for message in messages)
        assert world.hub.keys.is_good(target.id)
        assert len(world.hub.keys.records()) == 2


@pytest.mark.parametrize(
    "key_id", ["0" * 16, "x", "*", "%25", "..", "%2e%2e%2f", "' OR 1=1 --", "a" * 5000, "%00", "%0aforged"]
)
async def test_ids_that_are_guessed_are_unknown(tmp_path, autojump_clock, key_id):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        path = f"/v1/keys/{key_id.replace(' ', '%20')}"
        for method in ("GET", "DELETE"):
            reply = await admin.ask(method, path)
            assert reply.status == 404, (method, reply)
        assert world.hub.keys.is_good(admin.id)
        assert world.hub.audit.rows.listed(limit=1) == []


async def test_a_key_is_revoked_once(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin, key = Admin(world, tenant="a"), key_for(world, "chat", tenant="b")
        path = f"/v1/keys/{key.split('_')[1]}"
        said = (await admin.ask("DELETE", path)).json
        assert (said["status"], said["state"], said["tenantId"]) == ("success", "revoked", "b")
        assert world.hub.keys.principal_of(key) is None
        assert (await admin.ask("DELETE", path)).status == 404
        assert (await admin.ask("GET", path)).json["state"] == "revoked"
        assert [one.action for one in world.hub.audit.rows.listed(limit=10)] == ["key.revoked"]


async def test_an_expired_key_is_wrong_and_can_be_revoked(tmp_path, autojump_clock):
    at = [1_763_000_000.0]
    async with open_world(tmp_path, now=lambda: at[0]) as world:
        admin = Admin(world)
        key, record = world.hub.keys.create(scopes=["chat"], expires_ms=int(at[0] * 1000) + 1)
        at[0] += 1
        one, none = [
            await world.ask("GET", "/v1/models", None, bearer(text))
            for text in (key, f"apx_{'0' * 16}_{'x' * 43}")
        ]
        assert one.status == none.status == 401
        assert one.json["error"] == none.json["error"]
        assert (await admin.ask("GET", f"/v1/keys/{record.id}")).json["state"] == "expired"
        assert (await admin.ask("DELETE", f"/v1/keys/{record.id}")).json["state"] == "revoked"


async def test_ten_thousand_keys_come_in_pages_and_each_once(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        store = world.hub.nodes._written._store
        with store.transaction():
            for number in range(10_000):
                tenant = "odd" if number % 2 else "even"
                made = number // 100  # many of one time
                store.add_key(KeyRecord(f"{number:016x}", b"", "", tenant, None, frozenset({"chat"}), made))
        seen, after, pages = [], "", 0
        while True:
            reply = await admin.ask("GET", f"/v1/keys?limit=1000{after}")
            assert len(reply.body) < 400_000
            seen += [one["id"] for one in reply.json["keys"]]
            pages += 1
            if reply.json["next"] is None:
                break
            after = f"&after={reply.json['next']}"
        assert pages == 11
        assert len(seen) == len(set(seen)) == 10_001
        assert seen[-1] == admin.id
        assert len((await admin.ask("GET", "/v1/keys")).json["keys"]) == 100
        odd = (await admin.ask("GET", "/v1/keys?tenantId=odd&limit=3")).json["keys"]
        assert [one["tenantId"] for one in odd] == ["odd"] * 3
        reply = await admin.ask("POST", "/v1/keys", {"scopes": ["chat"]})
        assert (reply.status, reply.json["error"]["code"]) == (400, "too_many_keys")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=all", "after=nobody"])
async def test_a_page_that_is_none(tmp_path, autojump_clock, query):
    async with open_world(tmp_path) as world:
        reply = await Admin(world).ask("GET", f"/v1/keys?{query}")
        assert reply.status == (404 if query.startswith("after") else 400)


async def test_what_is_no_json_is_refused(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin = Admin(world)
        for body in (b"{", b"[]", b"null", b'{"scopes": ["chat"], "scopes": 1}', b"\xff", b"[" * 5000):
            reply = await admin.ask("POST", "/v1/keys", body)
            assert reply.status == 400, body
            json.loads(reply.body)
