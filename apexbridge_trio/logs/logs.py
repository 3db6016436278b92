"""The lines of the log on their way from who logs to who reads.

::

    any thread ── take ──▶ inbox ── the loop, in turns ──▶ rings ──▶ readers ──▶ their connections

Rules.
- `take` never waits and never logs: what it would say would come back to it. Where nobody reads, it is
  an append; the loop is woken only when the inbox is half full.
- Nothing grows: the inbox, each ring and each reader has a size, and what is dropped is counted and told.
- A line is written as a frame once for all readers of the same form, and not before somebody reads it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from heapq import merge
from threading import RLock
from typing import Any, Final

import trio
from trio.lowlevel import (  # noqa: TID251  # the one way back from other threads; sleep(0) by its name
    checkpoint,
    current_trio_token,
)

from apexbridge_trio.errors import Draining
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.log import tap
from apexbridge_trio.logs.line import Line
from apexbridge_trio.logs.reader import Reader
from apexbridge_trio.logs.ring import Ring
from apexbridge_trio.logs.style import Style
from apexbridge_trio.logs.wanted import Wanted
from apexbridge_trio.origin import current

# Contract §2.4.
HISTORY: Final = 200
# Lines that the loop has not looked at: some 100 ms of a thread that does nothing but log. The oldest
# go, and who may have seen them is told how many.
MOST_WAITING: Final = 1024
# A ring that is 512 lines behind the inbox is brought up to date; it need not be sooner.
WAKE_AT: Final = MOST_WAITING // 2
# So many lines are told before others get their turn: under a millisecond.
LINES_A_TURN: Final = 64


class Logs:
    """The log of this hub, for who may read it.

    Attributes:
        epoch: Of this hub; positions of another one say nothing here.
    """

    def __init__(self) -> None:
        self.epoch = new_id("log")
        self._trio = current_trio_token()
        self._inbox: deque[Line] = deque()
        self._rings: dict[str | None, Ring] = {}
        self._readers: dict[Reader, None] = {}
        # Reentrant: a collection inside may end something that logs.
        self._lock = RLock()
        self._overrun: dict[str | None, int] = {}
        self._seq = 0
        self._news = trio.Event()
        self._is_woken = False
        self._is_closed = False

    def __len__(self) -> int:
        """Readers there are."""
        return len(self._readers)

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator["Logs"]:
        """Hear each line that is written inside the block."""
        logs = cls()
        with tap(logs.take):
            yield logs

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take a line, in whatever thread it is written; it is of whose work runs there."""
        self._inbox.append(Line.of(entry, current()))
        if len(self._inbox) > MOST_WAITING:
            self._overflow()
        if (self._readers or len(self._inbox) >= WAKE_AT) and not self._is_woken:
            self._is_woken = True
            with suppress(trio.RunFinishedError):  # the last words of a thread
                self._trio.run_sync_soon(self._wake, idempotent=True)

    def _overflow(self) -> None:
        with self._lock, suppress(IndexError):  # the loop was quicker
            tenant_id = self._inbox.popleft().tenant_id
            self._overrun[tenant_id] = self._overrun.get(tenant_id, 0) + 1

    def _wake(self) -> None:
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell lines to readers until cancelled."""
        task_status.started()
        while True:
            await self._news.wait()
            self._news = trio.Event()
            self._is_woken = False
            while self._inbox:
                self._look(LINES_A_TURN)
                await checkpoint()

    def _look(self, most: int) -> None:
        """Keep and tell lines that have come."""
        with self._lock:
            overrun, self._overrun = self._overrun, {}
        for tenant_id, lines in overrun.items():
            self._count_overrun(tenant_id, lines)
        for _ in range(min(most, len(self._inbox))):
            try:
                line = self._inbox.popleft()
            except IndexError:  # a thread that overflowed it was quicker
                return
            self._keep(line)
            self._tell(line)

    def _count_overrun(self, tenant_id: str | None, lines: int) -> None:
        self._seq += lines
        self._ring(tenant_id).number += lines
        for reader in self._readers:
            if reader.is_of(tenant_id):
                reader.drop(lines)

    def _keep(self, line: Line) -> None:
        self._seq += 1
        line.seq = self._seq
        self._ring(line.tenant_id).add(line)

    def _ring(self, tenant_id: str | None) -> Ring:
        """Return a tenant's lines; there are as many rings as tenants, which only administrators make."""
        if tenant_id not in self._rings:
            self._rings[tenant_id] = Ring()
        return self._rings[tenant_id]

    def _tell(self, line: Line) -> None:
        written: dict[Style, bytes] = {}
        for reader in self._readers:
            if reader.sees(line):
                if reader.style not in written:
                    written[reader.style] = reader.style.write(line)
                reader.post(written[reader.style])

    def read(
        self, who: Principal, wanted: Wanted, style: Style, *, after: tuple[str, int] | None = None
    ) -> Reader:
        """Read the log from now on, beginning with the last lines there were, until `leave`.

        Args:
            who: Decides what is seen.
            wanted: What of it is wanted.
            style: How it is told; its `is_whole` is what `who` is.
            after: What it had last: epoch and number. What came since is told in place of the history,
                with a gap for what is not kept any more.

        Raises:
            Draining: The hub is about to end.
        """
        if self._is_closed:
            raise Draining("The hub is about to end; come again in a moment.", retry_after_s=5)
        self._look(MOST_WAITING)
        reader = Reader(who, wanted, style)
        for line in self._missed(who, reader, after):
            reader.post(style.write(line))
        self._readers[reader] = None
        return reader

    def leave(self, reader: Reader) -> None:
        """Tell somebody nothing more."""
        self._readers.pop(reader, None)
        reader.end()

    def close(self) -> None:
        """Tell every reader that there will be nothing more; the hub is about to end."""
        self._is_closed = True
        for reader in tuple(self._readers):
            self.leave(reader)

    def _missed(self, who: Principal, reader: Reader, after: tuple[str, int] | None) -> list[Line]:
        """Return the history, or what came after a position; the reader is told what of it is gone."""
        style = reader.style
        rings = self._rings if style.is_whole else {who.tenant_id: self._ring(who.tenant_id)}
        kept = list(merge(*(ring.lines for ring in rings.values()), key=lambda line: line.seq))
        last = self._seq if style.is_whole else self._ring(who.tenant_id).number
        if after is None or after[0] != self.epoch or not 0 <= after[1] <= last:
            return [line for line in kept if reader.sees(line)][-HISTORY:]
        found = [line for line in kept if style.position(line) > after[1]]
        if lost := last - after[1] - len(found):
            reader.drop(lost)
        return [line for line in found if reader.sees(line)]
