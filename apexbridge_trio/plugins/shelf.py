"""All plugins of the hub, by what they offer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import trio

from apexbridge_trio.errors import ConfigInvalid, ToolFailed
from apexbridge_trio.plugins import inline, process
from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.inline import PluginHome
from apexbridge_trio.plugins.manifest import FILE, Manifest, read_manifest
from apexbridge_trio.plugins.ongoing import Ongoing
from apexbridge_trio.plugins.tool import Tool
from apexbridge_trio.protocol.sentences import Sentences


@dataclass(frozen=True, slots=True)
class Plugins:
    """What was found in the plugin directories.

    Args:
        tools: By the name the model calls.
        sentences: By plugin, then by language.
        faults: What was not loaded: file, key, reason.
        manifests: By plugin, what was loaded.
        notes: By plugin, what its manifest wants and this machine can not hold.
        ongoing: Who owns the processes that go on after a pending answer.
    """

    tools: Mapping[str, Tool]
    sentences: Mapping[str, Mapping[str, Sentences]]
    faults: list[str]
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    ongoing: Ongoing = field(default_factory=Ongoing)

    @classmethod
    def load(
        cls,
        directories: Sequence[Path],
        *,
        state: Path,
        clock: Callable[[], datetime],
        strict: bool = False,
        kill_grace_s: float = 2.0,
    ) -> Self:
        """Load every folder that has a ``plugin.toml``; a bad one is a fault and the rest load.

        Plugin code is imported here, so it blocks: start-up only. Where two plugins or two tools
        have one name, the earlier directory wins, and inside it the alphabet.

        Args:
            directories: Where to look; one that is missing holds no plugins.
            state: The hub's state directory; a plugin gets ``<state>/plugins/<name>``.
            clock: The time with the home's time zone.
            strict: Whether a plugin is left out when this machine can not hold it as its manifest wants.
            kill_grace_s: Seconds between SIGTERM and SIGKILL for a plugin's processes.
        """
        opened = _Opener(state, clock, Ongoing(), strict=strict, kill_grace_s=kill_grace_s)
        tools: dict[str, Tool] = {}
        sentences: dict[str, Mapping[str, Sentences]] = {}
        faults: list[str] = []
        manifests: dict[str, Manifest] = {}
        for file in _manifests(directories):
            try:
                manifest, found = opened.open(file)
                _refuse_doubles(file, manifest, found, sentences, tools)
            except ConfigInvalid as fault:
                faults.append(fault.message)
                continue
            tools |= {tool.name: tool for tool in found}
            sentences[manifest.name] = manifest.sentences
            manifests[manifest.name] = manifest
        return cls(tools, sentences, faults, manifests, opened.notes, opened.ongoing)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the processes that go on after a pending answer, until cancelled; then they are ended."""
        await self.ongoing.run(task_status=task_status)


def _manifests(directories: Sequence[Path]) -> Iterator[Path]:
    for directory in directories:
        yield from sorted(directory.glob(f"*/{FILE}"))


class _Opener:
    """Opens folders, one after the other."""

    def __init__(
        self,
        state: Path,
        clock: Callable[[], datetime],
        ongoing: Ongoing,
        *,
        strict: bool,
        kill_grace_s: float,
    ) -> None:
        self._state = state
        self._clock = clock
        self._strict = strict
        self._kill_grace_s = kill_grace_s
        self.ongoing = ongoing
        self.notes: dict[str, str] = {}

    def open(self, file: Path) -> tuple[Manifest, list[PluginTool]]:
        """Read a manifest and load what it declares.

        Raises:
            ConfigInvalid: File, key, reason.
        """
        manifest = read_manifest(file)
        home = PluginHome(self._state / "plugins" / manifest.name, self._clock)
        try:
            home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            load = inline.load_tools if manifest.runtime == "inline" else self._load_program
            return manifest, load(file.parent, manifest, home)
        except OSError as fault:
            raise ConfigInvalid(f"{file}: no state directory: {fault.strerror}") from None
        except ToolFailed as fault:
            raise ConfigInvalid(f"{file}: entry: {fault.message}") from fault
        except ConfigInvalid as fault:
            raise ConfigInvalid(f"{file}: {fault.message}") from None

    def _load_program(self, folder: Path, manifest: Manifest, home: PluginHome) -> list[PluginTool]:
        tools = process.load_tools(
            folder, manifest, home.state, ongoing=self.ongoing, kill_grace_s=self._kill_grace_s
        )
        if note := process.shortfall(manifest):
            if self._strict:
                raise ConfigInvalid(f"limits.allow_network: {note}")
            self.notes[manifest.name] = note
        return tools


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
