"""What became of this node's tasks since it was started."""

from typing import Any

from msgspec import Struct


class Tally(Struct):
    """Counts of tasks, and the time of those that ended well."""

    begun: int = 0
    completed: int = 0
    failed: int = 0
    total_ms: float = 0.0

    def succeeded(self, took_ms: float) -> None:
        """Count one that ended well."""
        self.completed += 1
        self.total_ms += took_ms

    def stats(self, active: int) -> dict[str, Any]:
        """Return it as a registration and a heartbeat say it."""
        average_ms = self.total_ms / self.completed if self.completed else 0.0
        return {
            "activeTasks": active,
            "totalTasks": self.begun,
            "completedTasks": self.completed,
            "failedTasks": self.failed,
            "averageResponseTimeMs": round(average_ms, 1),
        }
