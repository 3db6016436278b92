"""``plugin.toml``: what a folder says about the plugin in it.

All keys of the contract are known here, so that a manifest is checked as a whole. What can not be
done, or not for this type or runtime, is refused in words instead of being ignored: a limit that is
written down and not held is worse than none.
"""

import difflib
import os
import re
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from apexbridge_trio.errors import BadRequest, ConfigInvalid
from apexbridge_trio.plugins.permissions import PERMISSIONS
from apexbridge_trio.plugins.tool import Later
from apexbridge_trio.protocol.sentences import Name, Phrase, Sentences
from apexbridge_trio.schedule import Cron

FILE: Final = "plugin.toml"

# A manifest is written by hand; the shipped ones are under 10 KiB.
MAX_BYTES: Final = 256 * 1024

# OpenAI's rule for function names, less "-": an inline tool is a Python function of that name.
ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Language = Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
# A file of the folder itself: no path part, nothing hidden, nothing that looks like an option.
Entry = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
# A year: what is longer is a slip, and `inf` has no place in a row of the store.
YEAR_S: Final = 366.0 * 86_400
Seconds = Annotated[float, Meta(gt=0, le=YEAR_S)]
# The kernel counts in 64 bits; a TiB of memory, or of anything else, is a slip.
Count = Annotated[int, Meta(ge=1, le=2**40)]
Mebibytes = Annotated[int, Meta(ge=1, le=2**20)]


def _no_arguments() -> dict[str, Any]:
    return {"type": "object", "properties": {}}


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a call may take.

    Args:
        max_execution_s: Seconds a call may run. 30 is what a person still waits for.
        max_output_bytes: Bytes of a result as JSON. 64 KiB fill the context of a home model; more
            is cut off, with a note, so the model and not the hub is protected.
        max_concurrency: Calls at a time; the next ones wait, inside their own `max_execution_s`.
        max_memory_mb: MiB of memory that a process may ask for, each one of a call.
        allow_network: Whether a process may use the network.
    """

    max_execution_s: Seconds = 30.0
    max_output_bytes: Count = 64 * 1024
    max_concurrency: Count = 8
    max_memory_mb: Mebibytes | UnsetType = UNSET
    allow_network: bool | UnsetType = UNSET


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """How a failed hybrid task is tried again."""

    attempts: Count = 3
    backoff_s: Seconds = 1.0


class Async(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a hybrid task is waited for."""

    wait_s: Seconds = 30.0
    expires_s: Seconds | None = None


class Refresh(Struct, frozen=True, forbid_unknown_fields=True):
    """When a static plugin is asked for its text again.

    Args:
        every_s: Seconds between one text and the next. An hour is what a note on the fridge can be late.
        cron: When instead, in the home's zone.
    """

    every_s: Seconds = 3600.0
    cron: str = ""

    @property
    def schedule(self) -> Callable[[datetime], float]:
        """How many seconds it is from a moment until the next text.

        Raises:
            ConfigInvalid: `cron` is no cron line, or never falls due.
        """
        if not self.cron:
            return lambda _now: self.every_s
        try:
            return Cron.read(self.cron).delay
        except BadRequest as fault:
            raise ConfigInvalid(f"refresh.cron: {fault.message}") from None


