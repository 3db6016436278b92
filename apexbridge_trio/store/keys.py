"""What is asked of many keys at a time: pages of them, which are still good, when they were used."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from apexbridge_trio.store.database import SLACK_MS, KeyRecord, Store, key_record

# Of a page of keys.
MOST_KEYS_LISTED: Final = 1000
# As `KeyRecord.is_good` has it.
_GOOD: Final = (
    f"revoked_ms IS NULL AND (expires_ms IS NULL OR (expires_ms > ?1 AND created_ms - {SLACK_MS} <= ?1))"
)


class KeyRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def version(self) -> int:
        """Return a number that is another one when another connection, of any process, has written."""
        return self._store.version()

    def listed(
        self, *, limit: int, after: str | None = None, tenant_id: str | None = None
    ) -> list[KeyRecord]:
        """Return keys, oldest first.

        Args:
            limit: How many, at most `MOST_KEYS_LISTED`.
            after: The id of the last one of the page before.
            tenant_id: Only this tenant's.
        """
        rows = self._store.execute(
            "SELECT * FROM keys WHERE (?1 IS NULL OR tenant_id = ?1) AND (?2 IS NULL"
            " OR (created_ms, id) > (SELECT created_ms, id FROM keys WHERE id = ?2))"
            " ORDER BY created_ms, id LIMIT ?3",
            (tenant_id, after, min(limit, MOST_KEYS_LISTED)),
        )
        return [key_record(row) for row in rows]

    def count_good(self, now_ms: int) -> int:
        """Return how many keys may be used."""
        found = self._store.execute(f"SELECT count(*) FROM keys WHERE {_GOOD}", (now_ms,))  # noqa: S608  # our own words
        return next(found)[0]  # type: ignore[no-any-return]

    def good_of(self, ids: Iterable[str], now_ms: int) -> set[str]:
        """Return those of some ids whose keys may be used."""
        text = msgspec.json.encode(sorted(ids)).decode()
        among = f"SELECT id FROM keys WHERE {_GOOD} AND id IN (SELECT value FROM json_each(?2))"  # noqa: S608  # our own words
        return {row[0] for row in self._store.execute(among, (now_ms, text))}

    def tenants(self, scope: str, now_ms: int) -> set[str]:
        """Return the tenants with a key that may be used, and has a scope; any, if that is empty."""
        found = self._store.execute(
            f"SELECT DISTINCT tenant_id FROM keys WHERE {_GOOD}"  # noqa: S608  # our own words
            " AND (?2 = '' OR instr(' ' || scopes || ' ', ' ' || ?2 || ' '))",
            (now_ms, scope),
        )
        return {row[0] for row in found}

    def next_expiry(self, now_ms: int) -> int | None:
        """Return when the next key expires that is good now; None if none does."""
        rows = self._store.execute(
            "SELECT min(expires_ms) FROM keys WHERE revoked_ms IS NULL AND expires_ms > ?", (now_ms,)
        )
        return next(rows)[0]  # type: ignore[no-any-return]

    def expired(self, now_ms: int, most: int) -> list[str]:
        """Return keys that have expired without anybody having noted it."""
        rows = self._store.execute(
            "SELECT id FROM keys WHERE revoked_ms IS NULL AND expires_ms <= ? AND expired_ms IS NULL LIMIT ?",
            (now_ms, most),
        )
        return [row[0] for row in rows]

    def note_expired(self, key_id: str, now_ms: int) -> bool:
        """Note that a key has expired; False if that was noted before."""
        return bool(
            list(
                self._store.execute(
                    "UPDATE keys SET expired_ms = ? WHERE id = ? AND expired_ms IS NULL RETURNING id",
                    (now_ms, key_id),
                )
            )
        )

    def ended(self, since_ms: int, before_ms: int, most: int) -> list[str]:
        """Return keys that were revoked, or have expired, between two times; of both the first counts."""
        when = "min(coalesce(revoked_ms, expires_ms), coalesce(expires_ms, revoked_ms))"
        rows = self._store.execute(
            f"SELECT id FROM keys WHERE {when} >= ? AND {when} < ? LIMIT ?",  # noqa: S608  # our own words
            (since_ms, before_ms, most),
        )
        return [row[0] for row in rows]

    def forget(self, key_id: str) -> None:
        """Forget a key that has ended; it is as unknown as one that never was."""
        self._store.execute("DELETE FROM keys WHERE id = ?", (key_id,))

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were used last."""
        for key_id, used_ms in uses.items():
            self._store.execute(
                "UPDATE keys SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE id = ?",
                (used_ms, key_id),
            )
