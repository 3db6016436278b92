"""Results that the hub has not acknowledged, and what had begun when the last agent was killed.

A result is on disk, whole, before the hub hears of it, and stays there until the hub says that it has
it on its own. Files: ``results/<number>.<taskId>.json``, in the order in which they came about, and an
empty ``begun/<taskId>`` for each task from its start until its result is kept.

A mark in ``begun`` is not brought to the disk: it is there after any death of the agent, and after a
power cut the hub finds by the ids that a node reports what has been lost.

Bounds: when `MOST` results or `MOST_BYTES` wait here, new tasks are refused and done work stays; who
is hurt is who asks for new work, and he is told. Those that run by then may still bring a result each.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct
from trio.lowlevel import checkpoint  # noqa: TID251 - sleep(0) by its proper name

from apexbridge_trio.agent.outcome import fault_of
from apexbridge_trio.files import write_whole
from apexbridge_trio.ids import is_sane
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.frames import TaskResult

T = TypeVar("T")

MOST: Final = 1000
MOST_BYTES: Final = 256 * 1024 * 1024
# A result up to this size stays in memory too, for it is sent at once: at most 64 MB, all of `MOST`.
SMALL_BYTES: Final = 64 * 1024
RESTARTED: Final = "node_restarted"

_RESTARTED: Final = "The node was restarted while this task ran; how far it came is not known."
_UNFINISHED: Final = ".tmp"

log = get_logger("agent")


class Entry(Struct):
    """One result that is kept.

    Args:
        path: Where; None if the disk did not take it.
        result: What is in it, if it is small.
    """

    path: Path | None
    size: int
    result: TaskResult | None


class Kept:
    """The results of one node, and the marks of what has begun.

    Args:
        home: The node's folder, which nobody else uses.
        threads: How many results may be brought to the disk at a time: a journaling file system
            writes what comes together in one go. 0: it is done at once, without a thread.
    """

    def __init__(self, home: Path, *, threads: int = 8) -> None:
        self._results = home / "results"
        self._begun = home / "begun"
        for folder in (self._results, self._begun):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._limiter = trio.CapacityLimiter(threads) if threads else None
        self._entries: dict[str, Entry] = {}
        self._number = 0
        self._emptied = trio.Event()
        self._find()
        self._answer_for_begun()

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Yield the tasks' ids, the oldest result first."""
        return iter(list(self._entries))

    @property
    def is_full(self) -> bool:
        """Whether no new task may be begun."""
        return len(self._entries) >= MOST or self.size > MOST_BYTES

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(entry.size for entry in self._entries.values())

    def begin(self, task_id: str) -> None:
        """Mark that a task has begun."""
        try:
            (self._begun / task_id).touch(mode=0o600)
        except OSError as fault:  # the hub finds out in its own ways
            log.error("the mark of a task can not be written", task=task_id, reason=fault.strerror)

    def end(self, task_id: str) -> None:
        """Take the mark away: there is nothing to answer for any more."""
        _delete(self._begun / task_id)

    async def keep(self, result: TaskResult) -> None:
        """Bring a result to the disk, in place of an earlier one, and take the mark of its task away.

        To be called in a shield: a result that is there is not to be lost by who does not want to wait.
        Bounded by the disk. One that the disk does not take is kept in memory, and sent from there.
        """
        data = msgspec.json.encode(result)
        self._number += 1
        path = self._results / f"{self._number:012d}.{result.task_id}.json"
        entry = Entry(path, len(data), result if len(data) <= SMALL_BYTES else None)
        try:
            await self._in_thread(lambda: _write(path, data))
        except OSError as fault:
            log.error(
                "a result is not on disk: it is lost if this agent ends before the hub has it",
                task=result.task_id,
                reason=fault.strerror,
            )
            entry.path, entry.result = None, result
        earlier = self._entries.pop(result.task_id, None)
        self._entries[result.task_id] = entry
        if earlier is not None and earlier.path is not None:
            _delete(earlier.path)
        self.end(result.task_id)

    async def load(self, task_id: str) -> TaskResult | None:
        """Return a result, or None if it is not kept any more."""
        entry = self._entries.get(task_id)
        if entry is None or entry.result is not None:
            return entry.result if entry else None
        path = entry.path
        assert path is not None
        try:
            return _decode(await self._in_thread(path.read_bytes))
        except OSError as fault:
            if task_id in self._entries:  # else it was acknowledged meanwhile
                log.error("a kept result can not be read", task=task_id, reason=fault.strerror)
            return None

    def drop(self, task_id: str) -> None:
        """Delete a result: the hub has it."""
        entry = self._entries.pop(task_id, None)
        if entry is not None and entry.path is not None:
            # Not brought to the disk: a result that is there again after a power cut is sent once more.
            _delete(entry.path)
        if not self._entries:
            self._emptied.set()
            self._emptied = trio.Event()

    async def empty(self) -> None:
        """Wait until nothing is kept."""
        while self._entries:
            await self._emptied.wait()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            await checkpoint()
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _find(self) -> None:
        for path in sorted(self._results.iterdir()):
            number, _, rest = path.name.partition(".")
            task_id = rest.removesuffix(".json")
            if path.name.endswith(_UNFINISHED) or not number.isdigit() or not is_sane(task_id):
                _delete(path)  # half written, and never sent
                continue
            if (earlier := self._entries.pop(task_id, None)) and earlier.path:
                _delete(earlier.path)
            self._number = int(number)
            self._entries[task_id] = Entry(path, path.stat().st_size, None)

    def _answer_for_begun(self) -> None:
        """Make a result for what ran when the last agent was killed: that work is gone, its end is not."""
        for mark in sorted(self._begun.iterdir()):
            if mark.name not in self._entries and is_sane(mark.name):
                self._number += 1
                path = self._results / f"{self._number:012d}.{mark.name}.json"
                result = TaskResult(mark.name, success=False, error=fault_of(_RESTARTED, RESTARTED))
                data = msgspec.json.encode(result)
                _write(path, data)
                self._entries[mark.name] = Entry(path, len(data), result)
            _delete(mark)


def _decode(data: bytes) -> TaskResult | None:
    try:
        return msgspec.json.decode(data, type=TaskResult)
    except msgspec.DecodeError as fault:
        log.error("a kept result is broken", reason=str(fault))
        return None


def _write(path: Path, data: bytes) -> None:
    write_whole(path, data, path.with_name(path.name.removesuffix(".json") + _UNFINISHED))


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as fault:
        log.warning("a file can not be deleted", file=path.name, reason=fault.strerror)
