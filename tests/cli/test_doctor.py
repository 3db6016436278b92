"""``doctor``: real files, sockets and programs, well and not."""

import json
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from apexbridge_trio.cli.doctor import files, machine, network, store
from apexbridge_trio.cli.doctor.finding import language_of
from apexbridge_trio.identity import Keys
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE as STORE
from apexbridge_trio.store import LOCK, Store, hold_state
from tests.cli.conftest import Run
from tests.fakes.hub import NET_S, Exchange, FakeHub, Reply

MODELS = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}
WELL = {"status": "ok", "version": "1", "uptimeS": 5.0, "draining": False}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers on a machine that is busy is waited for; tests of the patience take it back."""
    for room in (network, machine):
        monkeypatch.setattr(room, "ASK_S", NET_S)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")


def look(run: Run, place: Path, toml: str, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Run it; returns the exit code and the findings."""
    (place / "config.toml").write_text(toml, "utf-8")
    (place / "config.toml").chmod(0o600)
    options = ("--config", str(place / "config.toml"), "--state", str(place / "state"))
    ran = run("doctor", *options, "--json", *words)
    told = json.loads(ran.out)
    assert told["ok"] == (ran.code == 0)
    return ran.code, told["findings"]


def of(found: list[dict[str, Any]], check: str) -> list[tuple[str, str]]:
    return [(one["level"], one["message"]) for one in found if one["check"] == check]


def test_an_installation_that_is_well(run: Run, place: Path, free: str) -> None:
    code, found = look(run, place, f'[server]\nbind = "{free}"\n')
    assert (code, {one["level"] for one in found}) == (0, {"ok"}), found
    checks = {one["check"] for one in found}
    assert {"config", "state", "disk", "python", "libraries", "clock", "timezone", "unit", "port"} <= checks
    assert of(found, "port") == [("ok", f"{free} is free; no hub runs there")]
    assert not list((place / "state").iterdir()), "a look makes nothing"


def test_what_is_not_there_yet_is_not_made(run: Run, place: Path, free: str) -> None:
    (place / "state").rmdir()
    code, found = look(run, place, f'[server]\nbind = "{free}"\n')
    assert code == 0
    assert of(found, "state")[0][1].endswith("will be made at the first start")
    assert not (place / "state").exists()


def test_a_config_that_can_not_be_used_does_not_end_the_look(run: Run, place: Path) -> None:
    code, found = look(run, place, '[server]\nbind = "127.0.0.1:0"\nbnd = 1\n[chat]\nmax_rounds = "x"\n')
    assert code == 1
    faults = of(found, "config")
    assert [level for level, _ in faults] == ["fail", "fail"]
    assert faults[0][1].startswith("config.toml:3: server.bnd: unknown key")
    assert of(found, "plugins"), "the rest is looked at all the same"


def test_what_others_may_read_or_change_is_told_with_the_cure(run: Run, place: Path, free: str) -> None:
    (place / "state").chmod(0o755)
    (place / "state/hub.sqlite3").touch(mode=0o644)
    (place / "key").write_text("sk-very-secret")
    (place / "key").chmod(0o644)
    toml = f'[server]\nbind = "{free}"\n[[plugins.mcp]]\nname = "x"\nurl = "http://127.0.0.1:1/"\n'
    code, found = look(run, place, toml + 'api_key_file = "key"\n')
    assert code == 0
    for check in ("state", "store", "secrets"):
        assert [level for level, _ in of(found, check)] == ["warn"], check
    hints = {one["check"]: one["hint"] for one in found if one["level"] == "warn"}
    assert hints["secrets"] == f"chmod 600 {place / 'key'}"
    assert "sk-very-secret" not in json.dumps(found)


def test_a_directory_that_is_none(place: Path) -> None:
    (place / "file").touch()
    (found,) = files.state_findings(place / "file")
    assert found.level == "fail"


@pytest.mark.parametrize(
    ("free", "flag", "level"), [(0, 0, "fail"), (1 << 20, 0, "warn"), (1 << 40, os.ST_RDONLY, "fail")]
)
def test_a_disk_that_is_full(
    place: Path, monkeypatch: pytest.MonkeyPatch, free: int, flag: int, level: str
) -> None:
    stats = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=1 << 41, f_flag=flag, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: stats)
    *_, disk = files.state_findings(place / "state")
    assert (disk.check, disk.level) == ("disk", level)


