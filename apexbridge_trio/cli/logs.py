"""``logs``: the hub's log, of what the key may see.

Over server-sent events, as ``events``: one way to follow a hub, and no WebSocket library for the command.
"""

import json
import sys
from typing import Annotated, Any

import typer

from apexbridge_trio.cli.options import AsJson, print_json
from apexbridge_trio.cli.words import local_stamp, printable

Follow = Annotated[bool, typer.Option("--follow", help="Stay for what comes, until Ctrl-C.")]
Level = Annotated[
    str | None, typer.Option("--level", help="The lowest: debug, info, warning or error. Default: all.")
]
Request = Annotated[
    str | None, typer.Option("--request", metavar="ID", help="Only what is part of this request or task.")
]
Node = Annotated[str | None, typer.Option("--node", metavar="ID", help="Only what is of this node.")]


def logs(
    follow: Follow = False,
    level: Level = None,
    request: Request = None,
    node: Node = None,
    as_json: AsJson = False,
) -> None:
    """Show the last lines of the hub's log. With --follow, each as it is written, too."""
    import trio

    from apexbridge_trio.cli.following import Following

    lines: list[Any] = []

    def take(frame: dict[str, Any]) -> None:
        if frame["type"] == "log_gap":
            dropped = frame["data"]["dropped"]
            print(f"apexbridge: up to {dropped} lines were missed here", file=sys.stderr, flush=True)
        elif as_json and not follow:
            lines.append(frame["data"])
        else:
            shown = json.dumps(frame["data"], ensure_ascii=False) if as_json else _line(frame["data"])
            print(shown, flush=True)

    query = {"level": level, "request": request, "node": node}
    trio.run(Following("/v1/logs", query, take, follows=follow).run)
    if as_json and not follow:
        print_json(lines)


def _line(data: dict[str, Any]) -> str:
    named = [f"{data['tool_name']} {data['status']}:"] if data["log_type"] == "tool_log" else []
    places = [f"[{data[name]}]" for name in ("nodeId", "requestId") if name in data]
    head = [local_stamp(data["timestamp"]), f"{data['level']:<7}", f"{data['source']:<9}"]
    return printable(" ".join([*head, *named, data["content"], *places]))
