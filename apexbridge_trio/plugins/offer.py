"""What the plugins offer at one moment, and how it is put together."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.place import Place
from apexbridge_trio.plugins.plugin import Plugin
from apexbridge_trio.plugins.static import StaticText
from apexbridge_trio.plugins.tally import Tally
from apexbridge_trio.plugins.tool import Tool
from apexbridge_trio.protocol.sentences import Sentences


class Offer(Struct, frozen=True):
    """What there is at one moment.

    Args:
        plugins: By name.
        tools: By the name the model calls.
        sentences: By plugin, then by language.
        texts: What a prompt can have, by the names that it has there.
        faults: What was not loaded, or not changed: file, key, reason.
        disabled: By name, what is there and switched off; nothing of it is in the others.
    """

    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    sentences: Mapping[str, Mapping[str, Sentences]] = field(default_factory=dict)
    texts: Mapping[str, StaticText] = field(default_factory=dict)
    faults: Sequence[str] = ()
    disabled: Mapping[str, Plugin] = field(default_factory=dict)


class OfferBuilder:
    """An offer in the making.

    Args:
        counted: The tallies of the offer before, by plugin and tool.
        is_on: Tells of a plugin's name whether it is offered.

    Attributes:
        tallies: Those of this one.
    """

    def __init__(self, counted: Mapping[tuple[str, str], Tally], is_on: Callable[[str], bool]) -> None:
        self._counted = counted
        self._is_on = is_on
        self._disabled: dict[str, Plugin] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        self._plugins: dict[str, Plugin] = {}
        self._tools: dict[str, PluginTool] = {}
        self._faults: list[str] = []

    def add(self, place: Place) -> bool:
        """Add what a place offers; tells whether it does."""
        if place.fault:
            self._faults.append(place.fault)
        plugin = place.offered
        if plugin is None:
            return False
        if double := self._double(plugin):
            self._faults.append(f"{plugin.source}: {double}")
            return False
        is_on = self._is_on(plugin.name)
        (self._plugins if is_on else self._disabled)[plugin.name] = plugin
        for tool in plugin.tools.values():
            # Counted on, whatever was reloaded meanwhile.
            key = (plugin.name, tool.name)
            self.tallies[key] = tally = self._counted.get(key, tool.tally)
            if is_on:
                self._tools[tool.name] = replace(tool, tally=tally, is_on=self._is_on)
        return is_on

    def offer(self, before: Offer) -> Offer:
        """Return the whole; sentences that did not change are the same object as before."""
        sentences = {name: plugin.manifest.sentences for name, plugin in self._plugins.items()}
        return Offer(
            plugins=self._plugins,
            tools=self._tools,
            sentences=before.sentences if sentences == before.sentences else sentences,
            texts={
                word: plugin.text
                for plugin in self._plugins.values()
                if plugin.text
                for word in (plugin.name, *plugin.placeholders)
            },
            faults=self._faults,
            disabled=self._disabled,
        )

    def _double(self, plugin: Plugin) -> str:
        if plugin.name in self._plugins or plugin.name in self._disabled:
            return f'name: there is a plugin "{plugin.name}" already'
        for name in plugin.tools:
            if name in self._tools:
                return f'tools: plugin "{self._tools[name].plugin}" has a tool "{name}" already'
        return ""
