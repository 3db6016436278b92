"""What became of a tool's calls, counted since the hub has loaded it."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio
from msgspec import Struct

from apexbridge_trio.errors import ToolFailed


class Tally(Struct):
    """The calls of one tool.

    Attributes:
        started: All of them; those that neither run nor have ended well or badly were stopped.
        is_failing: The last one that ended by itself has failed.
        last_error: Of the last one that failed, as its model was told.
        seconds: All of them together, those that have ended.
    """

    started: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    is_failing: bool = False
    last_error: str = ""
    seconds: float = 0.0

    @property
    def stopped(self) -> int:
        """Calls that were interrupted, or ended with their request."""
        return self.started - self.running - self.succeeded - self.failed

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count the block as one call."""
        self.started += 1
        self.running += 1
        began = trio.current_time()
        try:
            yield
        except ToolFailed as fault:
            self.failed += 1
            self.is_failing = True
            self.last_error = fault.message
            raise
        else:
            self.succeeded += 1
            self.is_failing = False
        finally:
            self.running -= 1
            self.seconds += trio.current_time() - began