def test_of_a_disk_that_is_mounted_read_only_nothing_else_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose the files are does not matter there, though they can not be written."""
    kept(place)
    stats = SimpleNamespace(f_bavail=1 << 40, f_frsize=1, f_flag=os.ST_RDONLY, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: stats)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = [*files.state_findings(place / "state"), *store.store_findings(place / "state", None)]
    assert [(one.check, one.level, one.said.en) for one in found] == [
        ("disk", "fail", "the disk is mounted read-only")
    ]


def test_a_disk_that_takes_no_more_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = SimpleNamespace(f_bavail=1 << 40, f_frsize=1, f_flag=0, f_files=1000, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: stats)
    *_, disk = files.state_findings(place / "state")
    assert (disk.level, disk.said.en) == ("fail", "the disk takes no more files")


def kept(place: Path) -> Path:
    """Begin a store as a hub has it; returns its file."""
    (place / "state" / FOLDER).mkdir()
    with Store(place / "state") as opened:
        Keys(opened).create(scopes=["chat"])
    return place / "state" / STORE


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    file.write_bytes(data)


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 999")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged": (spoil, "its database is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is gone or empty"),
    "gone": (lambda file: file.unlink(), "it is gone"),
    "of a newer hub": (newer, "of version 999; this hub knows"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_database_no_hub_starts_with_is_told_and_left_alone(how: str, place: Path) -> None:
    file = kept(place)
    spoil_it, said = SPOILT[how]
    spoil_it(file)
    before = {one.name: one.read_bytes() for one in file.parent.iterdir() if one.is_file()}
    (found,) = store.store_findings(place / "state", None)
    assert found.level == "fail"
    assert found.said.en.startswith("no hub starts with this database: ")
    assert said in found.said.en
    assert {one.name: one.read_bytes() for one in file.parent.iterdir() if one.is_file()} == before


def test_a_database_is_looked_through_with_what_is_not_folded_into_it_yet(place: Path) -> None:
    kept(place)
    with Store(place / "state") as opened:  # with a log beside it, as after a power cut
        Keys(opened).create(scopes=["chat"])
        (found,) = store.store_findings(place / "state", None)
        assert (found.level, found.said.en) == ("ok", f"{STORE} can be written, and is whole")
        (found,) = store.store_findings(place / "state", "17")
        assert (found.level, found.said.en) == ("ok", f"{STORE} is in use by the hub")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_has_left_to_the_hub_is_told(place: Path) -> None:
    kept(place)
    os.chown(place / "state", 12345, 12345)
    (found, _) = store.store_findings(place / "state", None)
    assert (found.level, found.hint.en) == ("fail", f"chown 12345 {place / 'state' / STORE}")
    told = {one.check: one for one in files.state_findings(place / "state")}
    assert told["user"].hint.en == f"sudo -u 12345 apexbridge doctor --state {place / 'state'}"


def test_who_may_read_the_secret_of_a_webhook_is_told(run: Run, place: Path, free: str) -> None:
    (place / "hook").write_text("sk-very-secret")
    (place / "hook").chmod(0o644)
    toml = (
        f'[server]\nbind = "{free}"\n[[triggers]]\nname = "w"\non = "alert"\ndo = "webhook"\n'
        'url = "https://example.org/x"\nsecret_file = "hook"\n'
    )
    _, found = look(run, place, toml)
    assert of(found, "secrets") == [("warn", f"{place / 'hook'} can be read by every user")]


def test_a_hub_that_runs_and_is_not_where_the_config_says(run: Run, place: Path, free: str) -> None:
    with hold_state(place / "state"):
        code, found = look(run, place, f'[server]\nbind = "{free}"\n')
    assert code == 0
    ((level, said),) = of(found, "port")
    assert (level, said.startswith(f"a hub runs (process {os.getpid()}), and not at")) == ("warn", True)
    (place / "state" / LOCK).unlink()


def test_a_hub_at_the_address_may_be_another(run: Run, place: Path) -> None:
    with FakeHub() as hub:
        hub.answers["GET /health"] = Reply(WELL)
        toml = f'[server]\nbind = "127.0.0.1:{hub.server_port}"\n'
        _, found = look(run, place, toml)
        assert "keeps its state elsewhere" in of(found, "state")[-1][1]
        with hold_state(place / "state"):
            _, found = look(run, place, toml)
        assert len(of(found, "state")) == 1


def test_a_port_that_another_program_has(run: Run, place: Path) -> None:
    with FakeHub() as other:
        other.answers["GET /health"] = Reply({"hello": "world"})
        code, found = look(run, place, f'[server]\nbind = "127.0.0.1:{other.server_port}"\n')
    assert code == 1
    assert of(found, "port") == [("fail", f"another program listens at 127.0.0.1:{other.server_port}")]


def test_a_port_that_says_nothing_is_anothers_too(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ASK_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bind = f"127.0.0.1:{silent.getsockname()[1]}"
        code, found = look(run, place, f'[server]\nbind = "{bind}"\n')
    assert (code, of(found, "port")) == (1, [("fail", f"another program listens at {bind}")])


def test_an_address_that_this_machine_has_not(run: Run, place: Path) -> None:
    (finding,) = [network._bindable("192.0.2.1", 8088)]
    assert finding.level == "fail"
    assert "192.0.2.1:8088 can not be bound" in finding.said.en


def test_an_address_that_nobody_answers_at_is_not_another_program(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(*_: Any, **__: Any) -> None:
        raise httpx.ConnectTimeout("timed out")

    monkeypatch.setattr(httpx, "get", silence)
    _, found = look(run, place, '[server]\nbind = "192.0.2.1:8088"\n')
    ((level, said),) = of(found, "port")
    assert (level, said.partition(": ")[0]) == ("fail", "192.0.2.1:8088 can not be bound")


def test_a_hub_that_runs_tells_what_is_wrong_with_it(run: Run, place: Path) -> None:
    parts = [
        {
            "kind": "hub",
            "name": "store",
            "state": "failing",
            "checkedAgeS": 1.0,
            "detail": "The disk is full.",
        },
        {"kind": "hub", "name": "disk", "state": "ok", "checkedAgeS": 0.0, "detail": "1 GiB"},
        {"kind": "hub", "name": "nodes", "state": "limited", "checkedAgeS": 0.0, "detail": "1 offline"},
    ]
    with FakeHub() as hub:
        toml = f'[server]\nbind = "127.0.0.1:{hub.server_port}"\n'
        hub.answers["GET /health"] = Reply(WELL)
        code, found = look(run, place, toml)
        assert (code, [level for level, _ in of(found, "hub")]) == (0, ["ok"])
        hub.answers["GET /health"] = Reply(WELL | {"status": "failing", "dependencies": parts}, 503)
        code, found = look(run, place, toml)
    assert code == 1
    assert [level for level, _ in of(found, "hub")] == ["fail", "fail", "warn"]
    assert of(found, "hub")[1][1] == "store: failing, The disk is full."


@pytest.fixture
def provider() -> Iterator[FakeHub]:
    with FakeHub() as fake:
        fake.answers["GET /v1/models"] = Reply(MODELS)
        yield fake


def upstream(provider_port: int, bind: str, more: str = "") -> str:
    url = f"http://127.0.0.1:{provider_port}/v1"
    return f'[server]\nbind = "{bind}"\n[[upstreams]]\nname = "up"\nbase_url = "{url}"\n{more}'


def test_a_provider_is_asked(run: Run, place: Path, free: str, provider: FakeHub) -> None:
    code, found = look(run, place, upstream(provider.server_port, free))
    assert (code, of(found, "upstreams")) == (0, [("ok", "up is there, with 2 models")])


def test_a_provider_that_is_not_there(run: Run, place: Path, free: str) -> None:
    code, found = look(run, place, upstream(1, free))
    assert code == 1
    assert [level for level, _ in of(found, "upstreams")] == ["fail"]


@pytest.mark.parametrize(
    ("status", "more", "level"),
    [
        (401, "", "fail"),
        (401, 'models = ["a"]\n', "fail"),
        (404, "", "fail"),
        (404, 'models = ["a"]\n', "warn"),
    ],
)
def test_a_provider_that_refuses(
    run: Run,
    place: Path,
    free: str,
    provider: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    more: str,
    level: str,
) -> None:
    monkeypatch.setenv("UP_KEY", "sk-of-the-provider")
    provider.answers["GET /v1/models"] = Reply({"error": "no sk-of-the-provider"}, status)
    _, found = look(run, place, upstream(provider.server_port, free, f'api_key_env = "UP_KEY"\n{more}'))
    assert [one for one, _ in of(found, "upstreams")] == [level]
    assert "sk-of-the-provider" not in json.dumps(found)


def test_a_clock_that_is_off_by_minutes(
    run: Run, place: Path, free: str, provider: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1_800_000_000
    monkeypatch.setattr(network, "time", SimpleNamespace(time=lambda: at + 300))
    monkeypatch.setattr(Exchange, "date_time_string", lambda _: formatdate(at, usegmt=True))
    _, found = look(run, place, upstream(provider.server_port, free))
    ((level, said),) = [one for one in of(found, "clock") if one[0] != "ok"]
    assert (level, said) == ("warn", "this clock is 300 s ahead of that of up")


def test_a_clock_that_was_never_set() -> None:
    from apexbridge_trio.config import Config

    first, *_ = machine.clock_findings(Config(), now=12.0)
    assert (first.level, first.hint.en) == ("fail", "timedatectl set-ntp true")


def test_a_plugin_that_is_left_out_is_told(run: Run, place: Path, free: str) -> None:
    bad = place / "own/bad"
    bad.mkdir(parents=True)
    (bad / "plugin.toml").write_text("nonsense = 1\n")
    code, found = look(run, place, f'[server]\nbind = "{free}"\n[plugins]\ndirectories = ["own"]\n')
    told = [said for level, said in of(found, "plugins") if level == "warn"]
    assert code == 0
    assert any("bad/plugin.toml: nonsense: unknown key" in said for said in told)


@pytest.mark.parametrize(
    ("says", "level"),
    [
        ("LoadState=loaded\nActiveState=failed\nUnitFileState=enabled", "fail"),
        ("LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled", "warn"),
        ("LoadState=loaded\nActiveState=active\nUnitFileState=enabled", "ok"),
        ("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled", "fail"),
        ("LoadState=not-found\nActiveState=inactive\nUnitFileState=", "ok"),
        ("nonsense", "ok"),
    ],
)
def test_the_unit_is_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch, says: str, level: str) -> None:
    """By a program of that name: the suite runs where there is no systemd too."""
    program = place / "systemctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    (found,) = machine.unit_findings()
    assert found.level == level


def test_a_systemctl_that_hangs_is_not_waited_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = place / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "ASK_S", 0.05)
    (found,) = machine.unit_findings()
    assert found.level == "ok"


def test_both_languages_say_the_same(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = upstream(1, "127.0.0.1:0")
    (place / "state").chmod(0o755)
    _, english = look(run, place, toml, "--lang", "en")
    _, chinese = look(run, place, toml, "--lang", "zh")
    assert [(one["check"], one["level"]) for one in english] == [
        (one["check"], one["level"]) for one in chinese
    ]
    assert all(one["message"] for one in chinese)
    said = "".join(one["message"] for one in english)
    assert not re.search("[\u4e00-\u9fff]", said)
    assert sum(bool(re.search("[\u4e00-\u9fff]", one["message"])) for one in chinese) >= len(chinese) - 1
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    # Without numbers: the disk is in use meanwhile.
    again = look(run, place, toml)[1]
    assert [re.sub(r"\d", "", one["message"]) for one in again] == [
        re.sub(r"\d", "", one["message"]) for one in chinese
    ]


def test_the_language_is_that_of_the_environment() -> None:
    assert language_of({"LANG": "zh_CN.UTF-8"}) == "zh"
    assert language_of({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}) == "en"
    assert language_of({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_TW"}) == "zh"
    assert language_of({}) == "en"


def test_it_reads_as_lines_with_a_hint_below_what_is_not_well(run: Run, place: Path, free: str) -> None:
    (place / "state").chmod(0o755)
    (place / "config.toml").write_text(f'[server]\nbind = "{free}"\n')
    ran = run("doctor", "--config", str(place / "config.toml"), "--state", str(place / "state"))
    lines = ran.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("warn")]
    assert lines[at] == f"warn  state        {place / 'state'} is open to other users"
    assert lines[at + 1].strip() == f"→ chmod 700 {place / 'state'}"
    assert ran.err == ""
