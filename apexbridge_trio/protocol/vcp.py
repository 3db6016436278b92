"""The node channel, VCP dialect: VCPToolBox's distributed servers, behind the same events.

Such a node is called by its ``serverName``. It says nothing of heartbeats, limits or features: the
connection's own pings tell whether it lives, and a task of it is cancelled only if it said it can.
A manifest may hold the node's secrets (``pluginSpecificEnvConfig``): they are dropped where the frame
is read, by reading only what is named here.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from apexbridge_trio.ids import is_sane
from apexbridge_trio.protocol.channel import (
    Event,
    ForwardedCallback,
    Held,
    Ignored,
    Placeholders,
    Rejected,
    State,
)
from apexbridge_trio.protocol.envelope import FrameInvalid, read_data, read_envelope
from apexbridge_trio.protocol.frames import (
    MAX_TOOLS,
    NodeRegister,
    NodeRegistered,
    NodeUnregister,
    TaskAssign,
    TaskCancel,
    TaskResult,
    ToolName,
    ToolSpec,
)

FIRST_FRAMES: Final = frozenset({"register_tools", "report_ip"})

# Kinds of manifests that no model calls.
_NO_TOOLS: Final = frozenset({"static", "messagePreprocessor", "service"})
# Its own plumbing, such as the fetching of files.
_INTERNAL: Final = "internal_"
_LONGEST_TEXT: Final = 4000


class _Command(Struct, rename="camel"):
    command_identifier: str = ""
    command: str = ""
    description: str = ""


class _Abilities(Struct, rename="camel"):
    invocation_commands: list[_Command] = []


class _Manifest(Struct, rename="camel"):
    name: str
    display_name: str = ""
    description: str = ""
    plugin_type: str = ""
    capabilities: _Abilities | None = None

    def spec(self) -> ToolSpec:
        said = [self.description or self.display_name]
        commands = self.capabilities.invocation_commands if self.capabilities else []
        said += [f"{one.command_identifier or one.command}: {one.description}" for one in commands]
        return ToolSpec(self.name, "\n".join(said)[:_LONGEST_TEXT], {"type": "object"}, plugin=self.name)


class _CanDo(Struct, rename="camel"):
    cancel_tool: bool = False


class _RegisterTools(Struct, rename="camel"):
    server_name: str = ""
    tools: list[Raw] = []
    capabilities: _CanDo = msgspec.field(default_factory=_CanDo)


class _ReportIp(Struct, rename="camel"):
    server_name: str = ""


class _UpdatePlaceholders(Struct, rename="camel"):
    placeholders: dict[str, Any] = {}


class _ToolResult(Struct, rename="camel"):
    request_id: str
    status: str = "success"
    result: Raw = Raw(b"null")
    error: Any = None


class _CallbackData(Struct, rename="camel"):
    plugin_name: str = ""
    task_id: str = ""
    request_id: str = ""


class _Forward(Struct, rename="camel"):
    callback_data: Raw = Raw(b"{}")
    plugin_name: str = ""
    task_id: str = ""
    data: Raw = Raw(b"{}")


_is_name: Final = msgspec.json.Decoder(ToolName).decode


class VcpEnd:
    """The hub's end of such a connection.

    Attributes:
        left_out: Names of manifests that were not taken as tools, of the last registration.
    """

    def __init__(self, fallback_name: str) -> None:
        self.state: State = "connected"
        self.node_id = ""
        self.left_out: list[str] = []
        self._name = fallback_name
        self._can_cancel = False
        self._tools: list[ToolSpec] = []
        self._held = Held()

    def receive(self, text: str | bytes) -> Event | None:
        """Take one frame; None: it is held until the registration is decided."""
        try:
            envelope = read_envelope(text)
            value = self._read(envelope.type, envelope.data)
        except FrameInvalid as fault:
            return Rejected(b"", fault.message)
        if isinstance(value, NodeRegister):
            self.state = "registering" if self.state != "registered" else self.state
            return value
        if self.state == "registering" and not isinstance(value, Ignored):
            if self._held.hold(value, len(text)):
                return None
            return Rejected(b"", "Too much came before the registration was decided.")
        if self.state != "registered" and not isinstance(value, Ignored):
            return Rejected(b"", "The node has not registered.")
        return value

    def _read(self, kind: str, data: Raw) -> Event:
        match kind:
            case "register_tools":
                return self._register_tools(read_data(_RegisterTools, data))
            case "report_ip":
                self._name = read_data(_ReportIp, data).server_name or self._name
                return Ignored(kind) if self.state in {"registered", "registering"} else self._register()
            case "unregister_tools":
                return NodeUnregister(reason="unregister_tools")
        read = _READERS.get(kind)
        return read(data) if read else Ignored(kind[:64])

    def _register_tools(self, asked: _RegisterTools) -> NodeRegister:
        self._name = asked.server_name or self._name
        self._can_cancel = asked.capabilities.cancel_tool
        self._tools, self.left_out = [], []
        for raw in asked.tools:
            self._add_tool(raw)
        return self._register()

    def _add_tool(self, raw: Raw) -> None:
        try:
            manifest = msgspec.json.decode(raw, type=_Manifest)
        except (msgspec.DecodeError, RecursionError):
            self.left_out.append("?")
            return
        if manifest.plugin_type in _NO_TOOLS or manifest.name.startswith(_INTERNAL):
            return
        if not _is_tool_name(manifest.name) or len(self._tools) == MAX_TOOLS:
            self.left_out.append(manifest.name[:64])
            return
        self._tools.append(manifest.spec())

    def _register(self) -> NodeRegister:
        features = ["task_cancel"] if self._can_cancel else []
        return NodeRegister(
            name=self._name[:200], node_id=node_id_of(self._name), tools=list(self._tools), features=features
        )

    def admit(self, node_id: str, welcome: NodeRegistered) -> tuple[bytes, list[Event]]:  # noqa: ARG002  # see Dialect
        """Take the node in; the dialect has no word for it."""
        self.state, self.node_id = "registered", node_id
        return b"", self._held.take()

    def refuse(self, refusal: NodeRegistered) -> list[bytes]:  # noqa: ARG002  # as above
        """Do not take it in; the dialect has no word for it."""
        self.state = "refused" if self.state != "registered" else self.state
        self._held.take()
        return []

    def say(self, value: Any) -> bytes:
        """Write a frame of the hub's; empty if the dialect has none for it."""
        match value:
            case TaskAssign():
                return _frame("execute_tool", _execution(value))
            case TaskCancel() if self._can_cancel:
                return _frame("cancel_tool", {"requestId": value.task_id})
        return b""


