"""``requests`` and ``interrupt``: what is running, and how to stop it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.options import AsJson, print_json
from apexbridge_trio.cli.showing import print_receipt

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request's id.")]
OneRequest = Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one, with all below it.")]
Branch = Annotated[str | None, typer.Option("--path", help="Only this branch of it, for example round1/llm.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is told to what is stopped and to the log.")]
Wait = Annotated[float, typer.Option("--wait", min=0, max=300, help="Seconds to wait until all has stopped.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay, and follow the live tree until Ctrl-C.")]


def interrupt(
    request_id: RequestId,
    path: Branch = None,
    reason: Reason = "",
    wait: Wait = 5.0,
    as_json: AsJson = False,
) -> None:
    """Stop a request, or one branch of it, and say what has stopped.

    The exit code is 1 when something is still stopping after the wait.
    """
    from apexbridge_trio.cli.hub import call

    body = {"path": path_of(request_id, path), "reason": reason, "waitS": wait}
    print_receipt(call("POST", "/v1/interrupt", body, at_most_s=wait), as_json)


def path_of(request_id: str, branch: str | None) -> str:
    """Return the path of a branch, which may be given with the request's id before it or without."""
    if not branch or branch == request_id:
        return request_id
    return branch if branch.startswith(f"{request_id}/") else f"{request_id}/{branch}"


def requests(request_id: OneRequest = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show what is running: a table, or the tree of one request."""
    from apexbridge_trio.cli.hub import call

    address = "/v1/requests" if request_id is None else f"/v1/requests/{quote(request_id, safe='')}"
    if watch and as_json:
        raise typer.BadParameter("--watch draws on a terminal, --json does not")
    if watch:
        import trio

        from apexbridge_trio.cli.watching import draw_tree, follow

        trio.run(follow, address, draw_tree)
        return
    told = call("GET", address)
    if as_json:
        print_json(told)
    elif isinstance(told, list):
        _print_table(told)
    else:
        _print_one(told)


def _print_table(entries: Sequence[Mapping[str, Any]]) -> None:
    from apexbridge_trio.cli.tables import print_table
    from apexbridge_trio.cli.words import duration

    rows = [
        (
            one["id"],
            one["kind"],
            one["name"],
            one["state"],
            duration(one["ageMs"]),
            "" if one["deadlineInMs"] is None else duration(one["deadlineInMs"]),
            one["tenantId"],
        )
        for one in entries
    ]
    print_table(("REQUEST", "KIND", "NAME", "STATE", "AGE", "LEFT", "TENANT"), rows)


def _print_one(entry: Mapping[str, Any]) -> None:
    from apexbridge_trio.cli.tables import console, request_tree
    from apexbridge_trio.cli.words import printable

    console.print(request_tree(entry))
    if "result" in entry:
        for choice in entry["result"].get("choices", ()):
            print(printable(choice["message"].get("content") or ""))
