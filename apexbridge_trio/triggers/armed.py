"""One trigger as it stands: what it waits for, how often it has fired, and why it does not now."""

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

    def follow(self, before: "Armed") -> bool:
        """Go on counting where the one of the same name was; tells whether it is the same trigger."""
        self.fired, self.failed, self.fired_ms = before.fired, before.failed, before.fired_ms
        self.left_out, self.looped = before.left_out, before.looped
        self.guard = before.guard
        self.guard.per_hour = self.trigger.max_per_hour
        is_same = _plain(self.trigger) == _plain(before.trigger)
        # Who changes it wants it to be tried again.
        self.disabled = before.disabled if is_same else ""
        return is_same

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


def _plain(trigger: Trigger) -> tuple[Any, ...]:
    """Return what tells two triggers apart; a secret that was read again is another object."""
    secret = trigger.secret.reveal() if trigger.secret else None
    return (*msgspec.structs.astuple(msgspec.structs.replace(trigger, secret=None)), secret)
