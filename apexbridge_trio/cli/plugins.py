"""``plugins``: what the hub has, and the tools of those who write them."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, ConfigFile, StateDirectory, print_json

app = typer.Typer(name="plugins", help="List plugins, begin, check and try them.")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Kind(StrEnum):
    """Types of plugins that can be begun."""

    direct = "direct"
    hybrid = "hybrid"
    static = "static"
    service = "service"


class Tongue(StrEnum):
    """Languages they can be begun in."""

    python = "python"
    node = "node"
    sh = "sh"


# What a new plugin of each type can be called with; a service has no tools.
_TRIES = {Kind.direct: """ '{"text": "hello"}'""", Kind.hybrid: """ '{"text": "hello"}'""", Kind.static: ""}

Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower case letters, digits and _.")]
KindOption = Annotated[
    Kind,
    typer.Option(
        "--type", help="direct: answers; hybrid: later; static: a text for prompts; service: stays up."
    ),
]
TongueOption = Annotated[Tongue, typer.Option("--lang", help="The language it is written in.")]
Existing = Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name.")]
Interrupt = Annotated[bool, typer.Option("--interrupt", help="Stop those of its calls that run.")]
Into = Annotated[Path, typer.Option("--into", help="Where its folder is made.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The plugin's folder.")]
ToolName = Annotated[
    str,
    typer.Argument(
        metavar="NAME[.TOOL]", help="The plugin, or its folder as ./mine, and which of its tools."
    ),
]
Arguments = Annotated[str, typer.Argument(metavar="JSON", help="The call's arguments, a JSON object.")]


@app.callback(invoke_without_command=True)
def plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """Alone, it is `plugins list`."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the plugins of the running hub. It takes a key with the scope admin."""
    from apexbridge_trio.cli.hub import call as ask
    from apexbridge_trio.cli.tables import print_table

    listed = ask("GET", "/v1/plugins")
    if as_json:
        print_json(listed)
        return
    heads = ("PLUGIN", "TYPE", "RUNTIME", "STATE", "HEALTH", "CALLS", "FAILED", "REMARK")
    print_table(heads, map(_row, listed))


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    calls = entry.get("calls", {})
    return (
        entry["name"],
        entry.get("type", ""),
        entry.get("runtime", ""),
        entry["state"],
        entry["health"],
        str(calls.get("started", "")),
        str(calls.get("failed", "")),
        (entry["health"] == "failing" and entry.get("lastError")) or entry.get("note", ""),
    )


@app.command()
def new(
    name: Name,
    kind: KindOption = Kind.direct,
    lang: TongueOption = Tongue.python,
    into: Into = Path(),
) -> None:
    """Make the folder of a plugin that works, with a test that passes."""
    from apexbridge_trio.cli.starter import begin

    if not _NAME.fullmatch(name):
        raise Failure(f"{name!r} is no name for a plugin: lower case letters, digits and _", Exit.USAGE)
    folder = begin(name, kind, lang, into)
    print(f"{folder} is ready:")
    print(f"  cd {folder} && python3 -m unittest")
    print(f"  apexbridge plugins check {folder}")
    if kind in _TRIES:
        print(f"  apexbridge plugins call {_as_folder(folder)}{_TRIES[kind]}")
    print("The hub takes it from any of plugins.directories in config.toml.")


def _as_folder(folder: Path) -> str:
    return str(folder) if "/" in str(folder) else f"./{folder}"


@app.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Load a plugin as the hub would. Says what is wrong with it: file, key, reason."""
    from apexbridge_trio.cli.checking import faults_of

    found = faults_of(folder)
    if as_json:
        print_json({"folder": str(folder), "tools": found.tools, "faults": found.faults})
    else:
        for fault in found.faults:
            print(fault)
        if not found.faults:
            print(f"{folder} is good{'; tools: ' if found.tools else ''}{', '.join(found.tools)}")
    if found.faults:
        raise typer.Exit(Exit.FAILED)


@app.command()
def enable(name: Existing, as_json: AsJson = False) -> None:
    """Offer a plugin of the running hub again. It takes a key with the scope admin."""
    _switch(name, "enable", as_json)


@app.command()
def disable(name: Existing, interrupt: Interrupt = False, as_json: AsJson = False) -> None:
    """Offer a plugin of the running hub no more. Not after a restart either; calls that run end first."""
    _switch(name, "disable?interrupt=true" if interrupt else "disable", as_json)


@app.command()
def reload(name: Existing, as_json: AsJson = False) -> None:
    """Read a plugin's folder again."""
    _switch(name, "reload", as_json)


def _switch(name: str, deed: str, as_json: bool) -> None:
    from urllib.parse import quote

    from apexbridge_trio.cli.hub import call as ask
    from apexbridge_trio.cli.words import one_line, receipt_words

    said = ask("POST", f"/v1/plugins/{quote(name, safe='')}/{deed}")
    entries = said if isinstance(said, list) else [said]
    if as_json:
        print_json(said)
    for entry in () if as_json else entries:
        print(one_line(f"{entry['name']} is {entry['state']}{_remark(entry)}"))
        for receipt in entry.get("interrupted", ()):
            print(receipt_words(receipt))
    if any(entry["state"] == "refused" for entry in entries):
        raise typer.Exit(Exit.FAILED)


def _remark(entry: Mapping[str, Any]) -> str:
    if entry["state"] == "refused":
        return f": {entry['lastError']}"
    running = entry.get("calls", {}).get("running", 0)
    return f"; {running} of its calls still run" if entry["state"] == "disabled" and running else ""


@app.command()
def call(
    tool: ToolName,
    arguments: Arguments = "{}",
    config: ConfigFile = None,
    state: StateDirectory = None,
) -> None:
    """Run one tool here, without a hub. stdout has its result, stderr what it says and its progress."""
    from apexbridge_trio.cli.trying import run

    print_json(run(tool, arguments, config=config, state=state))
