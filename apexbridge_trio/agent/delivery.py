"""Kept results on their way over one link: which were sent, and what the hub has said of them."""

from apexbridge_trio.agent.kept import SMALL_BYTES, Kept
from apexbridge_trio.protocol.frames import TaskResult


class Delivery:
    """The results of one link.

    Args:
        kept: All that the hub has not acknowledged, on this link or an earlier one.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        # Results that were sent, and their sizes.
        self._unacknowledged: dict[str, int] = {}
        # Not taken by the hub, and to be sent again with the next sign of life.
        self._owed: set[str] = set()

    async def load(self, task_id: str) -> TaskResult | None:
        """Return a result that is about to be sent, or None if it is not kept any more."""
        result = await self._kept.load(task_id)
        if result is not None:
            self._unacknowledged[task_id] = len(memoryview(result.result))
        return result

    def acknowledged(self, task_id: str) -> None:
        """Keep a result no longer: the hub has it."""
        self._unacknowledged.pop(task_id, None)
        self._kept.drop(task_id)

    def not_taken(self, task_id: str) -> None:
        """Owe a result once more: the hub could not take it."""
        self._owed.add(task_id)

    def take_owed(self) -> list[str]:
        """Return the tasks whose results are to be sent again; none of them is owed any more."""
        owed, self._owed = self._owed, set()
        return [task_id for task_id in sorted(owed) if task_id in self._kept]

    def largest(self) -> str:
        """Return the task whose result the hub may find too large; a small one is never to blame."""
        large = {task_id: size for task_id, size in self._unacknowledged.items() if size > SMALL_BYTES}
        return max(large, key=lambda task_id: large[task_id], default="")
