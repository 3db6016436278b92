"""A tool as a manifest declares it: the limits that hold for every runtime, around what runs it."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from msgspec import Struct, field

from apexbridge_trio.errors import ConfigInvalid, ToolFailed, ToolTimeout
from apexbridge_trio.plugins.arguments import ArgumentSchema
from apexbridge_trio.plugins.boundary import boundary
from apexbridge_trio.plugins.manifest import DeclaredTool, Manifest
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tally import Tally
from apexbridge_trio.plugins.tool import CallContext, Kind, Later, Pending

# What a runtime gives for a tool: run it once. It takes a slot itself, since what goes on after a
# pending answer keeps its slot.
Run = Callable[[dict[str, Any], CallContext], Awaitable[Output | Pending]]


class PluginTool(Struct, frozen=True):
    """One tool of a plugin, as a `Tool`."""

    name: str
    description: str
    parameters: dict[str, Any]
    plugin: str
    kind: Kind
    max_execution_s: float
    max_output_bytes: int
    idempotent: bool
    later: Later | None
    schema: ArgumentSchema
    run: Run
    tally: Tally = field(default_factory=Tally)
    # Who has begun with a tool keeps it; this is how it learns that its plugin was switched off.
    is_on: Callable[[str], bool] = bool

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any | Pending:
        """Check the arguments, run the tool once and return its result, a JSON value.

        Waiting for a slot counts as running. A result over `max_output_bytes` is cut, with a note.

        Cancellation: passed on to the runtime; when this returns, nothing of the call goes on, but
        for what `Pending` hands over.

        Raises:
            ToolFailed: The arguments do not fit the schema, the plugin failed, or it was switched off.
            ToolTimeout: It had not answered after `max_execution_s`.
        """
        if not self.is_on(self.plugin):
            raise ToolFailed(f"The plugin {self.plugin} was switched off.", code="plugin_disabled")
        self.schema.check(arguments)
        # A boundary whatever runs it: what goes wrong with a plugin is never the fault of the request.
        with self.tally.count(), boundary():
            output: Output | Pending | None = None
            with trio.move_on_after(self.max_execution_s):
                output = await self.run(arguments, context)
            if output is None:
                raise ToolTimeout(f"{self.name} did not end within {self.max_execution_s:g} s.")
            return output if isinstance(output, Pending) else output.within(self.max_output_bytes)


def declare(manifest: Manifest, declared: DeclaredTool, kind: Kind, run: Run) -> PluginTool:
    """Put what runs a tool behind what its manifest says of it.

    Raises:
        ConfigInvalid: Its parameters are no JSON Schema.
    """
    try:
        schema = ArgumentSchema(declared.parameters)
    except ConfigInvalid as fault:
        raise ConfigInvalid(f"parameters: {fault.message}") from None
    return PluginTool(
        name=declared.name,
        description=declared.description,
        parameters=declared.parameters,
        plugin=manifest.name,
        kind=kind,
        max_execution_s=manifest.limits.max_execution_s,
        max_output_bytes=manifest.limits.max_output_bytes,
        idempotent=manifest.idempotent if declared.idempotent is None else declared.idempotent,
        later=manifest.later,
        schema=schema,
        run=run,
    )
