"""What triggers hear: events as they are published, and what was on disk and no hub had heard.

Notices and ends of tasks are kept until they were heard, while some trigger waits for such (`listened`). That
one was heard is noted in the transaction of what came of it; what has come to nothing is noted together with
others, as hearing it again after a kill comes to nothing again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.events import Kind, Listener
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.store import Store, UnheardKind, WatchRows
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.truths import NOTICES, Truths, unheard_of

# What has fitted nothing is noted as heard when so much has come together; after a kill it is heard again.
MOST_HEARD: Final = 32
Consider = Callable[[Kind, Principal, Any, Step], None]

log = get_logger("triggers")


class Hearing:
    """The ear of all triggers.

    Args:
        consider: Has the triggers consider an event; what comes of it is added to the step.
        journal: The one writer.
        read: The loop's connection.
        written: The journal's.
        truths: What is known of what nobody has heard.

    Attributes:
        listener: What `Events` is to tell.
    """

    def __init__(
        self, consider: Consider, journal: Journal, *, read: Store, written: Store, truths: Truths
    ) -> None:
        self.listener = Listener(self._hear)
        self._consider = consider
        self._journal = journal
        self._written = WatchRows(written)
        self._truths = truths
        self._listened = WatchRows(read).listened()
        self._heard: list[tuple[UnheardKind, str]] = []
        # What this hub has heard itself by the time that it looks for what an earlier one has not.
        self._early: set[tuple[UnheardKind, str]] | None = set()

    def listen(self, kinds: frozenset[str], step: Step) -> None:
        """Hear these kinds from now on; have kept until it was heard what is of them, and nothing else."""
        self.listener.kinds = kinds  # type: ignore[assignment]  # checked when the config was read
        wanted: set[UnheardKind] = {"task"} if "task.status" in kinds else set()
        wanted |= {"notice"} if kinds & NOTICES else set()
        if wanted != self._listened:
            self._listened = wanted
            step.add(partial(self._written.listen, wanted))

    async def catch_up(self) -> None:
        """Hear what was on disk when the hub before was killed, and what it had come to was not."""
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

    def note_all(self) -> None:
        """Have noted what was heard and has come to nothing, so that no later trigger hears it."""
        self._note(step := Step())
        step.post(self._journal)

    def _hear(self, kind: Kind, owner: Principal, data: Any) -> None:
        step = Step()
        self._consider(kind, owner, data, step)
        one = unheard_of(kind, data)
        if one is not None and one[0] in self._listened:
            self._heard.append(one)
            if self._early is not None:
                self._early.add(one)
        if step or len(self._heard) >= MOST_HEARD:
            self._note(step)
        step.post(self._journal)

    def _note(self, step: Step) -> None:
        heard, self._heard = self._heard, []
        if heard:
            step.add(partial(self._written.hear, heard))
