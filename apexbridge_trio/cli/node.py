"""``node``: this machine as one of a hub's."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from apexbridge_trio.cli.options import StateDirectory

_LONGEST = 200


class Kind(StrEnum):
    """Types of nodes."""

    worker = "worker"
    companion = "companion"
    custom = "custom"


Hub = Annotated[str, typer.Option("--hub", metavar="URL", help="Where the hub is: http(s):// or ws(s)://.")]
KeyFile = Annotated[
    Path,
    typer.Option("--key-file", metavar="FILE", help="Holds the node's key. Or a systemd credential's name."),
]
NodeName = Annotated[str, typer.Option("--name", help="What the node is called.")]
PluginDirectories = Annotated[
    list[Path] | None,
    typer.Option("--plugins", metavar="DIR", help="A directory of plugin folders; may be repeated."),
]
NodeId = Annotated[
    str | None, typer.Option("--id", help="Instead of the id that is kept in the state directory.")
]
KindOption = Annotated[Kind, typer.Option("--type", help="What the hub lists it as.")]
MaxConcurrent = Annotated[
    int, typer.Option("--max-concurrent", min=1, max=10_000, help="How many tasks it runs at a time.")
]
Capabilities = Annotated[
    list[str] | None, typer.Option("--capability", help="What tasks can ask for; may be repeated.")
]


def node(  # noqa: PLR0913, PLR0917  # one for each option
    hub: Hub,
    key_file: KeyFile,
    name: NodeName,
    plugins: PluginDirectories = None,
    state: StateDirectory = None,
    node_id: NodeId = None,
    kind: KindOption = Kind.worker,
    max_concurrent: MaxConcurrent = 4,
    capability: Capabilities = None,
) -> None:
    """Join a hub and run its tasks, until SIGTERM or Ctrl-C. The plugins are this machine's."""
    import os

    from apexbridge_trio import log
    from apexbridge_trio.agent import Options, parse_hub, run
    from apexbridge_trio.config import find_secret_file, state_directory

    _check("--name", [name])
    _check("--capability", capability or [])
    options = Options(
        hub=parse_hub(hub),
        key_file=find_secret_file(str(key_file), beside=Path(), env=os.environ),
        name=name,
        state=state_directory(state, os.environ),
        plugins=tuple(plugins or ()),
        node_id=node_id,
        type=kind.value,
        max_concurrent=max_concurrent,
        capabilities=tuple(capability or ()),
    )
    log.configure()
    raise typer.Exit(run(options))


def _check(option: str, words: list[str]) -> None:
    from apexbridge_trio.errors import ConfigInvalid

    for word in words:
        if not 1 <= len(word) <= _LONGEST or not word.isprintable():
            raise ConfigInvalid(f"{option}: one line of 1 to {_LONGEST} characters")
