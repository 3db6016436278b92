"""What triggers wait for, which are off, and what they have still to hear: rows, no rules."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

UnheardKind = Literal["notice", "task"]


class HoldRecord(Struct, frozen=True):
    """Something that has to last before a trigger fires, or that has lasted and goes on.

    Attributes:
        trigger: The name in the config.
        subject: What it is about, such as a node's id.
        kind: The event's.
        since_ms: Since when it is so, milliseconds since the epoch.
        fired: The trigger has fired, and does not again before it was not so.
    """

    trigger: str
    subject: str
    kind: str
    since_ms: int
    fired: bool = False


_HOLD: Final = "WHERE trigger_name = ? AND subject = ?"


class WatchRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def holds(self) -> list[HoldRecord]:
        """Return what is waited for, and what has lasted, the longest first."""
        rows = self._store.execute(
            "SELECT trigger_name, subject, kind, since_ms, fired FROM trigger_holds"
            " ORDER BY since_ms, trigger_name, subject"
        )
        return [HoldRecord(row[0], row[1], row[2], row[3], fired=bool(row[4])) for row in rows]

    def hold(self, record: HoldRecord) -> None:
        """Record that something is waited for, or all of it anew."""
        row = msgspec.structs.astuple(record)
        self._store.execute("INSERT OR REPLACE INTO trigger_holds VALUES (?, ?, ?, ?, ?)", row)

    def note_fired(self, trigger: str, subject: str) -> None:
        """Record that something has lasted."""
        self._store.execute(f"UPDATE trigger_holds SET fired = 1 {_HOLD}", (trigger, subject))  # noqa: S608  # our own

    def let_go(self, trigger: str, subject: str) -> None:
        """Record that something is not so any more."""
        self._store.execute(f"DELETE FROM trigger_holds {_HOLD}", (trigger, subject))  # noqa: S608  # our own

    def let_all_go(self, triggers: Iterable[str]) -> None:
        """Forget what was waited for by some triggers."""
        for name in triggers:
            self._store.execute("DELETE FROM trigger_holds WHERE trigger_name = ?", (name,))

    def rename(self, old: str, new: str) -> None:
        """Have what is waited for by a trigger, and what has lasted, under another name, and nothing else."""
        self.let_all_go([new])
        self._store.execute("UPDATE trigger_holds SET trigger_name = ? WHERE trigger_name = ?", (new, old))

    def off(self) -> dict[str, tuple[bytes, str]]:
        """Return the triggers that are off: by name, what marks the one that is meant, and why."""
        rows = self._store.execute("SELECT trigger_name, mark, reason FROM triggers_off")
        return {name: (mark, reason) for name, mark, reason in rows}

    def switch_off(self, trigger: str, mark: bytes, reason: str, now_ms: int) -> None:
        """Keep a trigger as off."""
        row = (trigger, mark, reason, now_ms)
        self._store.execute("INSERT OR REPLACE INTO triggers_off VALUES (?, ?, ?, ?)", row)

    def switch_on(self, triggers: Iterable[str]) -> None:
        """Forget that triggers were off."""
        for name in triggers:
            self._store.execute("DELETE FROM triggers_off WHERE trigger_name = ?", (name,))

    def listened(self) -> set[UnheardKind]:
        """Return what is kept until it was heard."""
        return {row[0] for row in self._store.execute("SELECT kind FROM listened")}

    def listen(self, kinds: Iterable[UnheardKind]) -> None:
        """Have some kinds kept until they were heard, and of the others nothing."""
        self._store.execute("DELETE FROM listened")
        for kind in kinds:
            self._store.execute("INSERT INTO listened VALUES (?)", (kind,))
        self._store.execute("DELETE FROM unheard WHERE kind NOT IN (SELECT kind FROM listened)")

    def unheard(self) -> list[tuple[UnheardKind, str]]:
        """Return what was not heard, in the order in which it happened."""
        return [(row[0], row[1]) for row in self._store.execute("SELECT kind, id FROM unheard ORDER BY seq")]

    def hear(self, heard: Iterable[tuple[UnheardKind, str]]) -> None:
        """Record that some of it was heard."""
        for one in heard:
            self._store.execute("DELETE FROM unheard WHERE kind = ? AND id = ?", one)
