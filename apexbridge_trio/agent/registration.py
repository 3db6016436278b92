"""What a node says of itself when it registers."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from apexbridge_trio import __version__
from apexbridge_trio.ids import new_id
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins import Tool
from apexbridge_trio.protocol.frames import (
    MAX_TOOLS,
    HeartbeatConfig,
    NodeRegister,
    NodeType,
    RegisterConfig,
    TaskLimits,
    ToolSpec,
)

# The contract: before it has admitted a node, the hub takes no frame over 64 KiB.
MOST_FIRST_BYTES: Final = 60 * 1024
FEATURES: Final = ["task_cancel"]
_LONGEST_DESCRIPTION: Final = 4000
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = get_logger("agent")


class Profile(Struct, frozen=True, kw_only=True):
    """Who a node is, the same for all its connections.

    Args:
        node_id: The same after each start.
        max_concurrent: Tasks at a time.
        instance_id: Of this run of the agent: another one has forgotten what the last one ran.
    """

    node_id: str
    name: str
    type: NodeType = "worker"
    capabilities: tuple[str, ...] = ()
    max_concurrent: int = 4
    default_timeout_ms: float = 60_000
    heartbeat_ms: float = 10_000
    instance_id: str = field(default_factory=lambda: new_id("run"))


def specs_of(tools: Mapping[str, Tool]) -> list[ToolSpec]:
    """Return the tools as the hub is told of them; those that it would not take are left out, and logged."""
    named = [tool for tool in tools.values() if _TOOL_NAME.fullmatch(tool.name)]
    _tell_left_out(tool.name for tool in tools.values() if tool not in named)
    _tell_left_out(tool.name for tool in named[MAX_TOOLS:])
    return [
        ToolSpec(
            name=tool.name,
            description=tool.description[:_LONGEST_DESCRIPTION],
            parameters=tool.parameters,
            idempotent=tool.idempotent,
            plugin=tool.plugin,
            later=tool.later is not None,
        )
        for tool in named[:MAX_TOOLS]
    ]


def _tell_left_out(names: Iterable[str]) -> None:
    if left_out := list(names):
        log.warning("tools are not offered to the hub: a name it does not take, or too many", tools=left_out)


def registration(
    profile: Profile, specs: list[ToolSpec], active: list[str], stats: Mapping[str, object]
) -> NodeRegister:
    """Return the whole ``node_register``."""
    return NodeRegister(
        node_id=profile.node_id,
        name=profile.name,
        type=profile.type,
        version=__version__,
        capabilities=list(profile.capabilities),
        tools=list(specs),
        config=RegisterConfig(
            TaskLimits(profile.max_concurrent, profile.default_timeout_ms),
            HeartbeatConfig(profile.heartbeat_ms),
        ),
        stats=dict(stats),
        instance_id=profile.instance_id,
        active_tasks=active,
        features=FEATURES,
    )


def first_of(whole: NodeRegister) -> NodeRegister:
    """Return what is sent before the hub has admitted the node: the whole, or all but the tools.

    Who sends it without tools registers again, with them, when it is admitted.
    """
    if len(msgspec.json.encode(whole)) <= MOST_FIRST_BYTES:
        return whole
    return msgspec.structs.replace(whole, tools=[])
