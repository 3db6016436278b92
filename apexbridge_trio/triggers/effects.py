"""What comes of a trigger that fires: a notice, or a firing on disk that says what is to be done."""

from collections.abc import Callable
from functools import partial
from typing import Any

from apexbridge_trio.config import Trigger
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.log import get_logger
from apexbridge_trio.notices import Notices
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import FiringRecord, Store, Tasks
from apexbridge_trio.triggers.armed import Armed
from apexbridge_trio.triggers.depth import MOST_DEPTH, principal_of
from apexbridge_trio.triggers.firings import MOST_WAITING, Firings
from apexbridge_trio.triggers.happening import Happening
from apexbridge_trio.triggers.step import Step

log = get_logger("triggers")


class Effects:
    """Fires triggers, unless a guard says no.

    Args:
        firings: What takes a while goes there.
        notices: What tells.
        written: The journal's connection.
        now: Seconds since the epoch.
    """

    def __init__(self, firings: Firings, notices: Notices, written: Store, now: Callable[[], float]) -> None:
        self._firings = firings
        self._notices = notices
        self._written = Tasks(written)
        self._now = now

    def fire(self, armed: Armed, happening: Happening, step: Step) -> None:
        """Fire a trigger for an event that fits; what comes of it is in the step."""
        if happening.depth >= MOST_DEPTH:
            armed.looped += 1
            log.warning("a chain of triggers was cut", trigger=armed.trigger.name, on=happening.kind)
            return
        if not self._may_fire(armed):
            armed.left_out += 1
            return
        armed.fired += 1
        armed.fired_ms = int(self._now() * 1000)
        owner = principal_of(armed.trigger, happening.depth + 1)
        log.info("a trigger fires", trigger=armed.trigger.name, on=happening.kind, does=armed.trigger.do)
        if armed.trigger.do in {"notify", "alert"}:
            self._say(armed, happening, owner, step)
        else:
            self._firings.add(self._record(armed.trigger, happening, owner), step, partial(_lose, armed))

    def _may_fire(self, armed: Armed) -> bool:
        if armed.disabled:
            return False
        if self._firings.rows.count(armed.trigger.name) >= MOST_WAITING:
            log.error("too much is to be done for triggers; this is left out", trigger=armed.trigger.name)
            return False
        word = armed.guard.take(self._now())
        if word == "just muted":
            self._tell_muted(armed)
        return word == "fire"

    def _tell_muted(self, armed: Armed) -> None:
        log.warning("a trigger is muted", trigger=armed.trigger.name)
        self._notices.owe(
            "notification",
            # As deep as can be: nothing fires on this.
            principal_of(armed.trigger, MOST_DEPTH),
            f"It has fired {armed.guard.per_hour} times within an hour; what is more is left out until then.",
            level="warning",
            title=armed.trigger.name,
            more={"trigger": armed.trigger.name, "state": "muted"},
            failed=partial(_lose, armed),
        )

    def _say(self, armed: Armed, happening: Happening, owner: Principal, step: Step) -> None:
        trigger = armed.trigger
        notice = self._notices.draft(
            "alert" if trigger.do == "alert" else "notification",
            owner,
            happening.fill(trigger.text) or f"{trigger.name}: {happening.kind}",
            level=trigger.level,
            title=happening.fill(trigger.title),
            more={"trigger": trigger.name},
        )
        step.add(
            partial(self._written.owe, notice),
            partial(self._notices.owed, notice.id),
            partial(_lose, armed),
        )

    def _record(self, trigger: Trigger, happening: Happening, owner: Principal) -> FiringRecord:
        now_ms = int(self._now() * 1000)
        return FiringRecord(
            id=new_id("trg"),
            trigger=trigger.name,
            kind=trigger.do,  # type: ignore[arg-type]  # the others were told at once
            action=encode(_action(trigger, happening)).decode(),
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            created_ms=now_ms,
            next_ms=now_ms,
        )


def _lose(armed: Armed, fault: Exception) -> None:
    armed.failed += 1
    log.error("what a trigger tells is not written", trigger=armed.trigger.name, reason=str(fault))


def _action(trigger: Trigger, happening: Happening) -> dict[str, Any]:
    """Return what is kept of what is to be done, filled in."""
    if trigger.do == "chat":
        return {"prompt": happening.fill(trigger.prompt)}
    if trigger.do == "tool":
        return {"tool": trigger.tool, "args": happening.fill_all(trigger.args)}
    # The form that Standard Webhooks recommends: type, timestamp, data.
    said = {"type": happening.kind, "timestamp": happening.at, "data": happening.data}
    return said | {"trigger": trigger.name, "tenantId": happening.tenant_id, "familyId": happening.family_id}
