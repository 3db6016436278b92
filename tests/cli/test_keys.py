import json
from pathlib import Path

from apexbridge_trio.identity import Keys
from apexbridge_trio.store import Store
from tests.cli.conftest import Run


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
    assert heads == ["ID", "NAME", "TENANT", "FAMILY", "SCOPES", "CREATED", "REVOKED"]
    assert row == [made["id"], "default", "chat", "logs", made["created"]]
    assert secret not in ran.out
    assert json.loads(run("keys", "revoke", made["id"], "--json").out) == {"id": made["id"], "revoked": True}
    assert json.loads(run("keys", "list", "--json").out)[0]["revoked"]


def test_what_may_not_be_is_refused(run: Run) -> None:
    ran = run("keys", "create", "--scope", "log")
    assert (ran.code, ran.err) == (2, "apexbridge: There is no scope 'log'; did you mean logs?\n")
    assert run("keys", "create").code == 2
    ran = run("keys", "revoke", "nobody")
    assert (ran.code, ran.err) == (5, "apexbridge: there is no good key with the id 'nobody'\n")


def test_a_state_directory_that_is_unusable(tmp_path: Path, run: Run) -> None:
    (tmp_path / "hub.sqlite3").write_bytes(b"no database" * 1000)
    assert run("keys", "list", "--state", str(tmp_path)).code == 2
