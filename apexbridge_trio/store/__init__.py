"""What survives a restart: one SQLite file in the state directory, and the only SQL there is."""

from apexbridge_trio.store.audit import AuditRecord, AuditRows
from apexbridge_trio.store.database import FILE, KeyRecord, Store
from apexbridge_trio.store.nodes import (
    NodeRecord,
    NodeRows,
    NodeTaskRecord,
    NodeTaskState,
    change_of,
    row_of,
)
from apexbridge_trio.store.reminders import ReminderRecord, ReminderRows, RunRecord
from apexbridge_trio.store.tasks import Notice, TaskRecord, Tasks, TaskState

__all__ = [
    "FILE",
    "AuditRecord",
    "AuditRows",
    "KeyRecord",
    "NodeRecord",
    "NodeRows",
    "NodeTaskRecord",
    "NodeTaskState",
    "Notice",
    "ReminderRecord",
    "ReminderRows",
    "RunRecord",
    "Store",
    "TaskRecord",
    "TaskState",
    "Tasks",
    "change_of",
    "row_of",
]
