"""``plugin-manifest.json``: what is read of it, and the same in the words of ours."""

import codecs
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.manifest import YEAR_S, DeclaredTool, Limits, Manifest, Refresh, read_bytes

FILE: Final = "plugin-manifest.json"

_TYPES: Final[dict[str, Literal["direct", "hybrid", "static"]]] = {
    "synchronous": "direct",
    "asynchronous": "hybrid",
    "static": "static",
}
_IN_NODE: Final = ("service", "hybridservice", "messagePreprocessor")
# It names a directory, and stands in addresses.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# OpenAI's rule for the names of functions.
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 64
# Their server hands each line to a shell; one that makes use of it needs ours.
_OF_SHELL: Final = re.compile(r"[|&;<>()$`*?~\n]")
# What their server waits for where no time is given, in milliseconds.
_MINUTE: Final = 60_000.0
_HALF_HOUR: Final = 1_800_000.0
# What it takes is only described in words.
_ANY: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": True}


class EntryPoint(Struct, frozen=True):
    """How it is started."""

    command: str = ""


class Communication(Struct, frozen=True):
    """How it is spoken with; `timeout` in milliseconds."""

    timeout: float | None = None


class Command(Struct, frozen=True, rename="camel"):
    """One thing that it can be asked for."""

    command: str = ""
    command_identifier: str = ""
    description: str = ""

    @property
    def word(self) -> str:
        """What it is called by; there are two keys for it in the field."""
        return self.command_identifier or self.command


class Placeholder(Struct, frozen=True):
    """What prompts call a static plugin's text, braces and all."""

    placeholder: str = ""


class Capabilities(Struct, frozen=True, rename="camel"):
    """What it can do."""

    invocation_commands: list[Command] = []
    system_prompt_placeholders: list[Placeholder | str] = []


class LegacyManifest(Struct, frozen=True, rename="camel"):
    """One manifest; what is not here is not needed to run it."""

    name: str
    plugin_type: str
    display_name: str | None = None
    version: str | float | None = None
    description: str | None = None
    entry_point: EntryPoint = EntryPoint()
    communication: Communication = Communication()
    capabilities: Capabilities = Capabilities()
    refresh_interval_cron: str = ""

    @property
    def is_in_node(self) -> bool:
        """Whether it is a module of their server, and no program."""
        return self.plugin_type in _IN_NODE

    @property
    def commands(self) -> dict[str, Command]:
        """By the names of their tools: the plugin's, and with several ``<plugin>_<command>``."""
        many = self.capabilities.invocation_commands
        if len(many) < 2:
            return {_function(self.name): next(iter(many), Command())}
        named: dict[str, Command] = {}
        for number, one in enumerate(many, 1):
            name = _function(f"{self.name}_{one.word}")
            # Words of another script are all the same in OpenAI's letters.
            named[_function(f"{self.name}_{number}") if name in named else name] = one
        return named

    @property
    def placeholders(self) -> list[str]:
        """The names of its text."""
        said = self.capabilities.system_prompt_placeholders
        return [(one if isinstance(one, str) else one.placeholder).strip("{} ") for one in said]

    def modern(self) -> Manifest:
        """Say the same in our words; the network is on, as it was for them.

        Raises:
            ConfigInvalid: The key, and what is wrong with it.
        """
        described = self.description or self.display_name or self.name
        own = Manifest(
            name=self.name,
            description=described,
            display_name=self.display_name or "",
            version="" if self.version is None else str(self.version),
        )
        if self.is_in_node:
            return msgspec.structs.replace(own, type="service")
        timeout = self.communication.timeout
        if timeout is None:
            timeout = _HALF_HOUR if self.plugin_type == "asynchronous" else _MINUTE
        if not 0 < timeout <= YEAR_S * 1000:
            raise ConfigInvalid("communication.timeout: expected milliseconds, more than 0, a year at most")
        cron = self.refresh_interval_cron
        return msgspec.structs.replace(
            own,
            type=_TYPES[self.plugin_type],
            command=_command(self.entry_point.command),
            limits=Limits(max_execution_s=timeout / 1000, allow_network=True),
            refresh=Refresh(cron=cron) if cron else UNSET,
            tools=[
                DeclaredTool(name=name, description=one.description or described, parameters=_ANY)
                for name, one in self.commands.items()
                if self.plugin_type != "static"
            ],
        )


def read_legacy(file: Path) -> LegacyManifest:
    """Read and check one manifest.

    Raises:
        ConfigInvalid: The file, the key, and what is wrong with it.
    """
    try:
        text = read_bytes(file).removeprefix(codecs.BOM_UTF8)
        # Not strict: numbers may be written as texts, as they may in JavaScript.
        manifest = msgspec.json.decode(text, type=LegacyManifest, strict=False)
    except OSError as fault:
        raise ConfigInvalid(f"{file}: {fault.strerror}") from None
    except ConfigInvalid as fault:
        raise ConfigInvalid(f"{file}: {fault.message}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise ConfigInvalid(f"{file}: {fault}") from None
    if not _NAME.fullmatch(manifest.name):
        raise ConfigInvalid(f"{file}: name: expected letters, digits, dots, _ and -")
    if manifest.plugin_type not in {*_TYPES, *_IN_NODE}:
        raise ConfigInvalid(f"{file}: pluginType: there is no type {manifest.plugin_type!r}")
    return manifest


def _command(line: str) -> list[str]:
    """Return how it is started; ``python`` is ours where the machine has none of that name."""
    if _OF_SHELL.search(line):
        return ["sh", "-c", line]
    try:
        program, *rest = shlex.split(line)
    except ValueError:
        raise ConfigInvalid("entryPoint.command: expected a program and its arguments") from None
    if shutil.which(program) is None and program in {"python", "python3"}:
        program = sys.executable
    return [program, *rest]


def _function(name: str) -> str:
    return _ODD.sub("_", name)[:_LONGEST]
