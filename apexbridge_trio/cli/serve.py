"""``serve`` and ``check``: the config that is in force, and the hub that runs by it."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apexbridge_trio.cli.options import AsJson, ConfigFile, StateDirectory, print_json

if TYPE_CHECKING:
    from apexbridge_trio.config import Config

Bind = Annotated[
    str | None, typer.Option("--bind", help="HOST:PORT instead of the config's; port 0 picks a free one.")
]


def serve(config: ConfigFile = None, state: StateDirectory = None, bind: Bind = None) -> None:
    """Run the hub until SIGTERM or Ctrl-C. It prints its address first."""
    # All that is made from here to the end of the start stays: to look for garbage in it takes a tenth of
    # the time. `daemon` turns it on.
    gc.disable()
    from apexbridge_trio import log
    from apexbridge_trio.audit import HUB
    from apexbridge_trio.cli.care import finish_and_note
    from apexbridge_trio.config import ConfigFile, parse_bind, state_directory
    from apexbridge_trio.store import hold_state

    directory = state_directory(state, os.environ)
    with hold_state(directory):
        # Before the config is read: a backup has one, too.
        if (kept := finish_and_note(directory, HUB)) is not None:
            print(f"apexbridge: a backup was restored; what was there is kept in {kept}", file=sys.stderr)
        file = ConfigFile(config, directory, os.environ)
        source = file.read()
        loaded = file.config_of(source.text)
        if bind is not None:
            parse_bind(bind)
        log.configure(loaded.log.level, loaded.log.format)
        from apexbridge_trio.daemon import run

        raise typer.Exit(run(loaded, file=file, source=source, state=directory, bind=bind))


def check(config: ConfigFile = None, state: StateDirectory = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the config, or show what is in force. Secrets are masked."""
    from apexbridge_trio.config import public

    path, directory, loaded = _load(config, state)
    values = public(loaded)
    if as_json:
        print_json({"path": str(path), "state": str(directory), "config": values})
        return
    print(f"config  {path}")
    print(f"state   {directory}")
    for name, value in flat(values, ""):
        print(f"{name} = {value}")


def _load(config: Path | None, state: Path | None) -> "tuple[Path, Path, Config]":
    from apexbridge_trio.config import config_path, find_needs, load, state_directory

    directory = state_directory(state, os.environ)
    path = config_path(config, directory)
    return path, directory, load(path, env=os.environ, also=find_needs)


def flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield each value with its whole name, as a fault would name it."""
    import json

    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{name}[{number}]")
    else:
        yield name, json.dumps(value, ensure_ascii=False)
