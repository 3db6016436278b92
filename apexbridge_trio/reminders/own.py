"""Reminders as one owner has them: what a peer or a plugin may see, set and remove."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from apexbridge_trio.errors import ApexError, BadRequest, NotFound, ToolFailed
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.reminders.reminders import Reminders
from apexbridge_trio.reminders.wanted import Wanted, read_wanted, record_of
from apexbridge_trio.schedule import read_zone
from apexbridge_trio.store import ReminderRecord


class OwnReminders:
    """The reminders of one owner: of its own tenant, and family if it has one, also for an administrator.

    Args:
        reminders: Of all.
        owner: Whose; what is set is theirs.
    """

    def __init__(self, reminders: Reminders, owner: Principal) -> None:
        self._reminders = reminders
        self._owner = replace(owner, scopes=frozenset())

    def waiting(self) -> list[dict[str, Any]]:
        """Return what is still to come, what comes next first."""
        listed = self._reminders.rows.of_tenant(self._owner.tenant_id)
        return [self._entry(record) for record in listed if self._is_own(record)]

    def find(self, reminder_id: str) -> dict[str, Any]:
        """Return one, which may have ended.

        Raises:
            NotFound: Unknown, forgotten, or of someone else.
        """
        return self._entry(self._found(reminder_id))

    async def add(self, wanted: Wanted) -> dict[str, Any]:
        """Set a reminder; it is on disk when this returns.

        Raises:
            BadRequest: What is wanted can not be.
            TooMany: There are as many as there may be.
        """
        reminders = self._reminders
        record = record_of(wanted, self._owner, reminders.now(), reminders.home)
        reminders.actions.check(record.kind, record.action, self._owner)
        await reminders.add(record)
        return self._entry(record)

    async def remove(self, reminder_id: str) -> dict[str, Any]:
        """Forget a reminder; it is gone from the disk when this returns. What it has begun goes on.

        Raises:
            NotFound: Unknown, removed, or of someone else.
        """
        record = self._found(reminder_id)
        if not await self._reminders.remove(record.id):
            raise _unknown(reminder_id)
        return self._entry(record)

    def _found(self, reminder_id: str) -> ReminderRecord:
        record = self._reminders.rows.find(reminder_id)
        if record is None or not self._is_own(record):
            raise _unknown(reminder_id)
        return record

    def _is_own(self, record: ReminderRecord) -> bool:
        return self._owner.may_see(owner_of(record))

    def _zone(self, record: ReminderRecord) -> ZoneInfo:
        """Return the zone it is shown in; one that this machine knows no more must not hide the others."""
        try:
            return read_zone(record.timezone) if record.timezone else self._reminders.home
        except BadRequest:
            return self._reminders.home

    def _entry(self, record: ReminderRecord) -> dict[str, Any]:
        zone = self._zone(record)
        due = datetime.fromtimestamp(record.next_ms / 1000, zone) if record.next_ms is not None else None
        return {
            "id": record.id,
            "text": record.text,
            "state": "waiting" if due else "ended",
            "nextAt": record.next_ms,
            "next": due.isoformat(timespec="seconds") if due else None,
            "cron": record.cron,
            "timezone": record.timezone or str(zone),
            "missed": record.missed,
            "action": {record.kind: msgspec.json.decode(record.action)},
            "fired": record.fired,
            "lastAt": record.last_ms,
            "createdAt": record.created_ms,
            "endedAt": record.ended_ms,
            "tenantId": record.tenant_id,
            "familyId": record.family_id,
        }


class PluginReminders:
    """What a plugin with the permission ``reminders`` has, for who called it: reminders that only tell.

    A model that sets a reminder can not have a tool run later, when nobody looks.
    """

    def __init__(self, reminders: Reminders, owner: Principal) -> None:
        self._own = OwnReminders(reminders, owner)

    def waiting(self) -> list[dict[str, Any]]:
        """See `Reminding.waiting`."""
        return self._own.waiting()

    async def add(self, text: str, **when: Any) -> dict[str, Any]:
        """See `Reminding.add`."""
        try:
            return await self._own.add(
                read_wanted(encode({**when, "text": text, "action": {"notify": True}}))
            )
        except ApexError as fault:
            raise ToolFailed(fault.message, code=fault.code) from None

    async def remove(self, reminder_id: str) -> bool:
        """See `Reminding.remove`."""
        try:
            await self._own.remove(reminder_id)
        except NotFound:
            return False
        return True


def _unknown(reminder_id: str) -> NotFound:
    return NotFound(f"There is no reminder {reminder_id[:200]}.")
