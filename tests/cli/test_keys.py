import getpass
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apexbridge_trio.identity import Keys
from apexbridge_trio.store import AuditRows, Store
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply


def test_a_key_is_alone_on_stdout_and_good_at_once(tmp_path: Path, run: Run) -> None:
    state = tmp_path / "state"
    ran = run("keys", "create", "--scope", "chat", "--scope", "admin", "--tenant", "home", "--family", "kid",
              "--name", "tablet", "--state", str(state))  # fmt: skip
    key = ran.out.removesuffix("\n")
    assert str(state) in ran.err
    assert key not in ran.err
    with Store(state) as store:
        principal = Keys(store).principal_of(key)
        assert principal is not None
        assert (principal.tenant_id, principal.family_id) == ("home", "kid")
        assert principal.scopes == {"chat", "admin"}
        assert run("keys", "revoke", principal.id, "--state", str(state)).code == 0
        assert Keys(store).principal_of(key) is None


def test_keys_are_listed_without_themselves(run: Run) -> None:
    made = json.loads(run("keys", "create", "--scope", "logs", "--scope", "chat", "--json").out)
    secret = made["key"].rpartition("_")[2]
    (listed,) = json.loads(run("keys", "list", "--json").out)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    ran = run("keys", "list")
    heads, row = (line.split() for line in ran.out.splitlines())
    assert heads == ["ID", "TENANT", "SCOPES", "CREATED"]  # it has no name, and was never used
    at = datetime.fromisoformat(made["created"]).astimezone()
    assert row == [made["id"], "default", "chat", "logs", *f"{at:%Y-%m-%d %H:%M:%S}".split()]
    assert secret not in ran.out
    assert json.loads(run("keys", "revoke", made["id"], "--json").out) == {"id": made["id"], "revoked": True}
    assert json.loads(run("keys", "list", "--json").out)[0]["revoked"]


def test_a_key_is_good_for_a_while(tmp_path: Path, run: Run) -> None:
    before = datetime.now(UTC)
    made = json.loads(run("keys", "create", "--scope", "chat", "--expires", "1d12h", "--json").out)
    expires = datetime.fromisoformat(made["expires"])
    # It is told in whole seconds.
    assert timedelta(seconds=-1) < expires - timedelta(hours=36) - before <= datetime.now(UTC) - before
    assert made["state"] == "good"
    for span in ("", "0d", "-1d", "1 fortnight", "9999999d"):
        assert run("keys", "create", "--scope", "chat", "--expires", span).code == 2


def test_who_used_the_command_is_noted(tmp_path: Path, run: Run) -> None:
    made = json.loads(run("keys", "create", "--scope", "chat", "--state", str(tmp_path), "--json").out)
    assert run("keys", "revoke", made["id"], "--state", str(tmp_path)).code == 0
    assert run("keys", "revoke", made["id"], "--state", str(tmp_path)).code == 5
    with Store(tmp_path) as store:
        lines = AuditRows(store).listed(limit=10)
    assert [(line.action, line.target, line.origin) for line in lines] == [
        ("key.revoked", made["id"], "cli"),
        ("key.created", made["id"], "cli"),
    ]
    assert lines[0].principal_id == f"cli:{getpass.getuser()}"


ENTRY = {"id": "k1", "name": "tablet", "tenantId": "home", "familyId": None, "scopes": ["chat"], "state": "good",
         "createdAt": 1_763_000_000_000, "expiresAt": None, "lastUsedAt": 1_763_000_001_000, "revokedAt": None,
         "open": 2}  # fmt: skip


def test_a_hub_that_is_named_with_a_key_is_asked(
    hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APEXBRIDGE_KEY", "apx_admin")
    hub.answers["POST /v1/keys"] = Reply({"key": "apx_new", **ENTRY}, 201)
    ran = run("keys", "create", "--scope", "chat", "--tenant", "home", "--expires", "1h")
    assert (ran.out, hub.url in ran.err) == ("apx_new\n", True)
    wanted = {"scopes": ["chat"], "tenantId": "home", "familyId": None, "name": "", "expiresInS": 3600.0}
    assert (hub.asked[-1].body, hub.asked[-1].key) == (wanted, "Bearer apx_admin")
    hub.answers["GET /v1/keys?limit=1000"] = Reply({"keys": [ENTRY], "next": "k1"})
    hub.answers["GET /v1/keys?limit=1000&after=k1"] = Reply({"keys": [{**ENTRY, "id": "k2"}], "next": None})
    listed = json.loads(run("keys", "list", "--json").out)
    assert [(one["id"], one["lastUsed"]) for one in listed] == [
        ("k1", "2025-11-13T02:13:21+00:00"),
        ("k2", "2025-11-13T02:13:21+00:00"),
    ]
    receipt = {"closed": 3, "notClosed": 0, "interrupted": ["r1"], "notStopped": ["r1/round1/echo"]}
    hub.answers["DELETE /v1/keys/k1"] = Reply({"status": "success", **receipt, **ENTRY})
    ran = run("keys", "revoke", "k1")
    assert ran.err.splitlines() == [
        "key k1 is revoked; 3 connections closed, 1 request interrupted",
        "  not stopped yet: r1/round1/echo",
    ]
    assert json.loads(run("keys", "revoke", "k1", "--json").out) == {"id": "k1", "revoked": True, **receipt}
    assert run("keys", "revoke", "../x").code == 5
    assert hub.asked[-1].path == "/v1/keys/..%2Fx"
    number = len(hub.asked)
    assert run("keys", "list", "--state", str(tmp_path)).code == 0
    assert len(hub.asked) == number


def test_what_may_not_be_is_refused(run: Run) -> None:
    ran = run("keys", "create", "--scope", "log")
    assert (ran.code, ran.err) == (2, "apexbridge: There is no scope 'log'; did you mean logs?\n")
    assert run("keys", "create").code == 2
    ran = run("keys", "revoke", "nobody")
    assert (ran.code, ran.err) == (5, "apexbridge: there is no good key with the id 'nobody'\n")


def test_a_state_directory_that_is_unusable(tmp_path: Path, run: Run) -> None:
    (tmp_path / "hub.sqlite3").write_bytes(b"no database" * 1000)
    assert run("keys", "list", "--state", str(tmp_path)).code == 2
