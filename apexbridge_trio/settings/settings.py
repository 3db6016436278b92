"""What is in force, and how it changes: see the package."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVarTuple

import trio
from msgspec.structs import replace

from apexbridge_trio import config as configs
from apexbridge_trio.config import Config, ConfigFile, When, changed_keys
from apexbridge_trio.errors import (
    ConfigInvalid,
    ConfigRefused,
    ConfigStale,
    Draining,
    StoreUnusable,
)
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.models import ModelTable
from apexbridge_trio.settings.change import Change, Origin, Plan, diff_of, refusal
from apexbridge_trio.settings.history import History
from apexbridge_trio.settings.plans import Planner
from apexbridge_trio.settings.snapshot import Snapshot
from apexbridge_trio.store import RevisionRows
from apexbridge_trio.upstream import Upstream

Ts = TypeVarTuple("Ts")

Follower = Callable[[Config, Config], None]

log = get_logger("config")


class Settings:
    """The config of the hub.

    Args:
        file: Where it is.
        first: What is in force at the start; its number is given by the history.
        read: Revisions, through the loop's connection.
        written: The same through the journal's.
        journal: Writes them.
        make_upstream: Makes a provider of its entry.
        is_draining: Whether the hub is about to end: nothing is changed then.
        now: Seconds since the epoch.

    Attributes:
        file: Where it is.
        current: What is in force.
        history: What was.
        changed: Told of each change, once it is in force and its revision is on disk.
        refused: Told why an edit of the file was not taken over.
        noting: Asked for each change, in its step, for what notes it in the audit: that is called in the
            transaction that writes the revision, so there is none without the other.
    """

    def __init__(
        self,
        file: ConfigFile,
        first: Snapshot,
        *,
        read: RevisionRows,
        written: RevisionRows,
        journal: Journal,
        make_upstream: Callable[[configs.Upstream], Upstream],
        is_draining: Callable[[], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.file = file
        self.history = History(read, written, journal, now)
        self._planner = Planner(file)
        self.changed: Callable[[Change], None] = _nobody
        self.refused: Callable[[str, Origin], None] = _nobody
        self.noting: Callable[[Change], Callable[[], None]] = _unnoted
        self._make_upstream = make_upstream
        self._is_draining = is_draining
        self._first = first.config
        self._followers: list[Follower] = []
        self._told = ""
        # Not for our own memory: the file is shared with whoever may edit it, and reading, checking
        # and writing it takes time. Those who wait are bounded by connections, and most hear 412.
        self._one_change = trio.Lock()
        latest = read.latest()
        self._is_known = latest is not None and latest.digest == first.source.digest
        number = (latest.number if latest else 0) + (not self._is_known)
        self.current = replace(first, number=number)

    def begin(self) -> None:
        """Have what is in force at the start written into the history, if it is not there; once."""
        if not self._is_known:
            # Of a file that was edited while no hub ran; the first one ever is no change.
            is_change = self.current.number > 1
            found = Change(self.current.revision, Origin("start")) if is_change else None
            self._record(self.current, Origin("start"), {}, [], found)

    def follow(self, follower: Follower) -> None:
        """Have somebody told of each change in the very step it is made: the config before, and after."""
        self._followers.append(follower)

    def close(self) -> None:
        """Close what the models in force hold open."""
        self.current.models.close()

    @property
    def needs_restart(self) -> list[str]:
        """Keys whose value is not in force before the hub is started again."""
        changed = changed_keys(self._first, self.current.config)
        return [key for key, when in changed.items() if when == "restart"]

    async def patch(self, patch: Any, expected: str, origin: Origin) -> Change:
        """Apply a JSON merge patch; it is in force, and on disk, when this returns.

        Cancellation: nothing is changed, or all of it is.

        Args:
            patch: Plain values.
            expected: The revision it was made for, or ``*``.
            origin: Who brings it.

        Raises:
            ConfigStale: Another revision is in force, or the file was edited meanwhile.
            ConfigRefused: With each path that is wrong.
            ConfigReadOnly: The file may not be written.
            ConfigUnwritable: It can not be written now.
            Draining: The hub is about to end.
        """
        async with self._one_change:
            before = self._matched(expected)
            plan = await self._planner.merge(before, patch)
            change, entry = await self._carry_out(before, plan, origin)
        return await _recorded(change, entry)

    async def roll_back(self, revision: str, expected: str, origin: Origin) -> Change:
        """Put an earlier revision's file in the place of today's; see `patch`.

        Headers and addresses that may be keys are as they are now: the history does not keep them. A file
        that was edited and refused is replaced.

        Raises:
            NotFound: There is no such revision.
        """
        record = self.history.find(revision)
        async with self._one_change:
            before = self._matched(expected)
            plan = await self._planner.restore(before, record)
            change, entry = await self._carry_out(before, plan, origin)
        return await _recorded(change, entry)

    async def check(self, *, text: str | None = None, patch: Any = None) -> Mapping[str, When]:
        """Say what a text in the place of the file, or a patch, would change; nothing is.

        Raises:
            ConfigRefused: With everything that is wrong with it.
        """
        before = self.current
        if text is None:
            plan = await self._planner.merge(before, patch)
        else:
            plan = await self._planner.say(before, text)
        self._successor(before, plan)
        return changed_keys(before.config, plan.config)

    async def reload(self, origin: Origin) -> Change | None:
        """Take over what is in the file now; None: it is refused, and `refused` was told.

        Cancellation: nothing is changed, or all of it is.
        """
        async with self._one_change:
            if self._is_draining():
                log.info("the config is not read again: the hub is about to end")
                return None
            before = self.current
            try:
                plan = await self._planner.reread(before)
                change, entry = await self._carry_out(before, plan, origin)
            except ConfigRefused as fault:
                log.error("the config stays as it is", reason=fault.message, origin=origin.kind)
                if fault.message != self._told:  # not again for a signal that says the same
                    self._told = fault.message
                    self.refused(fault.message, origin)
                return None
            self._told = ""
        return await _recorded(change, entry)

    def _matched(self, expected: str) -> Snapshot:
        if self._is_draining():
            raise Draining("The hub is about to end; change the config when it is back.", retry_after_s=5)
        if expected not in {"*", self.current.revision}:
            raise ConfigStale(
                f"The config is of revision {self.current.revision} by now; look at it, and try again."
            )
        return self.current

    def _successor(self, before: Snapshot, plan: Plan) -> ModelTable:
        try:
            return before.models.successor(plan.config, self._make_upstream)
        except ConfigInvalid as fault:
            raise refusal(fault, str(self.file.base)) from None

    async def _carry_out(
        self, before: Snapshot, plan: Plan, origin: Origin
    ) -> tuple[Change, Entry[None] | None]:
        is_same_text = plan.text == plan.source.text
        if is_same_text and plan.source == before.source and plan.config == before.config:
            return Change(before.revision, origin), None
        models = self._successor(before, plan)
        source = plan.source
        if not is_same_text:
            source = await self._planner.write(plan)
        # From here on nothing waits.
        return self._exchange(before, replace(plan, source=source), models, origin)

    def _exchange(
        self, before: Snapshot, plan: Plan, models: ModelTable, origin: Origin
    ) -> tuple[Change, Entry[None]]:
        """Put the new config in force, in one step."""
        after = Snapshot(plan.config, models, plan.source, before.number + 1)
        self.current = after
        before.models.close(models)
        for follower in self._followers:
            follower(before.config, after.config)
        applied = changed_keys(before.config, after.config)
        made_file = before.source.path is None and after.source.path is not None
        change = Change(after.revision, origin, applied, made_file)
        log.info("the config has changed", revision=after.revision, origin=origin.kind, keys=list(applied))
        diff = diff_of(before.config, after.config, applied)
        return change, self._record(after, origin, applied, diff, change)

    def _record(
        self,
        snapshot: Snapshot,
        origin: Origin,
        applied: Mapping[str, When],
        diff: list[dict[str, Any]],
        change: Change | None = None,
    ) -> Entry[None]:
        """Have a revision written, and then told."""
        return self.history.post(
            snapshot,
            origin,
            applied,
            diff,
            note=self.noting(change) if change is not None else _nobody,
            after=lambda: self._tell(change),
            failed=lambda fault: self._unrecorded(change, fault),
        )

    def _tell(self, change: Change | None) -> None:
        if change is not None:
            self.changed(change)

    def _unrecorded(self, change: Change | None, fault: Exception) -> None:
        # In force it is, and in the file: who is here is told; `History` writes it when it can.
        log.error("a revision of the config could not be written into the history", reason=str(fault))
        self._tell(change)


async def _recorded(change: Change, entry: Entry[None] | None) -> Change:
    try:
        if entry is not None:
            await entry.wait()
    except StoreUnusable:
        return replace(change, recorded=False)
    return change


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


def _unnoted(_: Change) -> Callable[[], None]:
    """Return what notes nothing: there is no audit yet."""
    return _nobody
