"""The one writer: what must be on disk before somebody is told goes through here, in order.

A write to the disk takes 1 ms on an SSD and tens on a memory card, too long for the loop that
streams to others. So pieces of work are posted, one task takes all that wait, and a thread writes
them in one transaction: the more come at once, the less each costs. Since only this thread writes,
a piece of work may read, decide and write with nothing in between.

Rules.
- `post` is synchronous, so that cleanup can use it; the order of posting is the order of writing.
- Nobody hears of a piece of work before its transaction is on disk: `Entry.wait` returns, and `after`
  is called on the loop, only then.
- Who gives up waiting does not undo the work.
- While `run` is not there (before it, after it), work is written at once by who posts it.
- A disk that refuses fails what was to be written, and nothing else: who posted it hears why, and may
  post it again. While it refuses, the journal tries it every few seconds, so `trouble` ends by itself.
"""

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio
from msgspec import Struct

from apexbridge_trio.clock import now_ms
from apexbridge_trio.errors import StorageFailed, StoreUnusable
from apexbridge_trio.histogram import SHORT_S, Histogram
from apexbridge_trio.log import get_logger
from apexbridge_trio.store import Store, storage_failed

T = TypeVar("T")

# With a disk of 10 ms, the first of so many waits 2 s for the last; who posts more is made to wait
# by who takes it in (`Pendings.accept` looks at `size`, flights are bounded by connections).
MOST_AT_ONCE: Final = 128
# A disk that refused is asked again this often, by writing one page.
PROBE_S: Final = 5.0

log = get_logger("journal")


class Trouble(Struct, frozen=True):
    """Why nothing can be written now.

    Attributes:
        reason: For people; no path is in it.
        since_ms: Milliseconds since the epoch.
    """

    reason: str
    since_ms: int


class Entry(Generic[T]):
    """One piece of work, posted; made by `Journal.post`."""

    def __init__(
        self,
        work: Callable[[], T],
        after: Callable[[T], None] | None,
        failed: Callable[[Exception], None] | None,
        size: int,
    ) -> None:
        self.size = size
        self._work = work
        self._after = after
        self._failed = failed
        self._told = trio.Event()
        self._values: list[T] = []
        self._fault: Exception | None = None

    async def wait(self) -> T:
        """Wait until it is on disk, and return what the work returned.

        Cancellation: the work is done all the same.

        Raises:
            StorageFailed: The transaction could not be written, and changed nothing.
            Exception: Whatever the work raised; nothing of this work was written.
        """
        await self._told.wait()
        return self.done()

    def done(self) -> T:
        """Return what the work returned, once it is written: at once, where no journal runs.

        Raises:
            Exception: As `wait`.
        """
        if self._fault is not None:
            raise self._fault
        return self._values[0]

    @property
    def refusal(self) -> StoreUnusable | None:
        """Why the disk refused, if it did; asked once it was written."""
        return self._fault if isinstance(self._fault, StoreUnusable) else None

    def write(self, store: Store) -> None:
        """Do the work inside the transaction; a fault is its own and not the others'."""
        try:
            with store.transaction():
                self._values.append(self._work())
        except OSError as fault:
            self.fail(storage_failed(fault, "write to"))
        except Exception as fault:  # noqa: BLE001  # the boundary of one piece of work: `wait` raises it
            self.fail(fault)

    def fail(self, fault: Exception) -> None:
        """Note why it was not written; the first reason stays."""
        self._fault = self._fault or fault

    def tell(self) -> None:
        """Wake who waits; called on the loop, once the transaction is over."""
        if self._fault is None and self._after is not None:
            self._after(self._values[0])
        elif self._fault is not None and self._failed is not None:
            self._failed(self._fault)
        self._told.set()


