"""The commands together, and what each kind of fault is on the way out.

Of all the commands only the one that is asked for is imported; all of them, when the question is which
there are. That is a third of the time of a short command.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from apexbridge_trio.cli.exits import Failure, exit_code_of
from apexbridge_trio.errors import ApexError

# In the order of the help: the command, and the module of this package that has it.
COMMANDS: Final = {
    "serve": "serve",
    "node": "node",
    "chat": "chat",
    "interrupt": "requests",
    "requests": "requests",
    "events": "events",
    "notify": "events",
    "logs": "logs",
    "models": "listing",
    "health": "listing",
    "keys": "keys",
    "audit": "audit",
    "config": "config",
    "plugins": "plugins",
    "nodes": "nodes",
    "tasks": "tasks",
    "reminders": "reminders",
    "triggers": "triggers",
    "backup": "care",
    "restore": "care",
    "check": "serve",
    "doctor": "doctor",
    "version": "listing",
}


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the command that the arguments begin with; without one, with all."""
    app = typer.Typer(
        name="apexbridge",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Plain help: rich costs more to import than the rest of the command.
        rich_markup_mode=None,
    )
    app.callback()(_apexbridge)
    asked = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, room in COMMANDS.items():
        if asked in (None, name):
            module = import_module(f"apexbridge_trio.cli.{room}")
            if group := getattr(module, "app", None):
                app.add_typer(group)
            else:
                app.command(name)(getattr(module, name))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from apexbridge_trio.cli.listing import version

        version()
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
]


def _apexbridge(version: Version = False) -> None:
    """A home AI hub that stops when you say stop. Every command knows --help."""


def main() -> None:
    """Run one command and leave with its exit code (docs/cli.md)."""
    try:
        app_for(sys.argv[1:])(prog_name="apexbridge")
    except (Failure, ApexError) as fault:
        for line in str(fault).splitlines():
            print(f"apexbridge: {line}", file=sys.stderr)
        sys.exit(exit_code_of(fault))
