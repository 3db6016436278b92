"""Lists of the hub's, shown as each of its commands shows them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import typer

from apexbridge_trio.cli.exits import Exit
from apexbridge_trio.cli.options import print_json

if TYPE_CHECKING:
    from rich.table import Table


def listing_options_go_behind(context: typer.Context) -> None:
    """Refuse options of the list that stand before another command, where they would say nothing.

    Raises:
        BadParameter: There are such.
    """
    if any(context.params.values()):
        raise typer.BadParameter(f"options go behind {context.invoked_subcommand!r}")


def print_receipt(receipt: Mapping[str, Any], as_json: bool) -> None:
    """Show what an interrupt has stopped.

    Raises:
        Exit: Something is still stopping: the command has failed.
    """
    from apexbridge_trio.cli.words import receipt_words

    if as_json:
        print_json(receipt)
    else:
        print(receipt_words(receipt))
    if receipt["notStopped"]:
        raise typer.Exit(Exit.FAILED)


def show(
    path: str, filters: Mapping[str, str | None], draw: "Callable[[Any], Table]", watch: bool, as_json: bool
) -> None:
    """Show a list of the hub's: a table, the table again and again, or the JSON.

    Raises:
        BadParameter: Both are asked for.
        Failure: The hub can not be reached, or it refused.
    """
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.tables import console

    query = urlencode({name: value for name, value in filters.items() if value is not None})
    address = f"{path}?{query}" if query else path
    if watch and as_json:
        raise typer.BadParameter("--watch draws on a terminal, --json does not")
    if watch:
        import trio

        from apexbridge_trio.cli.watching import follow

        trio.run(follow, address, draw)
    elif as_json:
        print_json(call("GET", address))
    else:
        console.print(draw(call("GET", address)), crop=False)
