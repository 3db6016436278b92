"""What has to last before a trigger fires, in memory and on disk, over hubs and over changes of the config.

=========  ====================================================================================
step       what is on disk once it is
=========  ====================================================================================
begin      since when it is so: a row
over       it has lasted: the row is a mark, in the transaction of the firing; of what has come to
           its end nothing is left
end        it is not so any more: nothing
=========  ====================================================================================

A hub that starts compares the rows with what is so then (`truths`). What is not so any more is let go; what
is so goes on since it began, and what nobody has noted begins. Of a node that is away that is when it left;
one that was here when the hub ended has left because of that, and is away since the start.

While a hub runs its triggers may be changed. One that waits for the same as before keeps what it holds,
whatever else of it is changed, or if only its name is; one that is new, or waits for something else, begins
with what is so, since it is so: what has lasted long enough by then is over at once.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
import trio

from apexbridge_trio.config import Trigger
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.happened import SUBJECTS
from apexbridge_trio.store import HoldRecord, WatchRows
from apexbridge_trio.triggers.armed import Armed, is_renamed, waits_alike
from apexbridge_trio.triggers.happening import Happening
from apexbridge_trio.triggers.holds import Held, Holds
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.truths import Truth, Truths

# At a start, for what has lasted long enough by now: it could not come back while no hub was there.
COME_BACK_S: Final = 15.0
# Of an event, what says how something has come to be what it is.
_CAME: Final = frozenset({"from", "reason"})

log = get_logger("triggers")


class Lasting:
    """What lasts, for all triggers.

    Args:
        written: The journal's connection.
        truths: What the hub knows.
        began_ms: When the hub began, milliseconds since the epoch.

    Attributes:
        holds: The same in memory.
    """

    def __init__(self, written: WatchRows, truths: Truths, began_ms: int) -> None:
        self.holds = Holds()
        self._written = written
        self._truths = truths
        self._began_ms = began_ms

    def begin(self, armed: Armed, happening: Happening, step: Step, *, left_s: float | None = None) -> bool:
        """Begin to count, if there is room and it was not begun; tells whether it has.

        Args:
            armed: Of which trigger.
            happening: What is so, and since when.
            step: What is written of it.
            left_s: How long it still has to last; None: all of the time.
        """
        trigger = armed.trigger
        until = trio.current_time() + (trigger.for_s if left_s is None else left_s)
        word = self.holds.begin(trigger.name, happening, until)
        if word == "begun":
            self._note(armed, happening, happening.at_ms, step)
        elif word == "full":
            armed.left_out += 1
            log.error("too much is waited for; this is left out", trigger=trigger.name)
        return word == "begun"

    def end(self, trigger: str, happening: Happening, step: Step) -> None:
        """It is not so any more."""
        if self.holds.end(trigger, happening.subject):
            step.add(partial(self._written.let_go, trigger, happening.subject))

    def over(self, trigger: str, happening: Happening, step: Step) -> None:
        """It has lasted, and `step` is what comes of that."""
        subject = happening.subject
        if happening.is_end:
            step.add(partial(self._written.let_go, trigger, subject))
        else:
            self.holds.mark(trigger, subject)
            step.add(partial(self._written.note_fired, trigger, subject))

    def follow(
        self, before: Mapping[str, Trigger], triggers: Mapping[str, Armed], now_ms: int, step: Step
    ) -> None:
        """Go by other triggers from now on: see above."""
        gone = [name for name, was in before.items() if not _is_kept(was, triggers.get(name))]
        fresh = []
        for name, armed in triggers.items():
            was = name if name in before and name not in gone else _renamed(armed, gone, before)
            if was is None:
                fresh.append(armed)
                continue
            self.holds.put_off(was, armed.trigger.for_s - before[was].for_s)
            if was != name:
                gone = [one for one in gone if one not in {was, name}]
                self.holds.rename(was, name)
                step.add(partial(self._written.rename, was, name))
        if dropped := self.holds.drop(gone):
            step.add(partial(self._written.let_all_go, dropped))
        self._look(fresh, now_ms, 0.0, step)

    def go_on(
        self, records: list[HoldRecord], triggers: Mapping[str, Armed], now_ms: int, step: Step
    ) -> None:
        """Go on with what an earlier hub has left, and begin with what is so."""
        waiting = {name: armed for name, armed in triggers.items() if armed.trigger.for_s}
        truths = {_key(truth): truth for truth in self._truths.all()} if waiting else {}
        for record in records:
            armed, truth = waiting.get(record.trigger), truths.get((record.kind, record.subject))
            if truth is None and record.kind == "task.status":
                truth = self._truths.of_task(record.subject)
            self._take_up(record, armed, truth, now_ms, step)
        self._look(waiting.values(), now_ms, COME_BACK_S, step)

    def _look(self, triggers: Iterable[Armed], now_ms: int, least_s: float, step: Step) -> None:
        """Begin with what is so, and is not waited for, since it is so."""
        waiting = [armed for armed in triggers if armed.trigger.for_s]
        for truth in self._truths.all() if waiting else ():
            happening = self._happening(truth)
            for armed in waiting:
                if _lasts(armed, happening) and not self.holds.knows(armed.trigger.name, happening.subject):
                    left_s = _left_s(armed, happening.at_ms, now_ms, least_s)
                    self.begin(armed, happening, step, left_s=left_s)

    def _take_up(
        self, record: HoldRecord, armed: Armed | None, truth: Truth | None, now_ms: int, step: Step
    ) -> None:
        happening = None if truth is None else self._happening(truth)
        if armed is None or truth is None or happening is None or not _goes_on(armed, happening):
            step.add(partial(self._written.let_go, record.trigger, record.subject))
        elif truth.since_ms is None:
            self._hold(armed, happening, now_ms, now_ms)
            self._note(armed, happening, now_ms, step)
        elif record.fired:
            self.holds.mark(record.trigger, record.subject)
        else:
            self._hold(armed, happening, record.since_ms, now_ms)

    def _hold(self, armed: Armed, happening: Happening, since_ms: int, now_ms: int) -> None:
        until = trio.current_time() + _left_s(armed, since_ms, now_ms, COME_BACK_S)
        self.holds.restore(armed.trigger.name, happening.subject, Held(until, happening))

    def _note(self, armed: Armed, happening: Happening, since_ms: int, step: Step) -> None:
        record = HoldRecord(armed.trigger.name, happening.subject, happening.kind, since_ms)
        step.add(partial(self._written.hold, record))

    def _happening(self, truth: Truth) -> Happening:
        at_ms = self._began_ms if truth.since_ms is None else truth.since_ms
        return Happening.of(truth.kind, truth.owner, truth.data, at_ms)


def _key(truth: Truth) -> tuple[str, str]:
    return truth.kind, str(truth.data[SUBJECTS[truth.kind]])


def _is_kept(was: Trigger, armed: Armed | None) -> bool:
    return armed is not None and waits_alike(was, armed.trigger)


def _renamed(armed: Armed, gone: Iterable[str], before: Mapping[str, Trigger]) -> str | None:
    """Return the name that a trigger had, if only that is another one."""
    return next((name for name in gone if is_renamed(before[name], armed.trigger)), None)


def _left_s(armed: Armed, since_ms: int, now_ms: int, least_s: float) -> float:
    """Return how long something still has to last; no longer than all of the time, whatever the clock did."""
    for_s = armed.trigger.for_s
    return min(max(for_s - (now_ms - since_ms) / 1000, least_s), for_s)


def _goes_on(armed: Armed, happening: Happening) -> bool:
    """Tell whether what began to last as a trigger wants it is so still; how it came to it is not asked."""
    when = {name: wanted for name, wanted in armed.trigger.when.items() if name not in _CAME}
    return _lasts(Armed(msgspec.structs.replace(armed.trigger, when=when)), happening)


def _lasts(armed: Armed, happening: Happening) -> bool:
    """Tell whether it is what a trigger waits for."""
    trigger = armed.trigger
    is_its = trigger.on == happening.kind and happening.is_for(trigger)
    return is_its and happening.fits(trigger)
