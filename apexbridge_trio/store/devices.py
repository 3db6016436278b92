"""Devices that people read on, and which notices each has acknowledged: rows, and what each is due."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store
from apexbridge_trio.store.tasks import Notice

DAY_MS: Final = 86_400_000
# Longer than any notice is kept: a device that was away for so long has missed them anyway.
DEVICE_DAYS: Final = 60
# Of one key. When there are more, the one that was not here for the longest time is forgotten, and is
# a new one when it comes again; who is hurt: the owner of that key alone.
MOST_DEVICES: Final = 20
# Of one tenant, those that somebody has acknowledged and others have not. When there are more, the oldest
# go; who is hurt: a device that is away, which does not hear of them.
MOST_ACKED: Final = 1000
# Something is to be done about these: it is done once, whoever did it.
SETTLED_BY_ONE: Final = ("alert", "reminder")
_SETTLED: Final = msgspec.json.encode(SETTLED_BY_ONE).decode()


class DeviceRecord(Struct, frozen=True):
    """A device that is remembered.

    Attributes:
        key_id: The key it comes with.
        name: What it calls itself; empty: the key has no other without a name.
        first_ms: From when on it is to be told what others have acknowledged; milliseconds since the
            epoch, as is `last_ms`.
    """

    key_id: str
    name: str
    tenant_id: str
    family_id: str | None
    first_ms: int
    last_ms: int


class Devices:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key_id: str, name: str) -> DeviceRecord | None:
        """Return a device that is remembered."""
        rows = self._store.execute("SELECT * FROM devices WHERE key_id = ? AND name = ?", (key_id, name))
        return next((DeviceRecord(*row) for row in rows), None)

    def arrive(self, device: DeviceRecord) -> None:
        """Remember a device, or that it was here again."""
        self._store.execute(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET last_ms = max(last_ms, excluded.last_ms), family_id = excluded.family_id",
            (device.key_id, device.name, device.tenant_id, device.family_id, device.first_ms, device.last_ms),
        )
        self._store.execute(
            "DELETE FROM devices WHERE key_id = ?1 AND name IN (SELECT name FROM devices WHERE key_id = ?1"
            " AND name <> ?2 ORDER BY last_ms DESC, name LIMIT -1 OFFSET ?3)",
            (device.key_id, device.name, MOST_DEVICES - 1),
        )

    def forget(self, now_ms: int) -> None:
        """Forget devices that were not here for long, and those whose key was revoked."""
        self._store.execute(
            "DELETE FROM devices WHERE last_ms < ?"
            " OR key_id IN (SELECT id FROM keys WHERE revoked_ms IS NOT NULL)",
            (now_ms - DEVICE_DAYS * DAY_MS,),
        )

    def due(
        self, device: DeviceRecord | None, tenant_id: str, family_id: str | None, now_ms: int, most: int
    ) -> list[Notice]:
        """Return what somebody has still to be told, oldest first; of many the alerts, and then the newest.

        That is what nobody has acknowledged, and, on a device that is remembered, each notification
        since then that it has not acknowledged itself.

        Args:
            device: Where they read; None: on one that is not remembered.
            tenant_id: Whose notices.
            family_id: Whose of them; None: everybody's.
            now_ms: Milliseconds since the epoch.
            most: How many.
        """
        key_id, name, first_ms = (device.key_id, device.name, device.first_ms) if device else ("", "", None)
        rows = self._store.execute(
            "SELECT * FROM notices WHERE tenant_id = ?1 AND (?2 IS NULL OR family_id = ?2)"
            " AND coalesce(expires_ms, ?3) >= ?3"
            " AND (acked_ms IS NULL OR (kind NOT IN (SELECT value FROM json_each(?4)) AND created_ms >= ?5"
            " AND NOT EXISTS (SELECT 1 FROM notice_acks WHERE notice_id = id AND key_id = ?6 AND name = ?7)))"
            " ORDER BY kind = 'alert' DESC, created_ms DESC, id DESC LIMIT ?8",
            (tenant_id, family_id, now_ms, _SETTLED, first_ms, key_id, name, most),
        )
        return sorted((Notice(*row) for row in rows), key=lambda notice: (notice.created_ms, notice.id))

    def ack(self, notice_id: str, device: DeviceRecord) -> Notice | None:
        """Note that a notice was seen on a device, which is remembered from now on.

        Returns:
            The notice as it is then; None: there is none, it was seen there before, or it is settled.
        """
        rows = self._store.execute("SELECT * FROM notices WHERE id = ?", (notice_id,))
        notice = next((Notice(*row) for row in rows), None)
        if notice is None or (notice.acked_ms is not None and notice.kind in SETTLED_BY_ONE):
            return None
        added = self._store.execute(
            "INSERT OR IGNORE INTO notice_acks VALUES (?, ?, ?, ?) RETURNING 1",
            (notice_id, device.key_id, device.name, device.last_ms),
        )
        if not list(added):
            return None
        # Whoever acknowledges a notice was there when it was made, and is due the others since then.
        self.arrive(msgspec.structs.replace(device, first_ms=min(device.first_ms, notice.created_ms)))
        by = f"{device.key_id}/{device.name}" if device.name else device.key_id
        changed = self._store.execute(
            "UPDATE notices SET acked_ms = coalesce(acked_ms, ?), acked_by = coalesce(acked_by, ?)"
            " WHERE id = ? RETURNING *",
            (device.last_ms, by, notice_id),
        )
        (row,) = list(changed)
        self._forget_oldest(notice.tenant_id)
        return Notice(*row)

    def seen_on(self, notice_id: str) -> list[tuple[str, str, int]]:
        """Return on which devices a notice was acknowledged, and when: key, name, milliseconds."""
        asked = "SELECT key_id, name, at_ms FROM notice_acks WHERE notice_id = ? ORDER BY at_ms, key_id, name"
        return [(row[0], row[1], row[2]) for row in self._store.execute(asked, (notice_id,))]

    def _forget_oldest(self, tenant_id: str) -> None:
        self._store.execute(
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE tenant_id = ?"
            " AND acked_ms IS NOT NULL ORDER BY created_ms DESC, id DESC LIMIT -1 OFFSET ?)",
            (tenant_id, MOST_ACKED),
        )


def named(key_id: str, name: str) -> dict[str, Any]:
    """Say which device it is, as frames and replies do."""
    return {"keyId": key_id, "device": name or None}
