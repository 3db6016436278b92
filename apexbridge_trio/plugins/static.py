"""A static plugin's text: asked for now and then, and put into the prompts that want it."""

from collections.abc import Callable
from datetime import datetime
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
    """What one plugin last said; it stays while the plugin is down, or has just been changed.

    Args:
        source: The tool that returns it; a text is taken as it is, any other value as JSON.
        delay: How many seconds it is from a moment until the next text.
        clock: The time with the home's time zone.

    Attributes:
        value: The text; empty until there is one.
    """

    def __init__(
        self, source: PluginTool, delay: Callable[[datetime], float], clock: Callable[[], datetime]
    ) -> None:
        self.value = ""
        self._source = source
        self._delay = delay
        self._clock = clock

    @property
    def name(self) -> str:
        """The plugin's."""
        return self._source.plugin

    def follow(self, before: "StaticText") -> None:
        """Say what the one before it said, if it has its name, until there is a text of its own."""
        if before.name == self.name:
            self.value = before.value

    async def run(self, up: Callable[[], None]) -> None:
        """Ask for the text, and again, until it fails.

        Raises:
            ToolFailed: The plugin did.
        """
        while True:
            self.value = await self._ask()
            up()
            await trio.sleep(self._delay(self._clock()))

    def note_end(self, _fault: str, _retry_in_s: float) -> None:
        """The text stays what it was."""

    async def idle(self) -> None:
        """Nobody waits for it."""

    async def _ask(self) -> str:
        # A tree of its own: it is not a request, and there is nobody who could stop it.
        with Flights().open("refresh", self._source.kind, _OWNER) as flight:
            said = await self._source.call({}, CallContext(flight))
        return said if isinstance(said, str) else msgspec.json.encode(said).decode()