class DeclaredTool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool of a plugin."""

    name: ToolName
    description: Annotated[str, Meta(min_length=1)]
    parameters: dict[str, Any] = field(default_factory=_no_arguments)
    idempotent: bool | None = None


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a ``plugin.toml``.

    Without ``[[tools]]`` a direct or a hybrid plugin is one tool of its own name; an MCP server says
    itself what its tools are.
    """

    name: Name
    # Not asked of an MCP server, which describes itself; `_impossible` asks all others for both.
    description: Annotated[str, Meta(min_length=1)] = ""
    entry: Entry = ""
    display_name: str = ""
    version: str = ""
    type: Literal["direct", "hybrid", "static", "service"] = "direct"
    runtime: Literal["process", "inline", "mcp"] = "process"
    command: list[Annotated[str, Meta(min_length=1)]] = []
    url: Annotated[str, Meta(pattern=r"^https?://[!-~]+$")] = ""
    permissions: list[str] = []
    capabilities: list[str] = []
    idempotent: bool = False
    parameters: dict[str, Any] = field(default_factory=_no_arguments)
    limits: Limits = Limits()
    retry: Retry | UnsetType = UNSET
    on_failure: Literal["retry", "notify"] | UnsetType = UNSET
    async_: Async | UnsetType = field(default=UNSET, name="async")
    refresh: Refresh | UnsetType = UNSET
    tools: list[DeclaredTool] = []
    sentences: dict[Language, Sentences] = {}

    @property
    def later(self) -> Later | None:
        """How a hybrid's late result is waited for; None for all others."""
        if self.type != "hybrid":
            return None
        bounds = self.async_ or Async()
        retry = self.retry or Retry()
        repeats = self.on_failure == "retry" or (self.on_failure is UNSET and self.retry is not UNSET)
        return Later(
            wait_s=bounds.wait_s,
            expires_s=bounds.expires_s,
            attempts=retry.attempts if repeats else 1,
            backoff_s=retry.backoff_s,
            max_output_bytes=self.limits.max_output_bytes,
        )

    @property
    def declared_tools(self) -> list[DeclaredTool]:
        """The plugin's tools, as far as the manifest says what they are."""
        is_one = self.type in {"direct", "hybrid"} and self.runtime != "mcp"
        return self.tools or ([self.own_tool] if is_one else [])

    @property
    def own_tool(self) -> DeclaredTool:
        """What of the plugin has its name: its one tool, or where a static plugin's text comes from."""
        return DeclaredTool(name=self.name, description=self.description, parameters=self.parameters)


