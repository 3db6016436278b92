"""All triggers: what fits is put on its way in the step in which it is published."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import trio

from apexbridge_trio.config import Trigger
from apexbridge_trio.errors import ApexError, NotFound, StoreUnusable
from apexbridge_trio.events import Events, Kind, Listener
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.notices import Notices
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import FiringRecord, Store, Tasks, UnheardKind, WatchRows
from apexbridge_trio.triggers.armed import Armed, mark_of
from apexbridge_trio.triggers.depth import MOST_DEPTH, principal_of
from apexbridge_trio.triggers.firings import AGAIN_S, MOST_WAITING, Firings
from apexbridge_trio.triggers.happening import Happening
from apexbridge_trio.triggers.lasting import Lasting
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.truths import NOTICES, Truths, unheard_of

# What has fitted nothing is noted as heard when so much has come together; after a kill it is heard again.
MOST_HEARD: Final = 32
Act = Callable[[Armed, Happening, Step], None]

log = get_logger("triggers")


class Triggers:
    """The triggers of all tenants.

    Args:
        triggers: Of the config.
        flights: The live tree.
        journal: The one writer.
        read: The loop's connection.
        written: The journal's connection.
        events: What is listened to.
        notices: What tells.
        now: Seconds since the epoch.

    Attributes:
        firings: What is being done.
    """

    def __init__(
        self,
        triggers: Iterable[Trigger],
        flights: Flights,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        events: Events,
        notices: Notices,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._notices = notices
        self._journal = journal
        self._now = now
        self._armed: dict[str, Armed] = {}
        self._truths = Truths(read)
        self._written = WatchRows(written)
        self._lasting = Lasting(self._written, self._truths)
        self._written_notices = Tasks(written)
        self._heard: list[tuple[UnheardKind, str]] = []
        # What this hub has heard itself by the time that it looks for what an earlier one has not.
        self._early: set[tuple[UnheardKind, str]] | None = set()
        self._listener = Listener(self._hear)
        self.firings = Firings(
            flights,
            journal,
            read=read,
            written=written,
            find=self._find,
            notified=notices.owed,
            now=now,
        )
        rows = WatchRows(read)
        self._listened = rows.listened()
        self.replace(triggers)
        self._stay_off(rows.off())
        self._lasting.go_on(rows.holds(), self._armed, int(now() * 1000), step := Step())
        step.post(journal)
        events.listen(self._listener)

    def __len__(self) -> int:
        """Actions that are being done."""
        return len(self.firings)

    def replace(self, triggers: Iterable[Trigger]) -> None:
        """Have these triggers from now on, at once; what is being done goes on.

        One that has not changed keeps what it holds; one of the same name keeps its counts, too.
        """
        before, self._armed = self._armed, {}
        others, off = set(before), {name for name, armed in before.items() if armed.disabled}
        for trigger in triggers:
            armed = before.get(trigger.name) or Armed(trigger)
            if armed.become(trigger):
                others.discard(trigger.name)
            self._armed[trigger.name] = armed
        self._listener.kinds = frozenset(one.trigger.on for one in self._armed.values())  # type: ignore[misc]  # checked
        step = Step()
        self._lasting.drop(others, step)
        if others & off:
            step.add(partial(self._written.switch_on, others & off))
        self._listen(step)
        step.post(self._journal)
        self.firings.tell()

    def _listen(self, step: Step) -> None:
        """Have kept until it was heard what some trigger waits for, and nothing else."""
        kinds = self._listener.kinds
        wanted: set[UnheardKind] = {"task"} if "task.status" in kinds else set()
        wanted |= {"notice"} if kinds & NOTICES else set()
        if wanted != self._listened:
            self._listened = wanted
            step.add(partial(self._written.listen, wanted))

    def _stay_off(self, off: Mapping[str, tuple[bytes, str]]) -> None:
        """Leave off what was off when the hub before this one ended, if it is still the same trigger."""
        for name, (mark, reason) in off.items():
            armed = self._armed.get(name)
            if armed is not None and mark_of(armed.trigger) == mark:
                armed.disabled = reason
            else:
                self._journal.post(partial(self._written.switch_on, [name]), failed=_log_unwritten)

    def _find(self, name: str) -> Armed | None:
        return self._armed.get(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what triggers say, until cancelled; what is being done then ends too.

        Started means: what a hub before this one left has been told, and what is due has begun.
        """
        await self.firings.recover()
        await self._hear_unheard()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    wait_s = self._look(nursery)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    # Nothing came between looking and waiting: both are in one step.
                    with trio.move_on_after(float("inf") if wait_s is None else wait_s):
                        await self.firings.news()
        finally:
            self.note_heard()

    async def _hear_unheard(self) -> None:
        """Hear what was on disk when the hub before this one was killed, and what it had come to was not."""
        try:
            unheard = await self._journal.post(self._written.unheard).wait()
            # What was heard early may have been read before that was written.
            for one in [one for one in unheard if one not in (self._early or ())]:
                if (truth := self._truths.unheard(*one)) is not None:
                    self._hear(truth.kind, truth.owner, truth.data)
                self._heard.append(one)
        except StoreUnusable as fault:
            log.error("what triggers have not heard is heard at the next start", reason=fault.message)
        finally:
            self._early = None

    def _look(self, nursery: trio.Nursery) -> float | None:
        for name, happening in self._lasting.holds.lasted(trio.current_time()):
            if (armed := self._armed.get(name)) is not None:
                self._fire_lasted(armed, happening)
        try:
            waits = [self.firings.begin_due(nursery)]
        except ApexError as fault:
            log.error("triggers can not be looked at now", reason=fault.message)
            waits = [AGAIN_S]
        if (until := self._lasting.holds.next()) is not None:
            waits.append(max(until - trio.current_time(), 0.0))
        return min((wait for wait in waits if wait is not None), default=None)

    def _fire_lasted(self, armed: Armed, happening: Happening) -> None:
        step = Step()
        self._boxed(armed, happening, self._fire, step)
        self._lasting.over(armed.trigger.name, happening, step)
        step.post(self._journal)

    def _hear(self, kind: Kind, owner: Principal, data: Any) -> None:
        fitting = [one for one in self._armed.values() if one.trigger.on == kind]
        mine = [one for one in fitting if one.trigger.tenant == owner.tenant_id]
        step = Step()
        if mine:
            happening = Happening.of(kind, owner, data, int(self._now() * 1000))
            for armed in mine:
                if happening.is_for(armed.trigger):
                    self._boxed(armed, happening, self._consider, step)
        self._note_heard(kind, data, step)
        step.post(self._journal)

    def note_heard(self) -> None:
        """Have noted what was heard and fitted nothing, so that no later trigger hears it."""
        heard, self._heard = self._heard, []
        if heard:
            self._journal.post(partial(self._written.hear, heard), failed=_log_unwritten)

    def _note_heard(self, kind: Kind, data: Any, step: Step) -> None:
        """Note what was heard: in the transaction of what came of it, or else together with others.

        What fits nothing is heard once more after a kill, and fits nothing again.
        """
        one = unheard_of(kind, data)
        if one is not None and one[0] in self._listened:
            self._heard.append(one)
            if self._early is not None:
                self._early.add(one)
        if self._heard and (step or len(self._heard) >= MOST_HEARD):
            heard, self._heard = self._heard, []
            step.add(partial(self._written.hear, heard))

    def _boxed(self, armed: Armed, happening: Happening, act: Act, step: Step) -> None:
        try:
            act(armed, happening, step)
        except Exception as fault:  # the boundary of one trigger: who publishes is not disturbed
            armed.failed += 1
            reason = fault.message if isinstance(fault, ApexError) else None
            log.error("a trigger failed", trigger=armed.trigger.name, reason=reason, exc_info=not reason)

    def _consider(self, armed: Armed, happening: Happening, step: Step) -> None:
        trigger, fits = armed.trigger, happening.fits(armed.trigger)
        if not trigger.for_s:
            if fits:
                self._fire(armed, happening, step)
        elif not fits:
            self._lasting.end(trigger.name, happening, step)
        elif (word := self._lasting.begin(armed, happening, step)) == "begun":
            self.firings.tell()
        elif word == "full":
            armed.left_out += 1
            log.error("too much is waited for; this is left out", trigger=trigger.name)

    def _fire(self, armed: Armed, happening: Happening, step: Step) -> None:
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
            self.firings.add(self._record(armed.trigger, happening, owner), step, partial(self._lose, armed))

    def _may_fire(self, armed: Armed) -> bool:
        if armed.disabled:
            return False
        if self.firings.rows.count(armed.trigger.name) >= MOST_WAITING:
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
            failed=partial(self._lose, armed),
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
            partial(self._written_notices.owe, notice),
            partial(self._notices.owed, notice.id),
            partial(self._lose, armed),
        )

    def _lose(self, armed: Armed, fault: Exception) -> None:
        armed.failed += 1
        log.error("what a trigger tells is not written", trigger=armed.trigger.name, reason=str(fault))

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

    def listed(self) -> list[dict[str, Any]]:
        """Say how each stands, as ``GET /v1/triggers`` shows it."""
        now = self._now()
        return [one.entry(now, self._lasting.holds.count(name)) for name, one in self._armed.items()]

    def try_out(self, name: str) -> dict[str, Any]:
        """Fire one, for an event that is made up so that it fits; returns that event.

        One that is off is on again from now on: what it does may work by now.

        Raises:
            NotFound: There is none of that name.
        """
        if (armed := self._armed.get(name)) is None:
            raise NotFound(f"There is no trigger {name[:200]!r}.")
        happening = Happening.made_up(armed.trigger, int(self._now() * 1000))
        step = Step()
        if armed.disabled:
            armed.disabled = ""
            step.add(partial(self._written.switch_on, [name]))
        self._fire(armed, happening, step)
        step.post(self._journal)
        return {"trigger": name, "event": happening.kind, "data": happening.data}


def _log_unwritten(fault: Exception) -> None:
    log.error("what triggers wait for is not written", reason=str(fault))


def _action(trigger: Trigger, happening: Happening) -> dict[str, Any]:
    """Return what is kept of what is to be done, filled in."""
    if trigger.do == "chat":
        return {"prompt": happening.fill(trigger.prompt)}
    if trigger.do == "tool":
        return {"tool": trigger.tool, "args": happening.fill_all(trigger.args)}
    # The form that Standard Webhooks recommends: type, timestamp, data.
    said = {"type": happening.kind, "timestamp": happening.at, "data": happening.data}
    return said | {"trigger": trigger.name, "tenantId": happening.tenant_id, "familyId": happening.family_id}
