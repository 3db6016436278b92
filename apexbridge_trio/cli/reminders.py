"""``reminders``: listed, set and removed."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.options import AsJson, Watch, json_object, print_json, seconds_of
from apexbridge_trio.cli.showing import listing_options_go_behind, show

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(name="reminders", help="List reminders, set and remove them.")


class Missed(StrEnum):
    """What becomes of a firing whose time passed while the hub was not there."""

    run_once = "run_once"
    skip = "skip"


Words = Annotated[str, typer.Argument(metavar="TEXT", help="What to remind of.")]
ReminderId = Annotated[str, typer.Argument(metavar="ID", help="The id that `reminders` shows.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="T", help="When: 2026-11-25T08:00, or with an offset.")
]
In = Annotated[str | None, typer.Option("--in", metavar="SPAN", help="In how long: 90s, 10m, 1h30m, 2d.")]
CronLine = Annotated[
    str | None, typer.Option("--cron", metavar="LINE", help='Again and again: "30 8 * * 1-5".')
]
Zone = Annotated[
    str | None, typer.Option("--timezone", metavar="Z", help="Of --at and --cron; else the home's.")
]
Prompt = Annotated[
    str | None, typer.Option("--chat", metavar="PROMPT", help="Ask a model; its answer is told.")
]
ToolName = Annotated[str | None, typer.Option("--tool", metavar="NAME", help="Run a tool.")]
Arguments = Annotated[str | None, typer.Option("--args", metavar="JSON", help="The tool's arguments.")]
WhenMissed = Annotated[Missed, typer.Option("--missed", help="When the hub was not there in time.")]


@app.callback(invoke_without_command=True)
def reminders(context: typer.Context, watch: Watch = False, as_json: AsJson = False) -> None:
    """Alone, it is `reminders list`."""
    if context.invoked_subcommand is None:
        list_(watch, as_json)
    else:
        listing_options_go_behind(context)


@app.command("list")
def list_(watch: Watch = False, as_json: AsJson = False) -> None:
    """List what is still to come, what comes next first."""
    show("/v1/reminders", {}, _draw, watch, as_json)


@app.command()
def add(  # noqa: PLR0913, PLR0917  # a command's options
    text: Words,
    at: At = None,
    in_: In = None,
    cron: CronLine = None,
    timezone: Zone = None,
    chat: Prompt = None,
    tool: ToolName = None,
    args: Arguments = None,
    missed: WhenMissed = Missed.run_once,
    as_json: AsJson = False,
) -> None:
    """Set a reminder; its id is printed, and when it comes."""
    from apexbridge_trio.cli.hub import call

    action = {"chat": chat, "tool": tool, "args": None if args is None else json_object(args)}
    wanted = {
        "at": at,
        "in": None if in_ is None else seconds_of("--in", in_),
        "cron": cron,
        "timezone": timezone,
    }
    body = {"text": text, **_given(wanted), "missed": missed.value, "action": _given(action)}
    told = call("POST", "/v1/reminders", body)
    if as_json:
        print_json(told)
    else:
        print(f"{told['id']} {told['next']}")


@app.command()
def remove(reminder_id: ReminderId, as_json: AsJson = False) -> None:
    """Remove a reminder; what it has begun goes on."""
    from apexbridge_trio.cli.hub import call_known
    from apexbridge_trio.cli.words import one_line

    path = f"/v1/reminders/{quote(reminder_id, safe='')}"
    told = call_known("DELETE", path, lambda: "the ids are shown by: apexbridge reminders")
    if as_json:
        print_json(told)
    else:
        print(f"removed: {one_line(told['text'])}")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _draw(listed: Sequence[Mapping[str, Any]]) -> "Table":
    from apexbridge_trio.cli.tables import table_of
    from apexbridge_trio.cli.words import local_time

    rows = [
        (one["id"], local_time(one["nextAt"]), one["cron"] or "", next(iter(one["action"])), one["text"])
        for one in listed
    ]
    return table_of(("REMINDER", "NEXT", "CRON", "DOES", "TEXT"), rows)