# The struct of each table, by the table's name, to find the right word for a wrong one.
TABLES: Final[dict[str, type[Struct]]] = {
    "": Manifest,
    "limits": Limits,
    "retry": Retry,
    "async": Async,
    "refresh": Refresh,
    "tools": DeclaredTool,
    "sentences": Sentences,
    "phrases": Phrase,
}
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.py$")
_UNKNOWN: Final = re.compile(r"contains unknown field `(?P<key>[^`]*)`")
_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest.

    Raises:
        ConfigInvalid: The file, the key, and what is wrong with it.
    """
    try:
        manifest = msgspec.toml.decode(read_bytes(path), type=Manifest)
    except OSError as fault:
        raise ConfigInvalid(f"{path}: {fault.strerror}") from None
    except ConfigInvalid as fault:
        raise ConfigInvalid(f"{path}: {fault.message}") from None
    except msgspec.ValidationError as fault:
        raise ConfigInvalid(f"{path}: {_explain(str(fault))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise ConfigInvalid(f"{path}: not TOML: {fault}") from None
    for key, reason in _faults(manifest):
        raise ConfigInvalid(f"{path}: {key}: {reason}")
    return manifest


def read_bytes(path: Path) -> bytes:
    """Read a file that people write in a plugin's folder.

    Raises:
        ConfigInvalid: It is larger than any that somebody wrote, or no file: a pipe would be waited for.
        OSError: It can not be read.
    """
    with open(path, "rb", opener=_open_now) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigInvalid("it is no file")
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ConfigInvalid(f"larger than {MAX_BYTES} bytes")
    return text


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _explain(text: str) -> str:
    place = _PLACE.match(text)
    assert place is not None  # the pattern takes any text
    where, what = place["where"] or "", place["what"]
    if unknown := _UNKNOWN.search(what):
        key = unknown["key"]
        what = "unknown key" + _nearest(key, where)
        where = f"{where}.{key}" if where else key
    return f"{where}: {what}" if where else what


def _nearest(key: str, where: str) -> str:
    words = re.findall(r"[a-z]\w*", where)
    table = TABLES[words[-1] if words else ""]
    known = [known.encode_name for known in msgspec.structs.fields(table)]
    near = difflib.get_close_matches(key, known, n=1)
    return f', did you mean "{near[0]}"?' if near else f" (known: {', '.join(known)})"


def _faults(manifest: Manifest) -> list[tuple[str, str]]:
    names = [tool.name for tool in manifest.declared_tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults = [("tools", f'"{name}" is declared twice') for name in twice]
    for language, sentences in manifest.sentences.items():
        for phrase in sentences.phrases:
            if phrase.tool not in names:
                near = difflib.get_close_matches(phrase.tool, names, n=1, cutoff=0) or names[:1] or [""]
                reason = f'no tool "{phrase.tool}" here' + (f', did you mean "{near[0]}"?' if near[0] else "")
                faults.append((f"sentences.{language}.phrases.tool", reason))
        for place, name in sentences.unknown_names():
            faults.append((f"sentences.{language}.{place}", f"{name} is not declared above"))
    return _impossible(manifest) + faults


def _impossible(manifest: Manifest) -> list[tuple[str, str]]:
    limits, runtime = manifest.limits, f'runtime "{manifest.runtime}"'
    is_inline, is_hybrid = manifest.runtime == "inline", manifest.type == "hybrid"
    only_process = f"can only be held for a process, this is {runtime}"
    only_hybrid = f'is for type "hybrid", this is "{manifest.type}"'
    asked = [
        ("type", 'a "hybrid" is a process, this is runtime "inline"', is_hybrid and is_inline),
        ("entry", "an inline plugin is a Python module", is_inline and not _MODULE.match(manifest.entry)),
        *_of_permissions(manifest),
        ("limits.max_memory_mb", only_process, is_inline and limits.max_memory_mb is not UNSET),
        ("limits.allow_network", only_process, is_inline and limits.allow_network is not UNSET),
        ("limits.allow_network", "a hybrid calls back over it: true", is_hybrid and not limits.allow_network),
        ("retry", only_hybrid, not is_hybrid and manifest.retry is not UNSET),
        ("on_failure", only_hybrid, not is_hybrid and manifest.on_failure is not UNSET),
        ("async", only_hybrid, not is_hybrid and manifest.async_ is not UNSET),
        ("refresh", 'is for type "static"', manifest.type != "static" and manifest.refresh is not UNSET),
        *(_of_mcp(manifest) if manifest.runtime == "mcp" else _of_others(manifest)),
    ]
    return [(key, reason) for key, reason, is_asked in asked if is_asked]


def _of_permissions(manifest: Manifest) -> list[tuple[str, str, bool]]:
    known = ", ".join(sorted(PERMISSIONS))
    unknown = [name for name in manifest.permissions if name not in PERMISSIONS]
    reason = f"there is {known}, not {unknown}; the network is limits.allow_network"
    is_outside = bool(manifest.permissions) and manifest.runtime != "inline"
    return [
        ("permissions", reason, bool(unknown)),
        ("permissions", f'are for an inline plugin, this is runtime "{manifest.runtime}"', is_outside),
    ]


def _of_mcp(manifest: Manifest) -> list[tuple[str, str, bool]]:
    ways = [way for way in (manifest.entry, manifest.command, manifest.url) if way]
    theirs = "the server says what its tools are"
    return [
        ("entry", "an MCP server has one of entry, command and url", len(ways) != 1),
        ("type", 'an MCP server is "direct"', manifest.type != "direct"),
        ("tools", theirs, bool(manifest.tools)),
        ("parameters", theirs, manifest.parameters != _no_arguments()),
    ]


def _of_others(manifest: Manifest) -> list[tuple[str, str, bool]]:
    is_alone = manifest.type == "service" and manifest.runtime == "process"
    return [
        ("description", "it is missing", not manifest.description),
        ("entry", "it is missing", not manifest.entry),
        ("command", 'is for runtime "mcp"', bool(manifest.command)),
        ("url", 'is for runtime "mcp"', bool(manifest.url)),
        ("tools", 'a "service" that is a program has none', is_alone and bool(manifest.tools)),
    ]
