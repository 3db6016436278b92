"""One plugin, as it was opened."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.manifest import Manifest
from apexbridge_trio.plugins.mcp import McpServer
from apexbridge_trio.plugins.process import Network
from apexbridge_trio.plugins.service import Service
from apexbridge_trio.plugins.static import StaticText
from apexbridge_trio.plugins.supervisor import Standing


class Plugin(Struct, frozen=True, eq=False):
    """What a folder, or an entry of the config, turned out to be.

    Args:
        manifest: What it says of itself.
        source: The file that says so, for faults.
        network: What it has of the network.
        declared: Its tools, as far as the manifest names them.
        server: The MCP server that has others.
        text: Where a static plugin's text comes from.
        service: What else stays up.
        placeholders: What else prompts call its text, beside its name.
        note: What its manifest wants and this machine can not hold, or why it is not run at all.
        is_supported: Whether it is run.
    """

    manifest: Manifest
    source: Path
    network: Network = "on"
    declared: Mapping[str, PluginTool] = field(default_factory=dict)
    server: McpServer | None = None
    text: StaticText | None = None
    service: Service | None = None
    placeholders: tuple[str, ...] = ()
    note: str = ""
    is_supported: bool = True

    @property
    def name(self) -> str:
        """The manifest's."""
        return self.manifest.name

    @property
    def tools(self) -> Mapping[str, PluginTool]:
        """What it offers now, by name."""
        return self.server.tools if self.server else self.declared

    @property
    def standing(self) -> Standing | None:
        """What of it is to be kept up."""
        return self.server or self.text or self.service
