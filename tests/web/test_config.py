"""`/v1/config` for the one who asks: what is shown, what is taken, and everything that is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio import installation
from apexbridge_trio.config.load import MAX_FILE_BYTES
from apexbridge_trio.events import Event
from apexbridge_trio.log import capture
from apexbridge_trio.settings import Origin
from apexbridge_trio.web.config import MAX_PATCH_BYTES
from tests.harness.node import key_for
from tests.harness.wire import Reply
from tests.settings.house import TOML, house


def fault(reply: Reply, status: int) -> dict[str, Any]:
    assert reply.status == status, reply
    error: dict[str, Any] = reply.json["error"]
    return error


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("hub.sqlite3*"))


async def test_what_is_in_force_is_shown_without_secrets_and_may_be_sent_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        reply = await home.ask("GET", "/v1/config")
        assert reply.headers["etag"] == f'"{home.revision}"'
        assert reply.json["chat"]["max_rounds"] == 8
        assert reply.json["upstreams"][0]["headers"] == {"X-Of-Mine": "***"}
        assert b"the-header-of-mine" not in reply.body
        same = await home.patch({"upstreams": reply.json["upstreams"], "models": reply.json["models"]})
        assert same.json["changed"] == []  # defaults are written down, the header stays
        assert "the-header-of-mine" in home.text


async def test_a_patch_is_in_force_when_it_is_answered(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = home.revision
        reply = await home.patch({"chat": {"max_rounds": 4}, "server": {"bind": "127.0.0.1:1"}})
        assert reply.json == {
            "revision": home.revision,
            "changed": [
                {"key": "server.bind", "applied": "restart"},
                {"key": "chat.max_rounds", "applied": "next-request"},
            ],
            "recorded": True,
            "needsRestart": ["server.bind"],
        }
        assert reply.headers["etag"] == f'"{home.revision}"'
        assert home.world.hub.config.chat.max_rounds == 4
        assert home.text == TOML.replace("= 8  # few", "= 4  # few") + '\n[server]\nbind = "127.0.0.1:1"\n'
        assert home.revision != first
        assert (await home.patch({"server": None})).json["needsRestart"] == []


async def test_history_and_rollback(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = home.revision
        await home.patch({"chat": {"max_rounds": 4}})
        await home.patch({"upstreams": None, "models": None})
        newest, middle, oldest = await home.get("/v1/config/history")
        assert (newest["current"], middle["current"], oldest["revision"]) == (True, False, first)
        assert middle["diff"] == [{"key": "chat.max_rounds", "from": 8, "to": 4}]
        assert (middle["by"], middle["from"], middle["origin"]) == (
            home.world.hub.keys.principal_of(home.key).id,  # type: ignore[union-attr]
            "127.0.0.1",
            "api",
        )
        kept = await home.get(f"/v1/config/history/{middle['revision']}")
        assert kept["toml"] == TOML.replace("= 8", "= 4").replace("the-header-of-mine", "***")
        # Of what is gone no value is known any more; so that is refused, and nothing is changed.
        lost = await home.ask("POST", "/v1/config/rollback", {"revision": first})
        assert fault(lost, 422)["faults"][0]["path"] == "upstreams[0].headers.X-Of-Mine"
        assert home.revision == newest["revision"]


async def test_the_audit_says_of_a_change_all_that_it_says_of_others(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = key_for(home.world, "admin", tenant="attic", family="anna")
        headers = f"Authorization: Bearer {key}", "If-Match: *", "X-Request-Id: req_mine"
        reply = await home.world.ask("PATCH", "/v1/config", {"chat": {"max_rounds": 3}}, *headers)
        assert reply.status == 200
        (line,) = (await home.get("/v1/audit"))["entries"]
        assert line["by"] == {"principal": key.split("_")[1], "tenantId": "attic", "familyId": "anna"}
        assert (line["from"], line["requestId"]) == ("127.0.0.1", "req_mine")


async def test_a_rollback_keeps_the_headers_of_today(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = home.revision
        await home.patch({"chat": {"max_rounds": 4}})
        back = await home.ask("POST", "/v1/config/rollback", {"revision": first})
        assert back.json["changed"] == [{"key": "chat.max_rounds", "applied": "next-request"}]
        assert home.text == TOML
        assert (await home.get("/v1/config/history"))[0]["origin"] == "rollback"
        stale = await home.ask("POST", "/v1/config/rollback", {"revision": first}, f'If-Match: "{first}"')
        assert fault(stale, 412)["code"] == "config_stale"


@pytest.mark.parametrize("revision", ["", "7", "1-000000000000", "99-ffed63a69b83", "../..", "9" * 40, "²"])
async def test_a_rollback_to_what_is_unknown(revision: str, tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        fault(await home.ask("POST", "/v1/config/rollback", {"revision": revision}), 404)
        assert home.text == TOML


async def test_only_an_administrator_and_only_with_a_revision(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        chat = f"Authorization: Bearer {key_for(home.world, 'chat')}"
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("POST", "/validate"),
            ("GET", "/history"),
            ("POST", "/rollback"),
        ):
            fault(await home.world.ask(method, f"/v1/config{path}", {}, chat), 403)
            fault(await home.world.ask(method, f"/v1/config{path}", {}), 401)
        assert fault(await home.ask("PATCH", "/v1/config", {}), 428)["code"] == "if_match_required"
        assert fault(await home.patch({}, "1-stale"), 412)["code"] == "config_stale"
        for tag in ("1-2", 'W/"1"', '"a", "b"', ""):
            fault(await home.ask("PATCH", "/v1/config", {}, f"If-Match: {tag}"), 400)
        assert (
            await home.ask("PATCH", "/v1/config", {"chat": {"max_rounds": 2}}, "If-Match: *")
        ).status == 200


BAD: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "unknown keys": (
        {"chat": {"max_round": 1}, "chats": {}},
        [
            ("chat.max_round", "unknown key; did you mean max_rounds?"),
            ("chats", "unknown key; did you mean chat?"),
        ],
    ),
    "wrong types": (
        {"chat": {"max_rounds": "8", "timeout_s": [1]}, "log": 3, "upstreams": {"a": 1}, "models": None},
        [
            ("chat.max_rounds", "expected an integer, got a string"),
            ("chat.timeout_s", "expected a number, got an array"),
            ("log", "expected a table, got an integer"),
            ("upstreams", "expected an array, got a table"),
        ],
    ),
    "out of bounds": (
        {"chat": {"max_rounds": 0, "timeout_s": 1e300}, "nodes": {"llm_requests_per_minute": 10**18}},
        [
            ("chat.max_rounds", "expected an integer >= 1"),
            ("chat.timeout_s", "expected a number <= 1000000000.0"),
            ("nodes.llm_requests_per_minute", "expected an integer <= 9007199254740992"),
        ],
    ),
    "null for what is required": (
        {"upstreams": [{"name": "a", "base_url": None}]},
        [("upstreams[0].base_url", "null is no value here; leave the key out")],
    ),
    "missing": ({"upstreams": [{"name": "a"}], "models": []}, [("upstreams[0]", "base_url is missing")]),
    "duplicate model ids": (
        {"models": [{"id": "m", "upstream": "up"}, {"id": "m", "upstream": "up"}]},
        [("models[1].id", "'m' is taken by an entry above")],
    ),
    "a model of nobody": (
        {"models": [{"id": "m", "upstream": "upp"}]},
        [("models[0].upstream", "there is no upstream 'upp'; did you mean up?")],
    ),
    "a header that can not be sent": (
        {"upstreams": [{"name": "up", "base_url": "http://h/v1", "headers": {"Host": "x"}}]},
        [("", "Upstream up: the header 'host' can not be sent.")],
    ),
    "a mask that stands for nothing": (
        {"upstreams": [{"name": "up", "base_url": "http://h/v1", "headers": {"X-New": "***"}}]},
        [("upstreams[0].headers.X-New", "the mask stands for no value that is there; say the value")],
    ),
    "a key in the file": (
        {"upstreams": [{"name": "up", "base_url": "http://h/v1", "api_key": "sk-of-somebody"}]},
        [("upstreams[0].api_key", "unknown key; did you mean api_key_env?")],
    ),
    "a secret that is not there": (
        {"upstreams": [{"name": "up", "base_url": "http://h/v1", "api_key_file": "no.key"}]},
        [("upstreams[0].api_key_file", "can not read no.key: No such file or directory")],
    ),
    "an address of another machine": (
        {"server": {"bind": "192.0.2.1:8088"}, "chat": {"max_rounds": 4}},
        [("server.bind", "this machine can not listen there: Cannot assign requested address")],
    ),
    "no object": ([], [("", "")]),
    "a text": ("x", [("", "")]),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_wrong_is_named_and_changes_nothing(name: str, tmp_path: Path) -> None:
    body, faults = BAD[name]
    async with house(tmp_path) as home:
        before = home.settings.current
        error = fault(await home.patch(body), 422)
        assert error["code"] == "config_invalid"
        if faults != [("", "")]:
            assert sorted((one["path"], one["message"]) for one in error["faults"]) == sorted(faults)
        assert str(tmp_path) not in json.dumps(error)
        assert home.settings.current is before
        assert home.text == TOML
        assert len(await home.get("/v1/config/history")) == 1


async def test_what_only_the_next_start_would_find_is_refused_on_each_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(installation._MODULES, "otel", ("no_such_library",))
    bad = TOML + '[tracing]\nendpoint = "http://127.0.0.1:4318"\n[server]\nbind = "192.0.2.1:8088"\n'
    paths = ["tracing.endpoint", "server.bind"]
    async with house(tmp_path) as home:
        before = home.settings.current
        said = (await home.ask("POST", "/v1/config/validate", {"toml": bad})).json
        assert [(one["path"], one["line"]) for one in said["faults"]] == list(
            zip(paths, (17, 19), strict=True)
        )
        body = {"tracing": {"endpoint": "http://127.0.0.1:4318"}, "server": {"bind": "192.0.2.1:8088"}}
        error = fault(await home.patch(body), 422)
        assert {one["path"] for one in error["faults"]} == set(paths)
        home.path.write_text(bad)
        assert await home.settings.reload(Origin("edit")) is None
        (notice,) = await home.get("/v1/notifications")
        assert "config.toml:17: tracing.endpoint: needs a library" in notice["message"]
        assert home.settings.current is before


async def test_an_address_that_has_gone_keeps_nobody_from_another_change(tmp_path: Path) -> None:
    async with house(tmp_path, TOML + '[server]\nbind = "192.0.2.1:8088"\n') as home:
        first = home.revision
        assert (await home.patch({"chat": {"max_rounds": 4}})).status == 200
        assert (await home.patch({"server": {"bind": "127.0.0.1:0"}})).status == 200
        back = await home.ask("POST", "/v1/config/rollback", {"revision": first})
        assert fault(back, 422)["faults"][0]["path"] == "server.bind"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"chat": {"default_model": "\xff"}}', 400),
        (b'{"chat": {"max_rounds": 1e999}}', 400),
        (b'{"chat": {"default_model": "\\ud800"}}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 422),
        (b'{"chat": {"max_rounds": ' + b"9" * 5000 + b"}}", 400),
        (b'{"chat": {"default_model": "%s"}}' % (b"x" * MAX_PATCH_BYTES), 413),
        (b'{"models": [{"id": "m", "upstream": "up", "system": "%s"}]}' % (b"x" * MAX_FILE_BYTES), 413),
    ],
    ids=["empty", "half", "not UTF-8", "infinity", "half a surrogate", "deep array", "deep object", "huge number", "oversize patch", "oversize file"],
)  # fmt: skip
async def test_hostile_bodies(body: bytes, status: int, tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        fault(await home.patch(body), status)
        assert home.text == TOML
        assert home.world.faults == []


async def test_of_patches_at_once_exactly_one_wins(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        replies: list[Reply] = []

        async def patch(rounds: int, revision: str) -> None:
            replies.append(await home.patch({"chat": {"max_rounds": rounds}}, revision))

        async with trio.open_nursery() as nursery:
            for number in range(10, 18):
                nursery.start_soon(patch, number, home.revision)
        assert sorted(reply.status for reply in replies) == [200] + [412] * 7
        assert f"max_rounds = {home.world.hub.config.chat.max_rounds}  # few" in home.text
        assert len(await home.get("/v1/config/history")) == 2


async def test_a_file_edited_by_hand_meanwhile_wins(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        edited = TOML.replace("# my house", "# by hand")
        home.path.write_text(edited)
        assert "was edited" in fault(await home.patch({"chat": {"max_rounds": 4}}), 412)["message"]
        assert home.text == edited


async def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.path.chmod(0o444)
        before = home.settings.current
        error = fault(await home.patch({"chat": {"max_rounds": 4}}), 409)
        assert (error["code"], str(tmp_path) in error["message"]) == ("config_read_only", False)
        assert (home.settings.current, home.text) == (before, TOML)


async def test_without_a_file_the_first_patch_makes_one(tmp_path: Path) -> None:
    async with house(tmp_path, None) as home:
        reply = await home.patch({"chat": {"max_rounds": 4}})
        assert reply.json["created"] == "config.toml in the state directory"
        assert home.text.endswith("\n[chat]\nmax_rounds = 4\n")
        assert "created" not in (await home.patch({"chat": {"max_rounds": 5}})).json


async def test_while_the_hub_ends_nothing_is_changed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.world.hub.flights.is_draining = True
        for reply in (
            await home.patch({"chat": {"max_rounds": 4}}),
            await home.ask("POST", "/v1/config/rollback", {"revision": home.revision}),
        ):
            assert fault(reply, 503)["code"] == "draining"
        assert home.text == TOML


async def test_validate_says_all_and_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:

        async def check(body: Any) -> Any:
            return (await home.ask("POST", "/v1/config/validate", body)).json

        said = await check({"toml": "[chat]\nmax_rond = 3\n\n[log]\nlevel = 'x'\n"})
        assert [(one["path"], one["line"]) for one in said["faults"]] == [
            ("chat.max_rond", 2),
            ("log.level", 5),
        ]
        assert said["valid"] is False
        for toml in (
            "a = ",
            "a = " + "9" * 5000,
            "a = " + "[" * 10_000,
            "a." * 5000 + "a = 1",
            "\x00",
            "[chat]\n" * 2,
        ):
            assert (await check({"toml": toml}))["valid"] is False, toml[:20]
        assert (await check({"patch": {"chat": {"max_rounds": 3}}})) == {
            "valid": True,
            "changed": [{"key": "chat.max_rounds", "applied": "next-request"}],
        }
        assert (await check({"patch": None}))["valid"] is False
        assert (await check({"toml": TOML}))["changed"] == []
        for body in ({}, {"toml": "", "patch": {}}, {"toml": 3}):
            fault(await home.ask("POST", "/v1/config/validate", body), 400)
        assert home.text == TOML


async def test_no_secret_reaches_history_events_or_the_log(tmp_path: Path) -> None:
    (tmp_path / "a.key").touch(mode=0o600)
    (tmp_path / "a.key").write_text("sk-of-the-file")
    with capture() as lines:
        async with house(tmp_path) as home:
            told: list[bytes] = []

            def hear(event: Event) -> bool:
                told.append(event.frame)
                return True

            reader = home.world.hub.keys.principal_of(home.key)
            assert reader is not None
            home.world.hub.events.subscribe(reader, hear)
            entry = {
                "name": "up",
                "base_url": "http://provider.test/v1",
                "api_key_file": "a.key",
                "headers": {"Authorization": "Bearer of-the-header"},
            }
            assert (await home.patch({"upstreams": [entry], "models": None})).status == 200
            kept = await home.get(f"/v1/config/history/{home.revision}")
            shown = json.dumps([kept, await home.get("/v1/config/history"), await home.get("/v1/config")])
            store = stored(tmp_path)
    assert len(told) == 1
    assert b'"type":"config.changed"' in told[0]
    for secret in ("sk-of-the-file", "of-the-header", "the-header-of-mine"):
        assert secret not in shown + repr(lines) + repr(told)
        assert secret.encode() not in store