class Journal:
    """The queue and its writer.

    Args:
        store: A connection that nobody else uses while `run` is there.

    Attributes:
        trouble: Why nothing can be written now; None while all is well, as far as is known.
        writes: How long transactions took, seconds.
        failures: How many could not be written.
        last_write: When the last one was on disk, by `time.monotonic`; None: there was none.
        writing_since: When the one that is being written began.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: list[Entry[object]] = []
        self._news = trio.Event()
        self._is_running = False
        self._thread = trio.CapacityLimiter(1)
        self.trouble: Trouble | None = None
        # How long transactions took, to be read by who watches.
        self.writes = Histogram(SHORT_S)
        self.failures = 0
        self.last_write: float | None = None
        self.writing_since: float | None = None

    def __len__(self) -> int:
        """Pieces of work that wait."""
        return len(self._queue)

    @property
    def size(self) -> int:
        """Bytes that wait to be written, as who posted them has counted."""
        return sum(entry.size for entry in self._queue)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is posted until cancelled, and then what is left.

        Cancellation: a transaction that has begun is finished; the rest is written at once.
        """
        self._is_running = True
        task_status.started()
        try:
            while True:
                with trio.move_on_after(PROBE_S if self.trouble else float("inf")):
                    await self._news.wait()
                if not self._queue:
                    self.post(self._store.probe)
                batch = self._queue[:MOST_AT_ONCE]
                # Cancelled before the thread starts, the batch must still be in the queue.
                await trio.to_thread.run_sync(self._write, batch, limiter=self._thread)
                self._tell(batch)
        finally:
            self._is_running = False
            while batch := self._queue[:MOST_AT_ONCE]:
                self._write(batch)
                self._tell(batch)

    def post(
        self,
        work: Callable[[], T],
        after: Callable[[T], None] | None = None,
        *,
        failed: Callable[[Exception], None] | None = None,
        size: int = 0,
    ) -> Entry[T]:
        """Have work done in its turn.

        Args:
            work: Runs in a thread, inside a transaction; it may only use the journal's store, and files.
            after: Called on the loop with what `work` returned, before anybody who waits is woken.
            failed: Called on the loop instead of `after`, with why it was not written.
            size: Bytes that it holds.
        """
        entry = Entry(work, after, failed, size)
        self._queue.append(entry)  # type: ignore[arg-type]  # what it returns is between it and who waits
        if self._is_running:
            self._news.set()
        else:
            batch = list(self._queue)
            self._write(batch)
            self._tell(batch)
        return entry

    def _write(self, batch: list[Entry[object]]) -> None:
        began = self.writing_since = time.monotonic()
        try:
            with self._store.transaction():
                for entry in batch:
                    entry.write(self._store)
                    self._check(entry)
        except StoreUnusable as fault:
            for entry in batch:
                entry.fail(fault)
        now, self.writing_since = time.monotonic(), None
        if any(entry.refusal for entry in batch):
            self.failures += 1
        else:
            self.last_write = now
            self.writes.add(now - began)

    def _check(self, entry: Entry[object]) -> None:
        """Go no further when SQLite has ended the transaction: the next one would be written alone."""
        if not self._store.is_in_transaction:
            raise entry.refusal or StorageFailed("The hub can not write to its store now.")

    def _tell(self, batch: list[Entry[object]]) -> None:
        del self._queue[: len(batch)]
        if not self._queue:
            self._news = trio.Event()
        self._note(next((entry.refusal for entry in batch if entry.refusal), None))
        for entry in batch:
            entry.tell()

    def _note(self, refusal: StoreUnusable | None) -> None:
        """Keep in mind, and log once, that the disk refuses, or does so no more."""
        if refusal is None and self.trouble is not None:
            log.warning("the disk can be written again", since_ms=self.trouble.since_ms)
            self.trouble = None
        elif refusal is not None:
            if self.trouble is None:
                log.error("nothing can be written; what needs no disk goes on", reason=refusal.message)
            since_ms = self.trouble.since_ms if self.trouble else now_ms()
            self.trouble = Trouble(refusal.message, since_ms)
