"""What one event has triggers write: all of it in one transaction, or nothing of it."""

from collections.abc import Callable
from typing import Any

from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger

log = get_logger("triggers")


class Step:
    """Pieces of work that belong together."""

    def __init__(self) -> None:
        self._works: list[Callable[[], None]] = []
        self._afters: list[Callable[[], None]] = []
        self._failed: list[Callable[[Exception], None]] = []

    def __bool__(self) -> bool:
        return bool(self._works)

    def add(
        self,
        work: Callable[[], None],
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Add a piece.

        Args:
            work: As `Journal.post` takes it.
            after: Called once all of it is on disk.
            failed: Called instead if it is not.
        """
        self._works.append(work)
        self._afters += [after] if after else []
        self._failed += [failed] if failed else []

    def post(self, journal: Journal) -> None:
        """Have it written, if there is anything."""
        if self._works:
            journal.post(self._write, self._tell, failed=self._fail)

    def _write(self) -> None:
        for work in self._works:
            work()

    def _tell(self, _: Any) -> None:
        for after in self._afters:
            after()

    def _fail(self, fault: Exception) -> None:
        if not self._failed:
            log.error("what triggers wait for is not written", reason=str(fault))
        for failed in self._failed:
            failed(fault)
