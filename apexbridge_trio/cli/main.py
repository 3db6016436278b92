"""The commands together, and what each kind of fault is on the way out.

Of all the commands only the one that is asked for is imported; all of them, when the question is which
there are. That is a third of the time of a short command.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Final

import typer

from apexbridge_trio.cli.exits import Exit, Failure, exit_code_of
from apexbridge_trio.errors import ApexError, faults_in

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
    untold: OSError | None = None
    try:
        _run()
    except* OSError as faults:  # in a group, if a loop was running
        untold = next(fault for fault in faults_in(faults) if isinstance(fault, OSError))
    if untold is not None:
        _leave_untold(untold)


def _leave_untold(fault: OSError) -> None:
    """Leave when what there is to say can not be said: in silence if nobody reads it any more."""
    if isinstance(fault, BrokenPipeError):
        # What is left in the buffer would be a complaint of Python's at its end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        print(f"apexbridge: {fault.strerror or fault}", file=sys.stderr)
    sys.exit(Exit.FAILED)


def _run() -> None:
    try:
        app_for(sys.argv[1:])(prog_name="apexbridge")
    except (Failure, ApexError) as fault:
        for line in str(fault).splitlines():
            print(f"apexbridge: {line}", file=sys.stderr)
        sys.exit(exit_code_of(fault))
