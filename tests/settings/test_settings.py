"""Each room goes by a changed config as the table says; what is in flight keeps what it began with."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.errors import StorageFailed, StoreUnusable
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import capture
from apexbridge_trio.redaction import redact
from apexbridge_trio.settings import Origin, watch_file
from tests.harness.kill import kill_at_every_step
from tests.harness.world import content, say
from tests.settings.house import NET_S, TOML, House, house

HOUSE = Principal("house")


def left_beside(folder: Path) -> list[str]:
    return [one.name for one in folder.glob(".config*")]


async def rooms(home: House, patch: Any) -> House:
    reply = await home.patch(patch)
    assert reply.status == 200, reply
    return home


async def test_rooms_that_were_handed_values_take_the_new_ones_in_the_same_step(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        hub = home.world.hub
        await rooms(
            home,
            {
                "chat": {"result_ttl_s": 7},
                "callbacks": {"expires_s": 8},
                "results": {"keep_days": 2},
                "events": {"keep_events": 2},
                "nodes": {"max_queued": 3, "heartbeat_interval_s": 4, "llm_tokens_per_day": 5},
                "limits": {"max_connections": 6, "chats_per_minute": 9},
                "plugins": {"timezone": "Asia/Shanghai"},
                "triggers": [{"name": "t", "on": "node.status", "do": "notify", "text": "x"}],
            },
        )
        assert (hub.backgrounds.keep_s, hub.pendings.expires_s, hub.pendings.keep_s) == (7, 8, 2 * 86_400)
        assert (
            hub.nodes._queue.most,
            hub.nodes.admission.interval_s,
            hub.nodes.config.llm_tokens_per_day,
        ) == (3, 4, 5)
        assert (hub.limiter.limits.max_connections, hub.limiter.limits.chats_per_minute) == (6, 9)
        assert hub.reminders.home.key == "Asia/Shanghai"
        for number in range(4):
            hub.events.publish("notification", HOUSE, {"message": str(number)})
        assert len(hub.events.history(HOUSE.tenant_id).kept()) == 2
        assert list(hub.triggers._armed) == ["t"]


async def test_a_chat_keeps_the_models_it_began_with_over_all_its_rounds(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        world = home.world
        tool = world.add_tool("held", hold=True)
        answers: list[Any] = []

        async def chat() -> None:
            body = say("held {}", "hands")
            answers.append(await home.ask("POST", "/v1/chat/completions", body))

        go = trio.Event()

        async def call(arguments: dict[str, Any], context: Any) -> Any:
            tool.started.set()
            await go.wait()
            return "done"

        tool.call = call  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat)
            await tool.started.wait()
            old = world.hub.models.upstreams["up"]
            new = {"name": "up", "base_url": "http://other.test/v1", "models": ["hello"]}
            await rooms(home, {"upstreams": [new], "models": None})
            assert world.hub.models.upstreams["up"] is not old
            go.set()
        assert "done" in content(answers[0])
        assert {request.headers["x-of-mine"] for request in world.provider.requests} == {"the-header-of-mine"}
        assert not old._relay._idle  # what it held is closed with its last answer
        assert (await home.ask("POST", "/v1/chat/completions", say("x", "hands"))).status == 404
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_a_provider_whose_entry_is_the_same_stays_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        up = home.world.hub.models.upstreams["up"]
        await rooms(home, {"chat": {"max_rounds": 2}, "models": []})
        assert home.world.hub.models.upstreams["up"] is up


async def test_plugins_come_and_go_with_the_config(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "echo"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(
        'name = "echo"\nversion = "1"\ndescription = "x"\ntype = "direct"\nruntime = "inline"\nentry = "echo.py"\n'
    )
    (folder / "echo.py").write_text("async def echo(arguments, home=None):\n    return arguments\n")
    async with house(tmp_path) as home:
        plugins = home.world.hub.plugins
        with trio.fail_after(NET_S), capture():
            moved = plugins.moved
            await rooms(home, {"plugins": {"directories": ["mine"]}})
            await moved.wait()
            assert "echo" in plugins.offer.plugins, plugins.faults
            moved = plugins.moved
            await rooms(home, {"plugins": {"directories": []}})
            await moved.wait()
        assert "echo" not in plugins.offer.plugins
        assert "calculator" in plugins.offer.plugins


async def test_a_signal_an_edit_and_a_patch_are_one_path(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for kind, rounds in (("signal", 2), ("edit", 3)):
            home.path.write_text(TOML.replace("= 8", f"= {rounds}"))
            change = await home.settings.reload(Origin(kind))  # type: ignore[arg-type]
            assert change is not None
            assert change.applied == {"chat.max_rounds": "next-request"}
            assert home.world.hub.config.chat.max_rounds == rounds
        again = await home.settings.reload(Origin("signal"))
        assert again is not None
        assert not again.applied
        assert [one["origin"] for one in await home.get("/v1/config/history")] == ["edit", "signal", "start"]
        assert json.dumps(await home.get("/v1/audit")).count("config.changed") == 2


async def test_a_bad_edit_changes_nothing_and_is_told_once_with_its_line(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        before = home.settings.current
        home.path.write_text(TOML.replace("max_rounds", "max_round"))
        with capture() as lines:
            for _ in range(3):
                assert await home.settings.reload(Origin("signal")) is None
        assert home.settings.current is before
        (notice,) = await home.get("/v1/notifications")
        assert "config.toml:3: chat.max_round: unknown key; did you mean max_rounds?" in notice["message"]
        assert notice["type"] == "alert"
        assert str(tmp_path) not in notice["message"]
        assert [line["event"] for line in lines if line["log_level"] == "error"] == [
            "the config stays as it is"
        ] * 3
        # The way out that needs no editor: what is in force takes the place of the refused file.
        assert (await home.patch({"chat": {"max_rounds": 2}})).status == 412
        assert (await home.ask("POST", "/v1/config/rollback", {"revision": before.revision})).status == 200
        assert home.text == TOML


@pytest.mark.parametrize("text", ["\xff", "a = [", "[chat]\nmax_rounds = 1" + "0" * 5000, "#" * 300_000])
async def test_no_file_can_end_the_hub(text: str, tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.path.write_bytes(text.encode("latin-1"))
        with capture():
            assert await home.settings.reload(Origin("edit")) is None
            home.path.unlink()
            home.path.mkdir()
            await home.settings.reload(Origin("edit"))
        assert (await home.ask("GET", "/v1/config")).status == 200


async def test_an_edit_that_the_history_can_not_keep_does_not_end_the_hub(tmp_path: Path) -> None:
    """What one reader of TOML takes, another may not: tomlkit takes no 101 arrays in one another."""
    async with house(tmp_path) as home:
        before = home.revision
        deep = f"args = {{ a = {'[' * 150}{']' * 150} }}"
        home.path.write_text(
            f'{TOML}[[triggers]]\nname = "t"\non = "node.status"\ndo = "tool"\ntool = "x"\n{deep}'
        )
        assert await home.settings.reload(Origin("edit")) is not None
        assert list(home.world.hub.triggers._armed) == ["t"]
        deepest = home.revision
        assert (await home.ask("POST", "/v1/config/rollback", {"revision": before})).status == 200
        reply = await home.ask("POST", "/v1/config/rollback", {"revision": deepest})
        assert (reply.status, "the whole text" in reply.json["error"]["message"]) == (422, True)


HOSTILE = {
    "a pipe as a secret": ("api_key_file = 'pipe'", "it is no regular file"),
    "a device as a secret": ("api_key_file = '/dev/zero'", "it is no regular file"),
    "a name with a NUL": ('api_key_file = "a\\u0000b"', "no file has a name with a NUL in it"),
    "a home that is none": ("api_key_file = '~no-such-user/key'", "there is no home directory for"),
    "a name that is too long": (f"api_key_file = '{'x' * 300}'", "File name too long"),
    "a folder in a home that is none": ("[plugins]\ndirectories = ['~no-such-user']", "there is no home directory"),
    "a folder whose name is too long": (f"[plugins]\ndirectories = ['{'字' * 100}']", "File name too long"),
    "a folder with a NUL": ('[plugins]\ndirectories = ["\\u0000"]', "there is no such folder"),
    "a secret of a plugin with a NUL": ('[callbacks.signing_secret_files]\nx = ["\\u0000"]', "no file has a name"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_of_a_file_can_end_the_hub(name: str, tmp_path: Path) -> None:
    """What the machine does not take as a name is a fault of the edit; nobody waits for a pipe."""
    said, reason = HOSTILE[name]
    os.mkfifo(tmp_path / "pipe")
    async with house(tmp_path) as home:
        home.path.write_text(
            TOML.replace("base_url", f"{said}\nbase_url") if "_key_" in said else TOML + said
        )
        with capture() as lines, trio.fail_after(NET_S):
            assert await home.settings.reload(Origin("edit")) is None
        assert [reason in line["reason"] for line in lines if "reason" in line] == [True]


async def test_a_pipe_in_the_place_of_the_config_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.settings.file._option = home.path
        home.path.unlink()
        os.mkfifo(home.path)
        with capture() as lines, trio.fail_after(NET_S):
            assert await home.settings.reload(Origin("edit")) is None
            assert (await home.patch({"chat": {"max_rounds": 2}})).status == 412
        assert "it is no regular file" in lines[0]["reason"]


async def test_a_file_that_is_gone_does_not_bring_back_the_defaults(tmp_path: Path) -> None:
    """A hub that needs keys must not open because a file was deleted, nor lose its providers."""
    async with house(tmp_path) as home:
        before = home.settings.current
        home.path.unlink()
        with capture() as lines:
            assert await home.settings.reload(Origin("edit")) is None
        assert "config.toml is gone" in lines[0]["reason"]
        assert home.settings.current is before
        assert (await home.patch({"chat": {"max_rounds": 2}})).status == 412
        home.path.write_text(TOML)
        assert await home.settings.reload(Origin("edit")) is not None
        assert (await home.patch({"chat": {"max_rounds": 2}})).status == 200
        home.path.unlink()
        with capture():
            await home.settings.reload(Origin("edit"))
        assert (await home.ask("POST", "/v1/config/rollback", {"revision": before.revision})).status == 200
        assert home.path.read_text().endswith(TOML)
        home.path.write_text("")
        assert await home.settings.reload(Origin("edit")) is not None
        assert home.world.hub.config.upstreams == []


async def test_the_address_of_an_mcp_server_is_never_shown_and_stays(tmp_path: Path) -> None:
    text = (
        TOML
        + '[[plugins.mcp]]\nname = "z"\nurl = "http://127.0.0.1:9/s/key-of-mine-12345/mcp?k=another-key"\n'
    )
    async with house(tmp_path, text) as home:
        shown = await home.get("/v1/config")
        assert shown["plugins"]["mcp"][0]["url"] == "http://127.0.0.1:9/***"
        first = home.revision
        said = {"plugins": {"mcp": shown["plugins"]["mcp"], "strict": True}}
        assert (await home.patch(said)).status == 200
        assert "mcp?k=another-key" in home.text
        assert (await home.ask("POST", "/v1/config/rollback", {"revision": first})).status == 200
        assert home.text == text
        told = [
            await home.get(path)
            for path in ("/v1/config/history", f"/v1/config/history/{first}", "/v1/audit")
        ]
        assert "of-mine-1" not in str(told)
        assert "another-key" not in str(told)
        assert redact("GET /s/key-of-mine-12345/mcp?k=another-key") == "GET /s/***/mcp?***"


async def test_an_edit_while_no_hub_ran_is_in_the_audit_of_the_next(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert (await home.get("/v1/audit?action=config"))["entries"] == []
    for text, lines in ((TOML, 0), (TOML.replace("= 8", "= 7"), 1), (TOML.replace("= 8", "= 7"), 1)):
        async with house(tmp_path, text) as home:
            entries = (await home.get("/v1/audit?action=config"))["entries"]
            assert len(entries) == lines
    assert (entries[0]["action"], entries[0]["target"]) == ("config.changed", home.revision)
    assert (entries[0]["from"], entries[0]["after"]) == ("file", {"foundAt": "start"})


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link that leads nowhere"])
async def test_what_is_no_file_at_its_place_does_not_bring_back_the_defaults(
    kind: str, tmp_path: Path
) -> None:
    async with house(tmp_path) as home:
        before = home.settings.current
        home.path.unlink()
        if kind == "a pipe":
            os.mkfifo(home.path)
        elif kind == "a folder":
            home.path.mkdir()
        else:
            home.path.symlink_to("nowhere.toml")
        with capture(), trio.fail_after(NET_S):
            assert await home.settings.reload(Origin("edit")) is None
        assert home.settings.current is before


async def test_a_folder_that_can_not_be_looked_into_any_more_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        plugins, moved = home.world.hub.plugins, home.world.hub.plugins.moved
        place = tmp_path / ("字" * 100)  # whose name no file system takes: as root may look into all others
        plugins.configure([*plugins.directories, place], strict=False, kill_grace_s=2, mcp=[])
        with capture(), trio.fail_after(NET_S):
            await moved.wait()
        assert [fault for fault in plugins.faults if str(place) in fault]
        assert "calculator" in plugins.offer.plugins


async def test_a_secret_that_was_exchanged_counts_with_the_next_signal(tmp_path: Path) -> None:
    key = tmp_path / "up.key"
    key.touch(mode=0o600)
    key.write_text("sk-the-first-one")
    text = TOML.replace("base_url", 'api_key_file = "up.key"\nbase_url')
    async with house(tmp_path, text) as home:
        key.write_text("sk-the-second-one")
        change = await home.settings.reload(Origin("signal"))
        assert change is not None
        assert list(change.applied) == ["upstreams"]
        await home.ask("POST", "/v1/chat/completions", say("x", "hello"))
        assert home.world.provider.requests[0].headers["authorization"] == "Bearer sk-the-second-one"


async def test_a_store_that_can_not_be_written_is_told_and_the_next_start_repairs_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:

        def full(_: Any) -> None:
            raise StoreUnusable("The hub can not write to its store now.")

        home.settings.history._written.add = full  # type: ignore[assignment, method-assign]
        with capture():
            reply = await home.patch({"chat": {"max_rounds": 2}})
        assert (reply.status, reply.json["recorded"]) == (200, False)
    async with house(tmp_path, None) as home:
        assert home.world.hub.config.chat.max_rounds == 2
        assert [one["origin"] for one in await home.get("/v1/config/history")] == ["start", "start"]


async def test_a_revision_and_its_line_in_the_audit_are_written_together_or_not_at_all(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:

        def full(_: Any) -> None:
            raise StoreUnusable("The hub can not write to its store now.")

        audit = home.world.hub.audit
        audit._written.add, add = full, audit._written.add  # type: ignore[assignment, method-assign]
        with capture():
            reply = await home.patch({"chat": {"max_rounds": 2}})
            home.settings.history.write_again()  # the disk refuses still: not tried
        assert reply.json["recorded"] is False
        assert [one["origin"] for one in await home.get("/v1/config/history")] == ["start"]
        audit._written.add = add  # type: ignore[method-assign]
        await rooms(home, {"chat": {"max_rounds": 3}})
        assert [line.target for line in audit.rows.listed(limit=9, action="config")] == [home.revision]
        for _ in range(2):  # the disk is well: what it has refused is written, once
            home.settings.history.write_again()
            told = [line.target for line in audit.rows.listed(limit=9, action="config")]
            assert told == [reply.json["revision"], home.revision]
        assert [one["origin"] for one in await home.get("/v1/config/history")] == ["api", "api", "start"]


async def test_what_was_refused_is_tried_again_beside_the_look_at_the_file(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("apexbridge_trio.settings.watch.LOOK_S", 0.001)
    async with house(tmp_path) as home, trio.open_nursery() as nursery:
        tried = trio.Event()
        home.settings.history.write_again = tried.set  # type: ignore[method-assign]
        nursery.start_soon(watch_file, home.settings)
        with trio.fail_after(NET_S):
            await tried.wait()
        nursery.cancel_scope.cancel(reason="seen")


async def test_a_line_in_the_audit_is_on_disk_before_its_change_is_acknowledged(tmp_path: Path) -> None:
    async with house(tmp_path) as home, trio.open_nursery() as nursery:
        hub = home.world.hub
        await nursery.start(hub.journal.run)
        for rounds in range(1, 6):
            change = await home.settings.patch({"chat": {"max_rounds": rounds}}, "*", Origin("api", "me"))
            (line,) = hub.audit.rows.listed(limit=1)
            assert (line.target, line.principal_id) == (change.revision, "me")
        nursery.cancel_scope.cancel()


async def test_a_store_that_can_not_be_read_does_not_end_the_hub_at_an_edit(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        hub = home.world.hub

        def broken(*_: Any) -> Any:
            raise StorageFailed("The hub can not use its store now.")

        hub.keyring.rows.tenants = broken  # type: ignore[method-assign, assignment]
        hub.notices._read.count_notices = broken  # type: ignore[method-assign, assignment]
        with capture() as lines:
            home.path.write_text("[chat]\nmax_round = 2")
            assert await home.settings.reload(Origin("edit")) is None
            home.path.write_text(TOML.replace("= 8", "= 2"))
            assert await home.settings.reload(Origin("edit")) is not None
        assert hub.config.chat.max_rounds == 2
        assert "of the config only the hub's own tenant is told" in [line["event"] for line in lines]


async def test_the_history_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("apexbridge_trio.store.config.MOST_KEPT", 3)
    async with house(tmp_path) as home:
        for rounds in range(1, 6):
            await rooms(home, {"chat": {"max_rounds": rounds}})
        assert [one["revision"].partition("-")[0] for one in await home.get("/v1/config/history")] == [
            "6",
            "5",
            "4",
        ]


async def test_cut_before_every_step_a_change_is_whole_or_none(tmp_path: Path) -> None:
    """What is in force, the file and the history agree after any cut."""
    async with house(tmp_path) as home:
        settings, wanted = home.settings, 100

        async def scenario() -> None:
            nonlocal wanted
            wanted += 1
            await settings.patch({"chat": {"max_rounds": wanted}}, "*", Origin("api"))

        async def check(is_whole: bool) -> None:
            rounds = settings.current.config.chat.max_rounds
            assert rounds == wanted or not is_whole
            assert f"max_rounds = {rounds}  # few" in home.text
            assert settings.file.read() == settings.current.source
            latest = settings.history.rows.latest()
            assert latest is not None
            assert latest.revision == home.revision
            assert left_beside(tmp_path) == []
            assert not settings._one_change.locked()

        with capture():
            assert await kill_at_every_step(scenario, check) > 3


@pytest.mark.parametrize("step", ["file", "rename"])
async def test_killed_between_two_steps_the_next_start_goes_by_the_file(step: str, tmp_path: Path) -> None:
    """What SIGKILL leaves on disk at each step, and what the next hub makes of it."""
    async with house(tmp_path) as home:
        await rooms(home, {"chat": {"max_rounds": 5}})
        first = home.revision
    if step == "file":  # the new file is half written, and not renamed
        (tmp_path / ".config.toml.new").write_text("[chat]\nmax_ro")
    else:  # it is renamed; its revision is not in the store
        (tmp_path / "config.toml").write_text(TOML.replace("= 8", "= 6"))
    async with house(tmp_path, None) as home:
        history = await home.get("/v1/config/history")
        is_new = step != "file"
        assert home.world.hub.config.chat.max_rounds == (6 if is_new else 5)
        assert (home.revision != first, history[0]["revision"]) == (is_new, home.revision)
        assert (await home.patch({"chat": {"max_rounds": 7}})).status == 200
        assert left_beside(tmp_path) == []
