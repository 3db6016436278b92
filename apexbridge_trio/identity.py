"""Who asks: keys, what they allow, and the principal behind each.

A key reads ``apx_<id>_<secret>``. The id finds its record; the secret is 256 random bits, so a plain
SHA-256 of the key is kept: there is nothing to guess, and a slow hash would only slow each request.
"""

import difflib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio.errors import BadRequest, Forbidden
from apexbridge_trio.ids import is_sane
from apexbridge_trio.store import KeyRecord, Store

SCOPES: Final = ("chat", "node", "callback", "logs", "admin")

# 64 bits tell keys apart; 32 bytes are 43 characters of base64.
_KEY = re.compile(r"apx_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[0-9a-f]{16}")
_ID_BYTES = 8
_SECRET_BYTES = 32
_LONGEST_NAME = 200
_LONGEST_LIFE_MS = 100 * 366 * 86_400_000
# Compared with when there is no record: no key has this hash.
_NOBODY = bytes(32)


class Principal(Struct, frozen=True):
    """Who a request is made by, and for whom.

    Attributes:
        id: The key's id; one key is one principal.
        family_id: Who within the tenant; None may speak for each of them.
    """

    id: str
    tenant_id: str = "default"
    family_id: str | None = None
    scopes: frozenset[str] = frozenset()

    def may_see(self, owner: "Principal") -> bool:
        """Tell whether what `owner` does is this principal's business: its own tenant's, or an admin's."""
        if "admin" in self.scopes:
            return True
        same_family = self.family_id is None or self.family_id == owner.family_id
        return self.tenant_id == owner.tenant_id and same_family

    def narrowed(self, *, tenant_id: str | None, family_id: str | None) -> "Principal":
        """Return this principal within the tenant and family that a request names.

        Raises:
            Forbidden: It names another tenant, or another family than the key's own.
        """
        if tenant_id not in {None, self.tenant_id}:
            raise Forbidden("This key does not belong to that tenant.", param="tenantId")
        if family_id is None or family_id == self.family_id:
            return self
        if self.family_id is not None:
            raise Forbidden("This key does not belong to that family.", param="familyId")
        return replace(self, family_id=family_id)


class Owned(Protocol):
    """A record that is somebody's."""

    @property
    def principal_id(self) -> str:
        """The key it came with."""
        ...

    @property
    def tenant_id(self) -> str:
        """Whose hub it is done for."""
        ...

    @property
    def family_id(self) -> str | None:
        """Who within the tenant."""
        ...


def owner_of(record: Owned, scopes: frozenset[str] = frozenset()) -> Principal:
    """Return whose a record is; what its key may do is not kept with it, and is nothing unless said."""
    return Principal(record.principal_id, record.tenant_id, record.family_id, scopes)


class Keys:
    """The keys of this hub, always as they are on disk: a new or revoked one counts at once.

    What changes a key for somebody goes through `keyring`, which writes it into the audit.

    Args:
        now: Seconds since the epoch.

    Attributes:
        used: When keys were used last, as far as that is not on disk; milliseconds, by id. No more than
            there are keys.
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self.used: dict[str, int] = {}

    def create(
        self,
        *,
        scopes: Iterable[str],
        tenant_id: str = "default",
        family_id: str | None = None,
        name: str = "",
        expires_ms: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """Make a key, and keep its hash. It is shown this once.

        Raises:
            BadRequest: As `make`.
        """
        key, record = self.make(
            scopes=scopes, tenant_id=tenant_id, family_id=family_id, name=name, expires_ms=expires_ms
        )
        self._store.add_key(record)
        return key, record

    def make(
        self,
        *,
        scopes: Iterable[str],
        tenant_id: str = "default",
        family_id: str | None = None,
        name: str = "",
        expires_ms: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """Make a key that is good once its record is kept.

        Raises:
            BadRequest: No scope or an unknown one, an id or a name that may not be, or a time that is past.
        """
        allowed = _known_scopes(scopes)
        _check_id("tenantId", tenant_id)
        if family_id is not None:
            _check_id("familyId", family_id)
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise BadRequest(f"A name is one line of at most {_LONGEST_NAME} characters.", param="name")
        now_ms = self._now_ms()
        if expires_ms is not None and not now_ms < expires_ms <= now_ms + _LONGEST_LIFE_MS:
            raise BadRequest("A key expires in the future, within a hundred years.", param="expiresAt")
        key_id = secrets.token_hex(_ID_BYTES)
        key = f"apx_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        record = KeyRecord(
            key_id, _hash(key), name, tenant_id, family_id, allowed, now_ms, expires_ms=expires_ms
        )
        return key, record

    def records(self) -> list[KeyRecord]:
        """Return what is kept of every key ever made, oldest first."""
        return self._store.keys()

    def revoke(self, key_id: str) -> bool:
        """Make a key worthless for ever; False if no good key has that id."""
        return self._store.revoke_key(key_id, self._now_ms())

    @staticmethod
    def is_id(text: str) -> bool:
        """Tell whether it has the form of a key's id; who needs no key has another name."""
        return _ID.fullmatch(text) is not None

    def is_good(self, key_id: str) -> bool:
        """Tell whether there is a key of that id that was not revoked and has not expired."""
        record = self._store.key(key_id)
        return record is not None and record.is_good(self._now_ms())

    def principal_of(self, key: str) -> Principal | None:
        """Return who a key stands for, or None: unknown, revoked, expired, or no key at all.

        All of these take the same path, and hashes are compared in constant time: how long it takes
        tells nothing.
        """
        shape = _KEY.fullmatch(key)
        record = self._store.key(shape[1] if shape else "")
        is_right = hmac.compare_digest(_hash(key), record.hash if record else _NOBODY)
        now_ms = self._now_ms()
        if record is None or not is_right or not record.is_good(now_ms):
            return None
        self.used[record.id] = now_ms
        return Principal(record.id, record.tenant_id, record.family_id, record.scopes)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _hash(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def _known_scopes(scopes: Iterable[str]) -> frozenset[str]:
    chosen = frozenset(scopes)
    if not chosen:
        raise BadRequest(f"A key needs a scope: {', '.join(SCOPES)}.", param="scopes")
    for scope in sorted(chosen.difference(SCOPES)):
        near = difflib.get_close_matches(scope, SCOPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SCOPES)}."
        raise BadRequest(f"There is no scope {scope!r}; {hint}", param="scopes")
    return chosen


def _check_id(param: str, text: str) -> None:
    if not is_sane(text):
        raise BadRequest(f"{param} is 1 to 200 of A-Z a-z 0-9 . _ : and -, got {text[:200]!r}.", param=param)