def node_id_of(name: str) -> str:
    """Return the id of a node that is called so: the name, or where that is no id, one made of it."""
    return name if is_sane(name) else f"vcp-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _is_tool_name(name: str) -> bool:
    try:
        _is_name(msgspec.json.encode(name))
    except msgspec.DecodeError:
        return False
    return True


def _execution(task: TaskAssign) -> dict[str, Any]:
    values = msgspec.json.decode(task.tool_args, type=dict[str, Any])
    args = {name: value if isinstance(value, str) else _text(value) for name, value in values.items()}
    return {"requestId": task.task_id, "toolName": task.tool_name, "toolArgs": args}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _result(data: Raw) -> Event:
    said = read_data(_ToolResult, data)
    if not is_sane(said.request_id):
        raise FrameInvalid("requestId is no id.")
    if said.status == "success":
        return TaskResult(said.request_id, result=said.result)
    message = said.error if isinstance(said.error, str) else _text(said.error)
    return TaskResult(said.request_id, success=False, error=Raw(msgspec.json.encode(message[:_LONGEST_TEXT])))


def _placeholders(data: Raw) -> Placeholders:
    said = read_data(_UpdatePlaceholders, data)
    texts = {name.strip("{} "): value for name, value in said.placeholders.items() if isinstance(value, str)}
    return Placeholders(texts)


def _forwarded(data: Raw) -> Event:
    said = read_data(_Forward, data)
    body = next((one for one in (said.data, said.callback_data) if bytes(one) not in {b"null", b"{}"}), data)
    try:
        inner = msgspec.json.decode(body, type=_CallbackData)
    except (msgspec.DecodeError, RecursionError):
        raise FrameInvalid("The forwarded callback can not be read.") from None
    plugin = said.plugin_name or inner.plugin_name
    task_id = said.task_id or inner.task_id or inner.request_id
    if not (is_sane(plugin) and is_sane(task_id)):
        raise FrameInvalid("A forwarded callback names its plugin and its task.")
    return ForwardedCallback(plugin, task_id, bytes(body))


_READERS: Final[dict[str, Callable[[Raw], Event]]] = {
    "update_static_placeholders": _placeholders,
    "tool_result": _result,
    "plugin_callback_forward": _forwarded,
}


def _frame(kind: str, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "data": data})
