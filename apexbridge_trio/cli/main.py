"""The commands together, and what each kind of fault is on the way out."""

import sys

import typer

from apexbridge_trio.cli import (
    audit,
    care,
    chat,
    config,
    doctor,
    events,
    keys,
    listing,
    logs,
    node,
    nodes,
    plugins,
    reminders,
    requests,
    serve,
    tasks,
    triggers,
)
from apexbridge_trio.cli.exits import Failure, exit_code_of
from apexbridge_trio.errors import ApexError

app = typer.Typer(
    name="apexbridge",
    help="A home AI hub that stops when you say stop. Every command knows --help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: rich costs more to import than the rest of the command.
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(node.node)
app.command()(chat.chat)
app.command()(requests.interrupt)
app.command()(requests.requests)
app.command()(events.events)
app.command()(events.notify)
app.command()(logs.logs)
app.command()(listing.models)
app.command()(listing.health)
app.add_typer(keys.app)
app.command()(audit.audit)
app.add_typer(config.app)
app.add_typer(plugins.app)
app.add_typer(nodes.app)
app.add_typer(tasks.app)
app.add_typer(reminders.app)
app.add_typer(triggers.app)
app.command()(care.backup)
app.command()(care.restore)
app.command()(serve.check)
app.command()(doctor.doctor)
app.command()(listing.version)


def main() -> None:
    """Run one command and leave with its exit code (docs/cli.md)."""
    try:
        app(prog_name="apexbridge")
    except (Failure, ApexError) as fault:
        for line in str(fault).splitlines():
            print(f"apexbridge: {line}", file=sys.stderr)
        sys.exit(exit_code_of(fault))
