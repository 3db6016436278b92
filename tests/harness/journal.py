"""The journal as a slow disk or a broken one makes it, without a thread: the virtual clock would not wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apexbridge_trio.errors import StorageFailed
from tests.harness.world import World


class BrokenStore:
    """A disk that is full."""

    is_in_transaction = False

    def transaction(self) -> Any:
        raise StorageFailed("The disk is full.", retry_after_s=5.0)


class Held:
    """A journal whose thread is slow: nothing is on disk before `write`."""

    def __init__(self, world: World) -> None:
        self.journal = world.hub.nodes._journal

    def write(self) -> None:
        """Finish the transaction that has begun, with all that was posted until now."""
        batch = list(self.journal._queue)
        self.journal._write(batch)
        self.journal._tell(batch)


@contextmanager
def held(world: World) -> Iterator[Held]:
    """Hold what is posted; on leaving, it is written."""
    held = Held(world)
    held.journal._is_running = True
    try:
        yield held
    finally:
        held.journal._is_running = False
        held.write()


@contextmanager
def broken(world: World) -> Iterator[None]:
    """Have nothing written."""
    journal = world.hub.nodes._journal
    journal._store, store = BrokenStore(), journal._store  # type: ignore[assignment]
    try:
        yield
    finally:
        journal._store = store
