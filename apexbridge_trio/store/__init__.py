"""What survives a restart: one SQLite file in the state directory, and the only SQL there is."""

from apexbridge_trio.store.allowances import AllowanceKind, AllowanceRecord, AllowanceRows
from apexbridge_trio.store.audit import AuditRecord, AuditRows
from apexbridge_trio.store.config import RevisionRecord, RevisionRows
from apexbridge_trio.store.copies import check_copy, copy_store, results_in
from apexbridge_trio.store.database import FILE, RESTORING, KeyRecord, Store
from apexbridge_trio.store.devices import DeviceRecord, Devices
from apexbridge_trio.store.faults import RETRY_AFTER_S, said, storage_failed
from apexbridge_trio.store.keys import KeyRows
from apexbridge_trio.store.lock import LOCK, StateHeld, give_to_owner, hold_state, holder_of
from apexbridge_trio.store.nodes import (
    NodeRecord,
    NodeRows,
    NodeTaskRecord,
    NodeTaskState,
    change_of,
    row_of,
)
from apexbridge_trio.store.plugins import PluginRows
from apexbridge_trio.store.reminders import ReminderRecord, ReminderRows, RunRecord
from apexbridge_trio.store.schema import NEWEST
from apexbridge_trio.store.tasks import Notice, TaskRecord, Tasks, TaskState
from apexbridge_trio.store.triggers import FiringKind, FiringRecord, FiringRows
from apexbridge_trio.store.watching import HoldRecord, UnheardKind, WatchRows

__all__ = [
    "FILE",
    "LOCK",
    "NEWEST",
    "RESTORING",
    "RETRY_AFTER_S",
    "AllowanceKind",
    "AllowanceRecord",
    "AllowanceRows",
    "AuditRecord",
    "AuditRows",
    "DeviceRecord",
    "Devices",
    "FiringKind",
    "FiringRecord",
    "FiringRows",
    "HoldRecord",
    "KeyRecord",
    "KeyRows",
    "NodeRecord",
    "NodeRows",
    "NodeTaskRecord",
    "NodeTaskState",
    "Notice",
    "PluginRows",
    "ReminderRecord",
    "ReminderRows",
    "RevisionRecord",
    "RevisionRows",
    "RunRecord",
    "StateHeld",
    "Store",
    "TaskRecord",
    "TaskState",
    "Tasks",
    "UnheardKind",
    "WatchRows",
    "change_of",
    "check_copy",
    "copy_store",
    "give_to_owner",
    "hold_state",
    "holder_of",
    "results_in",
    "row_of",
    "said",
    "storage_failed",
]
