"""What has to last before a trigger fires, in memory and on disk, over hubs.

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
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
import trio

from apexbridge_trio.protocol.happened import SUBJECTS
from apexbridge_trio.store import HoldRecord, WatchRows
from apexbridge_trio.triggers.armed import Armed
from apexbridge_trio.triggers.happening import Happening
from apexbridge_trio.triggers.holds import Held, Holds, Word
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.truths import Truth, Truths

# At a start, for what has lasted long enough by now: it could not come back while no hub was there.
COME_BACK_S: Final = 15.0
# Of an event, what says how something has come to be what it is.
_CAME: Final = frozenset({"from", "reason"})


class Lasting:
    """What lasts, for all triggers.

    Args:
        written: The journal's connection.
        truths: What the store knows.

    Attributes:
        holds: The same in memory.
    """

    def __init__(self, written: WatchRows, truths: Truths) -> None:
        self.holds = Holds()
        self._written = written
        self._truths = truths

    def begin(self, armed: Armed, happening: Happening, step: Step) -> Word:
        """Begin to count, if there is room and it was not begun."""
        trigger = armed.trigger
        word = self.holds.begin(trigger.name, happening, trio.current_time() + trigger.for_s)
        if word == "begun":
            self._note(armed, happening, happening.at_ms, step)
        return word

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

    def drop(self, triggers: Iterable[str], step: Step) -> None:
        """Forget all of some triggers."""
        if dropped := self.holds.drop(triggers):
            step.add(partial(self._written.let_all_go, dropped))

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
        for truth in truths.values():
            happening = _happening(truth, now_ms)
            for name, armed in waiting.items():
                if _lasts(armed, happening) and not self.holds.knows(name, happening.subject):
                    self._hold(armed, happening, happening.at_ms, now_ms)
                    self._note(armed, happening, happening.at_ms, step)

    def _take_up(
        self, record: HoldRecord, armed: Armed | None, truth: Truth | None, now_ms: int, step: Step
    ) -> None:
        happening = None if truth is None else _happening(truth, now_ms)
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
        for_s = armed.trigger.for_s
        left_s = for_s - (now_ms - since_ms) / 1000
        until = trio.current_time() + min(max(left_s, COME_BACK_S), for_s)
        self.holds.restore(armed.trigger.name, happening.subject, Held(until, happening))

    def _note(self, armed: Armed, happening: Happening, since_ms: int, step: Step) -> None:
        record = HoldRecord(armed.trigger.name, happening.subject, happening.kind, since_ms)
        step.add(partial(self._written.hold, record))


def _key(truth: Truth) -> tuple[str, str]:
    return truth.kind, str(truth.data[SUBJECTS[truth.kind]])


def _happening(truth: Truth, now_ms: int) -> Happening:
    at_ms = now_ms if truth.since_ms is None else truth.since_ms
    return Happening.of(truth.kind, truth.owner, truth.data, at_ms)


def _goes_on(armed: Armed, happening: Happening) -> bool:
    """Tell whether what began to last as a trigger wants it is so still; how it came to it is not asked."""
    when = {name: wanted for name, wanted in armed.trigger.when.items() if name not in _CAME}
    return _lasts(Armed(msgspec.structs.replace(armed.trigger, when=when)), happening)


def _lasts(armed: Armed, happening: Happening) -> bool:
    """Tell whether it is what a trigger waits for."""
    trigger = armed.trigger
    is_its = trigger.on == happening.kind and happening.is_for(trigger)
    return is_its and happening.fits(trigger)
