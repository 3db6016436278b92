"""What a node may say: the frames of one direction, and what they are made of."""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from apexbridge_trio.protocol.openai import Id

# A model is offered no more than 128 tools; a node that has more is told so, and not cut in silence.
MAX_TOOLS: Final = 256
MAX_CAPABILITIES: Final = 256
# What a model may call a function (OpenAI's own rule).
ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Word = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
Milliseconds = Annotated[float, Meta(ge=0, le=86_400_000)]

NodeType = Literal["worker", "companion", "custom"]


class ToolSpec(Struct, rename="camel"):
    """A tool as a node offers it.

    Attributes:
        idempotent: Whether a second run does no harm; only such a task is moved to another node.
        plugin: What provides it there; callbacks name it.
        later: Whether its result may come by a callback.
    """

    name: ToolName
    description: Text = ""
    parameters: dict[str, Any] | None = None
    idempotent: bool = False
    plugin: str = ""
    later: bool = False


class TaskLimits(Struct, rename="camel"):
    """What a node takes at a time, and how long by default."""

    max_concurrent: Annotated[int, Meta(ge=1, le=10_000)] = 4
    default_timeout_ms: Milliseconds | None = None


class HeartbeatConfig(Struct, rename="camel"):
    """How often a node means to be heard."""

    interval_ms: Annotated[float, Meta(ge=100, le=600_000)] | None = None


class RegisterConfig(Struct, rename="camel"):
    """The ``config`` of a registration."""

    tasks: TaskLimits = msgspec.field(default_factory=TaskLimits)
    heartbeat: HeartbeatConfig = msgspec.field(default_factory=HeartbeatConfig)


class NodeRegister(Struct, rename="camel", kw_only=True):
    """A node says what it is and can.

    Attributes:
        personality: Unread JSON.
        active_tasks: What it still runs or has results of; None if it does not say.
        instance_id: Of this run of the agent: another one has forgotten what the last one ran.
    """

    frame: ClassVar[str] = "node_register"

    name: Word
    type: NodeType = "worker"
    node_id: Id | None = None
    version: Annotated[str, Meta(max_length=200)] = ""
    capabilities: Annotated[list[Word], Meta(max_length=MAX_CAPABILITIES)] = []
    tools: Annotated[list[ToolName | ToolSpec], Meta(max_length=MAX_TOOLS)] = []
    personality: Raw = Raw(b"null")
    config: RegisterConfig = msgspec.field(default_factory=RegisterConfig)
    stats: dict[str, Any] | None = None
    instance_id: Id | None = None
    active_tasks: Annotated[list[Id], Meta(max_length=10_000)] | None = None
    features: Annotated[list[Word], Meta(max_length=100)] = []
    force: bool = False

    @property
    def specs(self) -> list[ToolSpec]:
        """The tools, those given by name alone among them."""
        return [ToolSpec(tool) if isinstance(tool, str) else tool for tool in self.tools]


class Heartbeat(Struct, rename="camel"):
    """A node is alive; `load` is from 0 to 1."""

    frame: ClassVar[str] = "heartbeat"

    node_id: Id | None = None
    status: Literal["online", "busy", "offline", "unknown"] = "online"
    stats: dict[str, Any] | None = None
    load: Annotated[float, Meta(ge=0, le=1)] | None = None
    resources: dict[str, Any] | None = None


class TaskFault(Struct):
    """Why a task failed."""

    message: str = "The node gave no reason."
    code: str = "tool_failed"
    details: Any = None


class TaskResult(Struct, rename="camel"):
    """What became of a task on its node.

    Attributes:
        result: Unread JSON. (In a union `Raw` would read nothing: msgspec 0.22.)
        error: Unread JSON: a `TaskFault`, a text, or whatever an agent in the field thinks is one.
        execution_time: Milliseconds.
    """

    frame: ClassVar[str] = "task_result"

    task_id: Id
    node_id: Id | None = None
    success: bool = True
    result: Raw = Raw(b"null")
    error: Raw = Raw(b"null")
    execution_time: float | None = None


class TaskAccepted(Struct, rename="camel"):
    """The node has begun."""

    frame: ClassVar[str] = "task_accepted"

    task_id: Id
    node_id: Id | None = None


class TaskProgress(Struct, rename="camel"):
    """How far a task is, from 0 to 1."""

    frame: ClassVar[str] = "task_progress"

    task_id: Id
    node_id: Id | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    message: Text = ""


class TaskCancelled(Struct, rename="camel"):
    """Nothing of the task runs on the node any more."""

    frame: ClassVar[str] = "task_cancelled"

    task_id: Id
    node_id: Id | None = None


class LlmRequest(Struct, rename="camel", kw_only=True):
    """A node asks for a model's answer; the options are OpenAI's fields, some of them in camelCase."""

    frame: ClassVar[str] = "llm_request"

    request_id: Id
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    node_id: Id | None = None
    model: Annotated[str, Meta(max_length=300)] | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    task_id: Id | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.options.get("stream") is True

    @property
    def of_task(self) -> str | None:
        """The task it serves, if it says so."""
        named = self.task_id or self.metadata.get("taskId")
        return named if isinstance(named, str) else None


class LlmCancel(Struct, rename="camel"):
    """The node wants a model's answer no more."""

    frame: ClassVar[str] = "llm_cancel"

    request_id: Id


class NodeLog(Struct, rename="camel"):
    """A line of a node's log."""

    frame: ClassVar[str] = "log"

    message: str
    level: str = "info"
    node_id: Id | None = None
    fields: dict[str, Any] = {}


class NodeUnregister(Struct, rename="camel"):
    """A node leaves on purpose."""

    frame: ClassVar[str] = "node_unregister"

    node_id: Id | None = None
    reason: Text = ""


FromNode = (
    NodeRegister
    | Heartbeat
    | TaskResult
    | TaskAccepted
    | TaskProgress
    | TaskCancelled
    | LlmRequest
    | LlmCancel
    | NodeLog
    | NodeUnregister
)
