"""Opens plugins: from a folder with a manifest, or from an entry of the config."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio import config
from apexbridge_trio.config import Secret
from apexbridge_trio.errors import ConfigInvalid, ToolFailed
from apexbridge_trio.plugins import legacy
from apexbridge_trio.plugins.environment import environment
from apexbridge_trio.plugins.inline import Code, PluginHome, load_code
from apexbridge_trio.plugins.manifest import FILE, Limits, Manifest, Refresh, read_manifest
from apexbridge_trio.plugins.mcp import McpServer, Mount
from apexbridge_trio.plugins.ongoing import Ongoing
from apexbridge_trio.plugins.permissions import RemindersOf
from apexbridge_trio.plugins.plugin import Plugin
from apexbridge_trio.plugins.process import Program, cage_of, find_command, load_program, network_of
from apexbridge_trio.plugins.service import Service, serve
from apexbridge_trio.plugins.static import StaticText

# In a plugin's config.env: the key of an MCP server that is at an address.
TOKEN: Final = "MCP_TOKEN"  # noqa: S105  # the name of one
# What stands for the file where the config declares a plugin.
CONFIG: Final = Path("[[plugins.mcp]]")
NODE_ONLY: Final = "not supported: needs Node"
_UNHELD: Final = "its network can not be cut on this machine: processes may not make network namespaces"


class Opener(Struct, frozen=True):
    """What all plugins are opened with.

    Args:
        state: The hub's state directory; a plugin gets ``<state>/plugins/<name>``.
        clock: The time with the home's time zone.
        ongoing: Who owns the processes that go on after a pending answer.
        port: Where the hub listens; called when a legacy plugin is run.
        on_tools: Called when an MCP server has said what its tools are.
        strict: Whether a plugin is left out when this machine can not hold it as its manifest wants.
        kill_grace_s: Seconds between SIGTERM and SIGKILL for a plugin's processes.
        reminders: What a plugin with that permission has, for who calls it.
    """

    state: Path
    clock: Callable[[], datetime]
    ongoing: Ongoing
    port: Callable[[], int]
    on_tools: Callable[[], None]
    strict: bool
    kill_grace_s: float
    reminders: RemindersOf | None = None

    def open(self, folder: Path) -> Plugin | None:
        """Open a folder; None if there is no plugin in it. Plugin code is imported, so this blocks.

        Raises:
            ConfigInvalid: File, key, reason.
        """
        if (file := folder / FILE).is_file():
            return self._opened(file, read_manifest(file))
        if (file := folder / legacy.FILE).is_file():
            return self._legacy(file)
        return None

    def mount(self, entry: config.Mcp) -> Plugin:
        """Open an MCP server that the config mounts.

        Raises:
            ConfigInvalid: Entry and reason.
        """
        limits = Limits(allow_network=entry.allow_network)
        manifest = Manifest(
            name=entry.name, runtime="mcp", command=entry.command, url=entry.url, limits=limits
        )
        return self._opened(CONFIG / entry.name, manifest, token=entry.api_key)

    def _legacy(self, file: Path) -> Plugin:
        old = legacy.read_legacy(file)
        try:
            manifest = old.modern()
        except ConfigInvalid as fault:
            raise ConfigInvalid(f"{file}: {fault.message}") from None
        if old.is_in_node:
            return Plugin(manifest, file, note=NODE_ONLY, is_supported=False)
        return replace(self._opened(file, manifest, old=old), placeholders=tuple(old.placeholders))

    def _opened(
        self,
        source: Path,
        manifest: Manifest,
        *,
        token: Secret | None = None,
        old: legacy.LegacyManifest | None = None,
    ) -> Plugin:
        home = PluginHome(self.state / "plugins" / manifest.name, self.clock)
        try:
            home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            note = self._shortfall(manifest)
            parts: dict[str, Any]
            if manifest.runtime == "mcp":
                parts = {"server": McpServer(self._mount(source, manifest, home.state, token), self.on_tools)}
            else:
                parts = self._parts(self._runtime(source.parent, manifest, home, old), manifest)
        except OSError as fault:
            raise ConfigInvalid(f"{source}: no state directory: {fault.strerror}") from None
        except ToolFailed as fault:
            raise ConfigInvalid(f"{source}: entry: {fault.message}") from fault
        except ConfigInvalid as fault:
            raise ConfigInvalid(f"{source}: {fault.message}") from None
        return Plugin(manifest, source, network_of(manifest), note=note, **parts)

    def _parts(self, runs: Code | Program | legacy.LegacyProgram, manifest: Manifest) -> dict[str, Any]:
        parts: dict[str, Any] = {"declared": {one.name: runs.tool(one) for one in manifest.declared_tools}}
        if manifest.type == "static":
            schedule = (manifest.refresh or Refresh()).schedule
            parts["text"] = StaticText(runs.tool(manifest.own_tool), schedule, self.clock)
        if isinstance(runs, Code) and manifest.type == "service":
            parts["service"] = Service(manifest.name, runs.serve)
        if isinstance(runs, Program) and manifest.type == "service":
            parts["service"] = Service(manifest.name, partial(serve, runs))
        return parts

    def _runtime(
        self, folder: Path, manifest: Manifest, home: PluginHome, old: legacy.LegacyManifest | None
    ) -> Code | Program | legacy.LegacyProgram:
        if manifest.runtime == "inline":
            return load_code(folder, manifest, home, self.reminders)
        program = load_program(
            folder, manifest, home.state, ongoing=self.ongoing, kill_grace_s=self.kill_grace_s
        )
        return legacy.LegacyProgram(old, program, self.port) if old else program

    def _mount(self, source: Path, manifest: Manifest, state: Path, token: Secret | None) -> Mount:
        # What the config mounts has no folder: it runs in its state directory.
        folder = state.absolute() if source.parent == CONFIG else source.parent.absolute()
        env = environment(folder, state.absolute())
        command: Sequence[str] = manifest.command
        if manifest.entry:
            command = find_command(folder, manifest.entry)
        return Mount(
            manifest.name,
            manifest.limits,
            cage_of(manifest.limits, self.kill_grace_s),
            command=tuple(command),
            url=manifest.url,
            token=token or (Secret(env[TOKEN]) if TOKEN in env else None),
            folder=folder,
            env=env,
        )

    def _shortfall(self, manifest: Manifest) -> str:
        note = _UNHELD if network_of(manifest) == "cannot be turned off here" else ""
        if note and self.strict:
            raise ConfigInvalid(f"limits.allow_network: {note}")
        return note
