"""What replies look like, as types: for the document, and held against real replies by its tests.

Rooms write most replies as plain dictionaries, from their rows; these are the promise to who reads them.
Fields beyond these may come with a later version.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from apexbridge_trio.config import When
from apexbridge_trio.protocol.openai import ErrorBody

# Milliseconds since the epoch.
Millis = int


class Reply(Struct, rename="camel"):
    """What they have in common: wire names are camelCase."""


class Dependency(Reply):
    """Something the hub needs, and how it was when it was last looked at."""

    name: str
    state: str
    checked_age_s: float | None
    detail: str


class Health(Reply):
    """How the hub is; `dependencies` only for an administrator, or on the machine itself."""

    status: str
    version: str
    uptime_s: float
    draining: bool
    dependencies: list[Dependency] | UnsetType = UNSET


class ModelEntry(Struct):
    """A model, as OpenAI lists it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Struct):
    """The models that can be asked."""

    object: Literal["list"]
    data: list[ModelEntry]


class Choice(Struct):
    """One answer."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None


class Completion(Struct):
    """A whole answer, as OpenAI writes it."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, Any] | UnsetType = UNSET
    apex: dict[str, Any] | UnsetType = UNSET


class Accepted(Reply):
    """It goes on by itself."""

    request_id: str
    status: Literal["accepted"]


class Branch(Reply):
    """One branch of what was stopped; `ms` from the interrupt to its end."""

    path: str
    kind: str
    state: Literal["stopped", "stopping"]
    ms: int


class Receipt(Reply):
    """What an interrupt stopped, and what has not said so yet."""

    success: Literal[True]
    status: Literal["success"]
    interrupted: bool
    request_id: str
    message: str
    state: Literal["stopped", "stopping"]
    took_ms: int
    branches: list[Branch]
    not_stopped: list[str]


class FlightEntry(Reply):
    """Something that runs, with all that runs below it; `id` can be interrupted as a path."""

    id: str
    kind: str
    name: str
    started_at: Millis
    age_ms: int
    deadline_in_ms: int | None
    tenant_id: str
    state: str
    children: list["FlightEntry"]


class RequestEntry(Reply):
    """A request that runs, or one in the background that has ended."""

    request_id: str
    id: str
    kind: str
    status: str
    tenant_id: str
    result: Any = UNSET
    error: ErrorBody | UnsetType = UNSET


class NodeStats(Reply):
    """What a node has done since the hub began."""

    active_tasks: int
    total_tasks: int
    completed_tasks: int
    failed_tasks: int
    average_response_time_ms: float | None


class NodeEntry(Reply):
    """A machine that has joined."""

    id: str
    name: str
    type: str
    version: str | None
    status: Literal["online", "busy", "draining", "offline"]
    tenant_id: str
    capabilities: list[str]
    tools: list[Any]
    load: float | None
    stats: NodeStats
    connected_at: Millis | None
    last_heartbeat_at: Millis | None
    latency_ms: float | None
    last_disconnect: dict[str, Any] | None


class Forgotten(Reply):
    """A node that is forgotten."""

    status: Literal["success"]
    node_id: str
    message: str


class TaskEntry(Reply):
    """A task of a node or of a plugin; asked for by its id, also with arguments, history and result."""

    task_id: str
    tool_name: str
    state: str
    node_id: str | None
    attempts: int
    tenant_id: str
    created_at: Millis
    deadline_at: Millis | None
    ended_at: Millis | None
    late_results: int
    error: dict[str, Any] | None


class TaskAccepted(Reply):
    """A task that is on disk, and will come to one end."""

    task_id: str
    status: Literal["accepted"]
    state: str


class NoticeEntry(Reply):
    """Something that somebody has not seen yet."""

    id: str
    type: Literal["notification", "alert", "reminder"]
    level: str
    message: str
    created_at: Millis


class Seen(Reply):
    """Where a notice was acknowledged, and when."""

    key_id: str
    device: str | None
    at: Millis


class NoticeWhole(NoticeEntry):
    """A notice, and who has seen it."""

    acked_at: Millis | None
    seen_on: list[Seen]


class Done(Reply):
    """It is done, and on disk."""

    status: Literal["success"]
    id: str


class ReminderEntry(Reply):
    """A reminder; `next` in its own time zone."""

    id: str
    text: str
    state: Literal["waiting", "ended"]
    next_at: Millis | None
    next: str | None
    cron: str | None
    timezone: str
    missed: Literal["run_once", "skip"]
    action: dict[str, Any]
    fired: int
    created_at: Millis


class PluginEntry(Reply):
    """A plugin, or a folder that was refused as one."""

    name: str
    state: str
    health: Literal["ok", "limited", "failing"]
    last_error: str


class Taken(Reply):
    """A callback that was taken; a result is on disk."""

    status: Literal["success"]
    message: str
    task_id: str
    plugin: str
    duplicate: bool | UnsetType = UNSET


class KeyEntry(Reply):
    """What is kept of a key; never the key."""

    id: str
    name: str
    scopes: list[str]
    tenant_id: str
    family_id: str | None
    state: str
    expires_at: Millis | None
    last_used_at: Millis | None
    revoked_at: Millis | None
    open: int


class NewKey(KeyEntry):
    """A key that was made; it is not shown again."""

    key: str


class KeyPage(Reply):
    """Keys, the oldest first; `next` is `after` of the next page."""

    keys: list[KeyEntry]
    next: str | None


class TriggerEntry(Reply):
    """A trigger, and how it stands."""

    name: str
    tenant_id: str
    on: str
    do: str
    state: Literal["armed", "muted", "disabled"]
    reason: str | None
    muted_until: Millis | None
    last_fired_at: Millis | None
    fired: int
    failed: int


class AuditEntry(Reply):
    """One change: who, what, when, from where."""

    seq: int
    at: Millis
    action: str
    target: str
    by: dict[str, str | None]
    origin: str = field(name="from")
    request_id: str | None
    before: Any
    after: Any


class AuditPage(Reply):
    """Changes, the newest first; `next` is `before` of the next page."""

    entries: list[AuditEntry]
    next: int | None


class ConfigKey(Reply):
    """A key of the config that changes, and when that counts."""

    key: str
    applied: When


class ConfigChange(Reply, omit_defaults=True):
    """What came of a change of the config."""

    revision: str
    changed: list[ConfigKey]
    recorded: bool
    needs_restart: list[str]
    created: str = ""


class ConfigFault(Reply):
    """One thing that is wrong with a config."""

    path: str
    line: int | None
    message: str


class ConfigVerdict(Reply, omit_defaults=True):
    """Whether a config could be used; what it would change, or what is wrong with it."""

    valid: bool
    changed: list[ConfigKey] = []
    message: str = ""
    faults: list[ConfigFault] = []


class ConfigRevision(Reply, omit_defaults=True):
    """What was in force, since when, and who brought it; `toml` only when it is asked for alone."""

    revision: str
    current: bool
    at: Millis
    origin: Literal["api", "rollback", "signal", "edit", "start"]
    by: str | None
    address: str | None = field(name="from")
    changed: list[ConfigKey]
    diff: list[dict[str, Any]]
    toml: str = ""
