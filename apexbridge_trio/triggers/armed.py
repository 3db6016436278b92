"""One trigger as it stands: what it waits for, how often it has fired, and why it does not now."""

import hashlib
import hmac
from typing import Any

import msgspec

from apexbridge_trio.config import Trigger
from apexbridge_trio.triggers.guard import Guard


class Armed:
    """One trigger of the config.

    Attributes:
        fired: How often it has, as are the others: since the hub began, or the trigger was added.
        failed: Firings that came to no good end.
        left_out: Events that fitted while it was muted, disabled, or had no room.
        looped: Events that fitted, and came of a chain of triggers that is too long.
        disabled: Why it does nothing any more; empty while it does.
    """

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self.guard = Guard(trigger.max_per_hour)
        self.fired = self.failed = self.left_out = self.looped = 0
        self.fired_ms: int | None = None
        self.disabled = ""

    def become(self, trigger: Trigger) -> bool:
        """Be what the config says of that name now, and go on counting; tells whether it is the same.

        What runs for it has this very object, so what becomes of that is counted here, too.
        """
        is_same = self.is_still(trigger)
        self.trigger = trigger
        self.guard.per_hour = trigger.max_per_hour
        if not is_same:
            self.disabled = ""  # who changes it wants it to be tried again
        return is_same

    def is_still(self, trigger: Trigger) -> bool:
        """Tell whether it is what it was."""
        return _plain(self.trigger) == _plain(trigger)

    def entry(self, now: float, held: int) -> dict[str, Any]:
        """Say how it stands, as ``GET /v1/triggers`` shows it."""
        trigger, is_muted = self.trigger, self.guard.is_muted(now)
        return {
            "name": trigger.name,
            "tenantId": trigger.tenant,
            "familyId": trigger.family or None,
            "on": trigger.on,
            "when": trigger.when,
            "forS": trigger.for_s,
            "do": trigger.do,
            "state": "disabled" if self.disabled else "muted" if is_muted else "armed",
            "reason": self.disabled or None,
            "mutedUntil": int(self.guard.until * 1000) if is_muted else None,
            "lastFiredAt": self.fired_ms,
            "fired": self.fired,
            "failed": self.failed,
            "leftOut": self.left_out,
            "looped": self.looped,
            "held": held,
        }


def mark_of(trigger: Trigger) -> bytes:
    """Return what tells on disk whether a trigger was changed; of a secret, no more than a signature."""
    *plain, secret = _plain(trigger)
    return hmac.digest((secret or "").encode(), msgspec.json.encode(plain), hashlib.sha256)


def waits_alike(one: Trigger, other: Trigger) -> bool:
    """Tell whether two triggers wait for the same to last, if not as long."""
    return _waits(one) == _waits(other) and bool(one.for_s and other.for_s)


def is_renamed(one: Trigger, other: Trigger) -> bool:
    """Tell whether two triggers that wait for something to last differ in nothing but their names."""
    return waits_alike(one, other) and _plain(one)[1:] == _plain(other)[1:]


def _waits(trigger: Trigger) -> tuple[Any, ...]:
    return trigger.on, trigger.when, trigger.tenant, trigger.family


def _plain(trigger: Trigger) -> tuple[Any, ...]:
    """Return what tells two triggers apart; a secret that was read again is another object."""
    secret = trigger.secret.reveal() if trigger.secret else None
    return (*msgspec.structs.astuple(msgspec.structs.replace(trigger, secret=None)), secret)
