"""All plugins of the hub, by what they offer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from apexbridge_trio.errors import ConfigInvalid, ToolFailed
from apexbridge_trio.plugins.inline import InlineTool, PluginHome, load_tools
from apexbridge_trio.plugins.manifest import FILE, Manifest, read_manifest
from apexbridge_trio.plugins.tool import Tool
from apexbridge_trio.protocol.sentences import Sentences


@dataclass(frozen=True, slots=True)
class Plugins:
    """What was found in the plugin directories.

    Args:
        tools: By the name the model calls.
        sentences: By plugin, then by language.
        faults: What was not loaded: file, key, reason.
    """

    tools: Mapping[str, Tool]
    sentences: Mapping[str, Mapping[str, Sentences]]
    faults: list[str]

    @classmethod
    def load(cls, directories: Sequence[Path], *, state: Path, clock: Callable[[], datetime]) -> Self:
        """Load every folder that has a ``plugin.toml``; a bad one is a fault and the rest load.

        Plugin code is imported here, so it blocks: start-up only. Where two plugins or two tools
        have one name, the earlier directory wins, and inside it the alphabet.

        Args:
            directories: Where to look; one that is missing holds no plugins.
            state: The hub's state directory; a plugin gets ``<state>/plugins/<name>``.
            clock: The time with the home's time zone.
        """
        tools: dict[str, Tool] = {}
        sentences: dict[str, Mapping[str, Sentences]] = {}
        faults: list[str] = []
        for file in _manifests(directories):
            try:
                manifest, found = _open(file, state, clock)
                _refuse_doubles(file, manifest, found, sentences, tools)
            except ConfigInvalid as fault:
                faults.append(fault.message)
                continue
            tools |= {tool.name: tool for tool in found}
            sentences[manifest.name] = manifest.sentences
        return cls(tools, sentences, faults)


def _manifests(directories: Sequence[Path]) -> Iterator[Path]:
    for directory in directories:
        yield from sorted(directory.glob(f"*/{FILE}"))


def _open(file: Path, state: Path, clock: Callable[[], datetime]) -> tuple[Manifest, list[InlineTool]]:
    manifest = read_manifest(file)
    home = PluginHome(state / "plugins" / manifest.name, clock)
    try:
        home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return manifest, load_tools(file.parent, manifest, home)
    except OSError as fault:
        raise ConfigInvalid(f"{file}: no state directory: {fault.strerror}") from None
    except ToolFailed as fault:
        raise ConfigInvalid(f"{file}: entry: {fault.message}") from fault


def _refuse_doubles(
    file: Path,
    manifest: Manifest,
    found: Sequence[Tool],
    sentences: Mapping[str, object],
    tools: Mapping[str, Tool],
) -> None:
    if manifest.name in sentences:
        raise ConfigInvalid(f'{file}: name: there is a plugin "{manifest.name}" already')
    for tool in found:
        if tool.name in tools:
            owner = tools[tool.name].plugin
            raise ConfigInvalid(f'{file}: tools: plugin "{owner}" has a tool "{tool.name}" already')
