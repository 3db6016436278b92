"""``events``: what the hub tells; ``notify``: tell somebody something."""

from typing import Annotated, Any

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, print_json

Follow = Annotated[bool, typer.Option("--follow", help="Stay for what comes, until Ctrl-C.")]
Topics = Annotated[
    str,
    typer.Option("--topics", help="Only these, with commas: kinds, or a part before the dot. Default: all."),
]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="What to tell.")]
Title = Annotated[str, typer.Option("--title", help="A line above it.")]
Level = Annotated[str, typer.Option("--level", help="info, warning or error.")]
Family = Annotated[
    str | None, typer.Option("--family", help="Whom to tell; the key's own, or of its tenant.")
]
Alert = Annotated[bool, typer.Option("--alert", help="It has to be acknowledged.")]


def events(follow: Follow = False, topics: Topics = "", as_json: AsJson = False) -> None:
    """Show what the hub has told lately. With --follow, what it tells."""
    import trio

    from apexbridge_trio.cli.telling import Telling

    telling = Telling(topics, follows=follow, as_json=as_json)
    trio.run(telling.run)
    if as_json and not follow:
        print_json(telling.frames)


def notify(
    text: Text,
    title: Title = "",
    level: Level = "info",
    family: Family = None,
    alert: Alert = False,
    as_json: AsJson = False,
) -> None:
    """Tell somebody something. On their devices now, or when they come; its id is printed."""
    from apexbridge_trio.cli.hub import call

    if level not in {"info", "warning", "error"}:
        raise Failure(f"--level is info, warning or error, not {level!r}", Exit.USAGE)
    body: dict[str, Any] = {"message": text, "title": title, "level": level}
    body |= {"kind": "alert"} if alert else {}
    body |= {"familyId": family} if family else {}
    told = call("POST", "/v1/notifications", body)
    if as_json:
        print_json(told)
    else:
        print(told["id"])
