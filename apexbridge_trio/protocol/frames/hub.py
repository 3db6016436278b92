"""What the hub may say to a node: the frames of the other direction."""

from typing import Any, ClassVar

from msgspec import Raw, Struct

from apexbridge_trio.protocol.frames.node import TaskFault
from apexbridge_trio.protocol.openai import Id


class TaskAssign(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The hub gives a node a task.

    Attributes:
        timeout: Milliseconds it was given when it was made.
        remaining_ms: What is left of that now.
        attempt: 1 for the first node it was given to.
    """

    frame: ClassVar[str] = "task_assign"

    task_id: Id
    node_id: str
    tool_name: str
    tool_args: Raw
    timeout: int
    remaining_ms: int
    priority: int
    attempt: int
    capability: str | None = None
    request_id: str | None = None
    action: str | None = None
    callback: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class TaskCancel(Struct, rename="camel"):
    """The hub wants a task no more."""

    frame: ClassVar[str] = "task_cancel"

    task_id: Id
    reason: str = ""


class TaskResultAck(Struct, rename="camel", omit_defaults=True):
    """The hub has a result, on its disk; `stale`: it has no effect."""

    frame: ClassVar[str] = "task_result_ack"

    task_id: Id
    node_id: str
    success: bool
    timestamp: int
    message: str = ""
    stale: bool = False


class NodeRegistered(Struct, rename="camel", omit_defaults=True):
    """What became of a registration."""

    frame: ClassVar[str] = "node_registered"

    node_id: str | None
    success: bool
    message: str
    code: str | None = None
    hub_info: dict[str, Any] | None = None
    heartbeat: dict[str, int] | None = None
    resume: dict[str, list[str]] | None = None


class HeartbeatAck(Struct, rename="camel", omit_defaults=True):
    """The hub has heard a node."""

    frame: ClassVar[str] = "heartbeat_ack"

    node_id: str | None
    success: bool
    status: str
    timestamp: int
    message: str = ""


class LlmResponseStream(Struct, rename="camel", omit_defaults=True):
    """A piece of a model's answer; the last one is empty, and `done`."""

    frame: ClassVar[str] = "llm_response_stream"

    request_id: str
    node_id: str
    chunk: str
    done: bool
    timestamp: int
    usage: dict[str, Any] | None = None


class LlmResponse(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A model's whole answer, or why there is none; the end of every `LlmRequest`."""

    frame: ClassVar[str] = "llm_response"

    request_id: str
    node_id: str
    success: bool
    stream: bool
    timestamp: int
    content: str | None = None
    usage: dict[str, Any] | None = None
    error: TaskFault | None = None


class NodeUnregistered(Struct, rename="camel"):
    """The hub knows that a node has left."""

    frame: ClassVar[str] = "node_unregistered"

    node_id: str
    success: bool = True


class ChannelError(Struct, rename="camel"):
    """A frame was not taken, and why; the connection goes on."""

    frame: ClassVar[str] = "error"

    code: str
    message: str


class Drain(Struct):
    """The hub is about to end: finish, and come back."""

    frame: ClassVar[str] = "drain"


class ConnectionAck(Struct, rename="camel"):
    """The first frame of every channel."""

    frame: ClassVar[str] = "connection_ack"

    connection_id: str
    server_id: str
    message: str
    timestamp: int


FromHub = (
    ConnectionAck
    | NodeRegistered
    | HeartbeatAck
    | TaskAssign
    | TaskCancel
    | TaskResultAck
    | LlmResponseStream
    | LlmResponse
    | NodeUnregistered
    | ChannelError
    | Drain
)
