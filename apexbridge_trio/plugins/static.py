"""A static plugin's text: asked for now and then, and put into the prompts that want it."""

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.tool import CallContext

# Nobody's request: the hub asks for itself.
_OWNER: Final = Principal("hub")


class StaticText:
    """What one plugin last said; it stays while the plugin is down.

    Args:
        source: The tool that returns it; a text is taken as it is, any other value as JSON.
        every_s: Seconds between one text and the next.
    """

    def __init__(self, source: PluginTool, every_s: float) -> None:
        self.value = ""
        self._source = source
        self._every_s = every_s

    @property
    def name(self) -> str:
        """The plugin's."""
        return self._source.plugin

    async def run(self, up: Callable[[], None]) -> None:
        """Ask for the text, and again, until it fails.

        Raises:
            ToolFailed: The plugin did.
        """
        while True:
            self.value = await self._ask()
            up()
            await trio.sleep(self._every_s)

    def note_end(self, _fault: str, _retry_in_s: float) -> None:
        """The text stays what it was."""

    async def idle(self) -> None:
        """Nobody waits for it."""

    async def _ask(self) -> str:
        # A tree of its own: it is not a request, and there is nobody who could stop it.
        with Flights().open("refresh", self._source.kind, _OWNER) as flight:
            said = await self._source.call({}, CallContext(flight))
        return said if isinstance(said, str) else msgspec.json.encode(said).decode()
