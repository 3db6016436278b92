"""A key is worth what it was made for, from when it is made until it is revoked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbridge_trio.errors import BadRequest, Forbidden
from apexbridge_trio.identity import SCOPES, Keys, Principal
from apexbridge_trio.redaction import redact
from apexbridge_trio.store import KeyRows, Store


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with Store(tmp_path) as store:
        yield Keys(store, now=lambda: 1_763_000_000.5)


def test_a_key_stands_for_its_principal(keys: Keys) -> None:
    key, record = keys.create(scopes=["chat", "logs"], tenant_id="home", family_id="kid", name="tablet")
    principal = Principal(record.id, "home", "kid", frozenset({"chat", "logs"}))
    assert keys.principal_of(key) == principal
    assert record.created_ms == 1_763_000_000_500
    assert (record.name, record.revoked_ms) == ("tablet", None)


@pytest.mark.parametrize(
    ("now_s", "is_good"),
    [(0.0, False), (9_000.0, False), (9_800.0, True), (10_059.9, True), (10_060.0, False), (10_061.0, False)],
)
def test_a_key_that_expires_is_good_from_when_it_was_made_until_then(
    tmp_path: Path, now_s: float, is_good: bool
) -> None:
    """A clock that begins at 1970 must not bring back the key of a guest who has left."""
    clock = [10_000.0]
    with Store(tmp_path) as store:
        keys, rows = Keys(store, now=lambda: clock[0]), KeyRows(store)
        key, record = keys.create(scopes=["chat"], expires_ms=10_060_000)
        for_ever, other = keys.create(scopes=["chat"])
        clock[0] = now_s
        assert (keys.principal_of(key) is not None, keys.is_good(record.id)) == (is_good, is_good)
        assert keys.principal_of(for_ever) is not None
        now_ms = int(now_s * 1000)
        assert rows.good_of([record.id, other.id], now_ms) == (
            {record.id, other.id} if is_good else {other.id}
        )
        assert rows.count_good(now_ms) == 1 + is_good


def test_tenants_are_those_with_a_key_that_may_be_used(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        keys, rows = Keys(store, now=lambda: 10.0), KeyRows(store)
        for tenant, scopes, expires_ms in (
            ("anne", ["chat", "admin"], None),
            ("anne", ["chat"], None),
            ("bob", ["chat", "node"], None),
            ("guest", ["admin"], 20_000),
            ("gone", ["admin"], None),
        ):
            _, record = keys.create(scopes=scopes, tenant_id=tenant, expires_ms=expires_ms)
        keys.revoke(record.id)
        assert rows.tenants("", 11_000) == {"anne", "bob", "guest"}
        assert rows.tenants("admin", 11_000) == {"anne", "guest"}
        assert rows.tenants("admin", 21_000) == {"anne"}
        assert rows.tenants("dmin", 11_000) == set()


def test_a_key_is_long_and_its_secret_is_not_kept(keys: Keys, tmp_path: Path) -> None:
    key, record = keys.create(scopes=["chat"])
    prefix, key_id, secret = key.split("_", 2)
    assert (prefix, key_id, len(secret)) == ("apx", record.id, 43)
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert redact(f"key {key}") == "key apx_***"


def test_no_two_keys_are_the_same(keys: Keys) -> None:
    assert len({keys.create(scopes=["chat"])[0] for _ in range(50)}) == 50
    assert len(keys.records()) == 50


def test_a_revoked_key_is_worth_nothing(keys: Keys) -> None:
    key, record = keys.create(scopes=["chat"])
    other, _ = keys.create(scopes=["chat"])
    assert keys.revoke(record.id) is True
    assert keys.revoke(record.id) is False
    assert keys.principal_of(key) is None
    assert keys.principal_of(other) is not None
    assert [one.revoked_ms for one in keys.records() if one.id == record.id] == [1_763_000_000_500]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key + "A",
        lambda key: key + "\n",
        lambda key: key.upper(),
        lambda key: key.removeprefix("apx_"),
        lambda key: f"apx_{'0' * 16}_{key[-43:]}",
        lambda key: key.replace("_", "", 2),
    ],
)
def test_a_key_that_is_nearly_right_is_wrong(spoil, keys: Keys) -> None:
    key, _ = keys.create(scopes=["chat"])
    assert keys.principal_of(spoil(key)) is None


def test_a_secret_of_another_key_is_wrong(keys: Keys) -> None:
    one, record = keys.create(scopes=["chat"])
    other, _ = keys.create(scopes=["admin"])
    assert one != other
    assert keys.principal_of(f"apx_{record.id}_{other[-43:]}") is None


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_is_nobody(keys: Keys, text: str) -> None:
    assert keys.principal_of(text) is None


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"scopes": []}, "scopes", "A key needs a scope: chat, node, callback, logs, admin."),
        ({"scopes": ["chat", "log"]}, "scopes", "There is no scope 'log'; did you mean logs?"),
        ({"scopes": ["x"]}, "scopes", "There is no scope 'x'; there are chat, node, callback, logs, admin."),
        ({"tenant_id": ""}, "tenantId", "tenantId is 1 to 200 of A-Z a-z 0-9 . _ : and -, got ''."),
        ({"tenant_id": "a" * 201}, "tenantId", "tenantId is 1 to 200 of"),
        ({"family_id": "a/b"}, "familyId", "familyId is 1 to 200 of"),
        ({"name": "two\nlines"}, "name", "A name is one line of at most 200 characters."),
        ({"name": "x" * 201}, "name", "A name is one line of at most 200 characters."),
    ],
)
def test_a_key_that_may_not_be_is_refused(
    fields: dict[str, object], param: str, message: str, keys: Keys
) -> None:
    with pytest.raises(BadRequest) as caught:
        keys.create(**({"scopes": ["chat"]} | fields))  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.param == param
    assert caught.value.message.startswith(message)
    assert keys.records() == []


def test_every_scope_can_be_given(keys: Keys) -> None:
    key, _ = keys.create(scopes=SCOPES)
    principal = keys.principal_of(key)
    assert principal is not None
    assert principal.scopes == set(SCOPES)


def test_a_principal_sees_its_own_tenant_and_family():
    anne = Principal("1", "a")
    child = Principal("2", "a", "kids")
    admin = Principal("3", "b", scopes=frozenset({"admin"}))
    assert anne.may_see(child)
    assert child.may_see(child)
    assert not child.may_see(anne)
    assert not Principal("4", "b").may_see(anne)
    assert admin.may_see(child)


def test_a_principal_is_only_ever_narrowed():
    anne, child = Principal("1", "a"), Principal("2", "a", "kids")
    assert anne.narrowed(tenant_id=None, family_id=None) is anne
    assert anne.narrowed(tenant_id="a", family_id="kids") == Principal("1", "a", "kids")
    assert child.narrowed(tenant_id="a", family_id="kids") is child
    with pytest.raises(Forbidden):
        anne.narrowed(tenant_id="b", family_id=None)
    with pytest.raises(Forbidden):
        child.narrowed(tenant_id=None, family_id="parents")
