"""Who changed what, when and from where: a line for each change, on disk before the change is acknowledged.

Whoever changes something says so with `Audit.note`, and gives along what makes the change, if that is
a write to the store: both are in one transaction, so there is no change without its line and no line
without its change. Lines are never altered (the table's triggers refuse it), and are let go only by age,
oldest first, below a line that says so. What is written is redacted, bounded and free of control
characters, whoever has chosen the words.
"""

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from apexbridge_trio.clock import MADE
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.redaction import MASK, redact
from apexbridge_trio.store import AuditRecord, AuditRows, Store

T = TypeVar("T")

Action = Literal[
    "key.created",
    "key.revoked",
    "key.expired",
    "key.forgotten",
    "node.registered",
    "node.forgotten",
    "node.drained",
    "node.resumed",
    "plugin.enabled",
    "plugin.disabled",
    "plugin.reloaded",
    "config.changed",
    "config.rolled_back",
    "config.refused",
    "trigger.tested",
    "state.restored",
    "clock.believed",
    "audit.forgotten",
]

# What is longer is cut: a line says what has changed, it is no copy of it.
_LONGEST_TARGET: Final = 200
_LONGEST_SUMMARY: Final = 4096
_LONGEST_TEXT: Final = 500
_DEEPEST: Final = 8
# Lines that are let go in one transaction; others wait for it.
_MOST_LET_GO: Final = 1000
_SECRET_NAME: Final = re.compile(
    r"(?i)(secret|password|passwd|token|authorization|credential|api_?key|^key$)"
)


class Actor(Struct, frozen=True):
    """Who changes something, and from where.

    Attributes:
        id: A key's id; where no key was used, ``local``, ``cli:<user>``, ``file``, ``signal`` or ``hub``.
        origin: The peer's address, or ``cli``, ``file``, ``signal`` or ``hub``.
    """

    id: str
    origin: str
    tenant_id: str | None = None
    family_id: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, principal: Principal, origin: str, request_id: str | None = None) -> "Actor":
        """Return who a principal is, at an address."""
        return cls(principal.id, origin, principal.tenant_id, principal.family_id, request_id)


# The config file was edited; the process was sent a signal; the hub did it by itself.
FILE: Final = Actor("file", "file")
SIGNAL: Final = Actor("signal", "signal")
HUB: Final = Actor("hub", "hub")


class Audit:
    """All lines of the hub.

    Args:
        read: The loop's connection.
        written: The journal's.
        journal: Writes.
        now: Seconds since the epoch.
    """

    def __init__(
        self, read: Store, written: Store, journal: Journal, *, now: Callable[[], float] = time.time
    ) -> None:
        self.rows = AuditRows(read)
        self._written = AuditRows(written)
        self._journal = journal
        self._now = now

    def note(
        self,
        action: Action,
        target: str,
        by: Actor,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Entry[None]:
        """Note a change that is no write to the store; wait for the entry before it is acknowledged."""
        return self.change(action, target, by, lambda: None, before=before, after=after)

    def change(
        self,
        action: Action,
        target: str,
        by: Actor,
        work: Callable[[], T],
        then: Callable[[T], None] | None = None,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Entry[T]:
        """Make a change and note it, in one transaction.

        Args:
            action: What is done.
            target: What it is done to.
            by: Who does it.
            work: The change, run in the journal's thread; raising undoes it, and no line is written.
            then: Called on the loop with what `work` returned, once it is on disk.
            before: What was, as far as it matters; secrets in it are masked.
            after: What is then.
        """
        line = self.line(action, target, by, before=before, after=after)

        def both() -> T:
            made = work()
            self._written.add(line)
            return made

        return self._journal.post(both, then)

    def line(
        self,
        action: Action,
        target: str,
        by: Actor,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> AuditRecord:
        """Return the line of a change, ready to be written by `write`."""
        return AuditRecord(
            at_ms=int(self._now() * 1000),
            action=action,
            target=_plain(target, _LONGEST_TARGET),
            principal_id=_plain(by.id, _LONGEST_TARGET),
            tenant_id=by.tenant_id,
            family_id=by.family_id,
            origin=_plain(by.origin, _LONGEST_TARGET),
            request_id=by.request_id,
            before=_summary(before),
            after=_summary(after),
        )

    def write(self, line: AuditRecord) -> None:
        """Write a line inside a piece of the journal's work, in its transaction."""
        self._written.add(line)

    def forget_some(self, keep_s: float) -> bool:
        """Let go of some lines that are older, and write down that they were; False: there are no more.

        To be called inside a piece of the journal's work, in its transaction.
        """
        now_ms = int(self._now() * 1000)
        lines = self._written.oldest(_MOST_LET_GO)
        gone = _old(lines, now_ms - int(keep_s * 1000), now_ms)
        if gone:
            last = gone[-1][0]
            what = {"first": gone[0][0], "lines": len(gone), "firstAt": gone[0][1], "lastAt": gone[-1][1]}
            self._written.add(self.line("audit.forgotten", str(last), HUB, before=what))
            self._written.let_go(last)
        return len(gone) == _MOST_LET_GO


def entry_of(line: AuditRecord) -> dict[str, Any]:
    """Write a line as ``GET /v1/audit`` shows it."""
    who = {"principal": line.principal_id, "tenantId": line.tenant_id, "familyId": line.family_id}
    said: dict[str, Any] = {"seq": line.seq, "at": line.at_ms, "action": line.action, "target": line.target}
    said |= {"by": who, "from": line.origin, "requestId": line.request_id}
    for name, summary in (("before", line.before), ("after", line.after)):
        said[name] = None if summary is None else msgspec.Raw(summary.encode())
    return said


def _old(lines: list[tuple[int, int]], before_ms: int, now_ms: int) -> list[tuple[int, int]]:
    """Return the lines from the oldest on, as far as all are older than a time.

    What is dated before any hub was, or later than now, was written by a clock that was wrong, and nobody
    knows how old it is: such a line goes when one that was written after it is old.
    """
    last = 0
    for number, (_, at_ms) in enumerate(lines, 1):
        if before_ms <= at_ms <= now_ms:
            break
        if MADE * 1000 <= at_ms < before_ms:
            last = number
    return lines[:last]


def _plain(text: str, most: int) -> str:
    """Return a text as one line without control characters or secrets, cut to `most` characters."""
    redacted = redact(text[: 4 * most])
    shown = "".join(one if one.isprintable() else _escaped(one) for one in redacted)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


_encode = partial(msgspec.json.encode, enc_hook=lambda value: _plain(str(value), _LONGEST_TEXT))


def _summary(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    text = _encode(_masked(value, 0)).decode()
    if len(text) <= _LONGEST_SUMMARY:
        return text
    return _encode({"cut": True, "length": len(text), "begin": text[: _LONGEST_SUMMARY // 2]}).decode()


def _masked(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            _plain(str(name), _LONGEST_TARGET): MASK
            if _holds_secret(str(name), inner)
            else _masked(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner, depth + 1) for inner in value]
    return _plain(value, _LONGEST_TEXT) if isinstance(value, str) else value


def _holds_secret(name: str, value: Any) -> bool:
    """Tell whether a value is masked for its name; a number or a yes under such a name is none."""
    return isinstance(value, str | bytes) and bool(value) and _SECRET_NAME.search(name) is not None
