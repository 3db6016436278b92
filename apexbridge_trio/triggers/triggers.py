"""All triggers: what fits is put on its way in the step in which it is published."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import trio

from apexbridge_trio.config import Trigger
from apexbridge_trio.errors import ApexError, NotFound
from apexbridge_trio.events import Kind
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.notices import Notices
from apexbridge_trio.store import Store, WatchRows
from apexbridge_trio.triggers.armed import Armed, mark_of
from apexbridge_trio.triggers.effects import Effects
from apexbridge_trio.triggers.firings import AGAIN_S, Firings
from apexbridge_trio.triggers.happening import Happening
from apexbridge_trio.triggers.hearing import Hearing
from apexbridge_trio.triggers.lasting import Lasting
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.truths import Standing, Truths

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
        notices: What tells.
        nodes: The nodes, and how they stand.
        now: Seconds since the epoch.

    Attributes:
        firings: What is being done.
        hearing: What is heard; its listener is to be given to the events.
    """

    def __init__(
        self,
        triggers: Iterable[Trigger],
        flights: Flights,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        notices: Notices,
        nodes: Standing,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._now = now
        self._armed = {trigger.name: Armed(trigger) for trigger in triggers}
        self._written = WatchRows(written)
        truths, rows, step = Truths(read, nodes), WatchRows(read), Step()
        self._lasting = Lasting(self._written, truths, self._now_ms())
        self.firings = Firings(
            flights,
            journal,
            read=read,
            written=written,
            find=self._armed_now,
            notified=notices.owed,
            now=now,
        )
        self._effects = Effects(self.firings, notices, written, now)
        self.hearing = Hearing(self._consider_all, journal, read=read, written=written, truths=truths)
        self.hearing.listen(self._kinds(), step)
        self._stay_off(rows.off(), step)
        self._lasting.go_on(rows.holds(), self._armed, self._now_ms(), step)
        step.post(journal)

    def __len__(self) -> int:
        """Actions that are being done."""
        return len(self.firings)

    def replace(self, triggers: Iterable[Trigger]) -> None:
        """Have these triggers from now on, at once; what is being done goes on.

        One that waits for the same as before keeps what it holds, and one that waits for something else looks
        at what is so (`Lasting.follow`). One of the same name keeps its counts.
        """
        before, self._armed = self._armed, {}
        waited = {name: armed.trigger for name, armed in before.items()}
        changed = {name for name, armed in before.items() if armed.disabled}
        for trigger in triggers:
            armed = before.get(trigger.name) or Armed(trigger)
            if armed.become(trigger):
                changed.discard(trigger.name)
            self._armed[trigger.name] = armed
        step = Step()
        self._lasting.follow(waited, self._armed, self._now_ms(), step)
        if changed:
            step.add(partial(self._written.switch_on, changed))
        self.hearing.listen(self._kinds(), step)
        step.post(self._journal)
        self.firings.tell()

    def _kinds(self) -> frozenset[str]:
        return frozenset(one.trigger.on for one in self._armed.values())

    def _stay_off(self, off: Mapping[str, tuple[bytes, str]], step: Step) -> None:
        """Leave off what was off when the hub before this one ended, if it is still the same trigger."""
        for name, (mark, reason) in off.items():
            armed = self._armed.get(name)
            if armed is not None and mark_of(armed.trigger) == mark:
                armed.disabled = reason
            else:
                step.add(partial(self._written.switch_on, [name]))

    def _armed_now(self, name: str) -> Armed | None:
        return self._armed.get(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what triggers say, until cancelled; what is being done then ends too.

        Started means: what a hub before this one left has been told, and what is due has begun.
        """
        await self.firings.recover()
        await self.hearing.catch_up()
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
            self.hearing.note_all()

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
        self._boxed(armed, happening, self._effects.fire, step)
        self._lasting.over(armed.trigger.name, happening, step)
        step.post(self._journal)

    def _consider_all(self, kind: Kind, owner: Principal, data: Any, step: Step) -> None:
        """Have each trigger that waits for such an event of this tenant consider it."""
        fitting = [one for one in self._armed.values() if one.trigger.on == kind]
        mine = [one for one in fitting if one.trigger.tenant == owner.tenant_id]
        if mine:
            happening = Happening.of(kind, owner, data, self._now_ms())
            for armed in mine:
                if happening.is_for(armed.trigger):
                    self._boxed(armed, happening, self._consider, step)

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
                self._effects.fire(armed, happening, step)
        elif not fits:
            self._lasting.end(trigger.name, happening, step)
        elif self._lasting.begin(armed, happening, step):
            self.firings.tell()

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
        happening = Happening.made_up(armed.trigger, self._now_ms())
        step = Step()
        if armed.disabled:
            armed.disabled = ""
            step.add(partial(self._written.switch_on, [name]))
        self._effects.fire(armed, happening, step)
        step.post(self._journal)
        return {"trigger": name, "event": happening.kind, "data": happening.data}

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
