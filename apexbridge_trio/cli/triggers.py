"""``triggers``: listed, and fired once to see what they do."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.options import AsJson, Watch, print_json
from apexbridge_trio.cli.showing import listing_options_go_behind, show

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(name="triggers", help="List what the hub does by itself, and try it out.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name that `triggers` shows.")]


@app.callback(invoke_without_command=True)
def triggers(context: typer.Context, watch: Watch = False, as_json: AsJson = False) -> None:
    """Alone, it is `triggers list`."""
    if context.invoked_subcommand is None:
        list_(watch, as_json)
    else:
        listing_options_go_behind(context)


@app.command("list")
def list_(watch: Watch = False, as_json: AsJson = False) -> None:
    """List the triggers of the config, and how each fares."""
    show("/v1/triggers", {}, _draw, watch, as_json)


@app.command("test")
def try_out(name: Name, as_json: AsJson = False) -> None:
    """Fire a trigger once, for an event that is made up so that it fits."""
    from apexbridge_trio.cli.hub import call_known

    path = f"/v1/triggers/{quote(name, safe='')}/test"
    told = call_known("POST", path, lambda: "the names are shown by: apexbridge triggers")
    if as_json:
        print_json(told)
    else:
        print(f"fired: {told['trigger']}, as if there were a {told['event']}")


def _draw(listed: Sequence[Mapping[str, Any]]) -> "Table":
    from apexbridge_trio.cli.tables import table_of
    from apexbridge_trio.cli.words import local_time

    rows = [
        (
            one["name"],
            one["on"],
            one["do"],
            one["state"],
            local_time(one["lastFiredAt"]) if one["lastFiredAt"] else "never",
            str(one["fired"]),
            str(one["failed"]),
            one["reason"] or "",
        )
        for one in listed
    ]
    return table_of(("TRIGGER", "ON", "DOES", "STATE", "LAST", "FIRED", "FAILED", "REASON"), rows)
