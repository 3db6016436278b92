"""Plugins switched off and on again: on disk first, over restarts, with what they run.

Switching off lets the calls that run come to their end, unless who does it wants them stopped; then each
has a receipt, as any interrupt. Whatever waits for a callback of the plugin goes on waiting: the work
is paid for, and its result is owed.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from apexbridge_trio.audit import Actor, Audit
from apexbridge_trio.errors import NotFound
from apexbridge_trio.flights import Flights
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.store import PluginRows

log = get_logger("plugins")


class Switches:
    """The switches of all plugins.

    Args:
        audit: Writes, and notes who wanted it.
        written: The journal's connection to what is switched off.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        plugins: Plugins,
        flights: Flights,
        audit: Audit,
        written: PluginRows,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._plugins = plugins
        self._flights = flights
        self._audit = audit
        self._written = written
        self._now = now

    async def enable(self, name: str, by: Actor) -> None:
        """Offer a plugin again; does nothing if it is offered.

        Raises:
            NotFound: There is none, on or off.
            StoreUnusable: It could not be written, and nothing has changed.
        """
        self._require(name)
        write, then = partial(self._written.enable, name), partial(self._switch, name, on=True)
        await self._audit.change("plugin.enabled", name, by, write, then).wait()

    async def disable(
        self, name: str, by: Actor, *, interrupt: bool = False, wait_s: float = 5.0
    ) -> list[dict[str, Any]]:
        """Offer a plugin no more; returns the receipts of what was stopped.

        Args:
            name: The plugin's.
            by: Who wants it.
            interrupt: Whether its calls that run are stopped.
            wait_s: How long their ends are waited for, all together.

        Raises:
            NotFound: There is none, on or off.
            StoreUnusable: It could not be written, and nothing has changed.
        """
        self._require(name)
        write = partial(self._written.disable, name, int(self._now() * 1000))
        then = partial(self._switch, name, on=False)
        await self._audit.change("plugin.disabled", name, by, write, then).wait()
        if not interrupt:
            return []
        stops = self._flights.interrupt_where(
            lambda flight: flight.facts.get("apex.plugin") == name, f"the plugin {name} was switched off"
        )
        with trio.move_on_after(wait_s):
            for stop in stops:
                await stop.receipt(wait_s)
        return [stop.written() for stop in stops]

    def _switch(self, name: str, _: None, *, on: bool) -> None:
        self._plugins.switch(name, on=on)
        log.info("plugin was switched on" if on else "plugin was switched off", plugin=name)

    def _require(self, name: str) -> None:
        if self._plugins.found(name) is None:
            raise NotFound(f"There is no plugin {name[:200]!r}.")
