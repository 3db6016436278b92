"""``tasks run``: one tool on a node, and its result."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, json_object, print_json

ToolName = Annotated[str, typer.Argument(metavar="TOOL", help="The tool, as `nodes show` lists it.")]
Arguments = Annotated[str, typer.Argument(metavar="JSON", help="The call's arguments, a JSON object.")]
OnNode = Annotated[str | None, typer.Option("--node", metavar="ID", help="Only this node may run it.")]
Capability = Annotated[
    str | None, typer.Option("--capability", help="Only a node that can do this may run it.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.001, max=86_400, help="Seconds it may take.")
]
Priority = Annotated[
    int | None,
    typer.Option("--priority", min=0, max=100, help="Of those that wait the highest is next. Default: 5."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the result and print it; Ctrl-C stops it.")]
Idempotent = Annotated[
    bool | None,
    typer.Option(
        "--idempotent/--not-idempotent",
        help="Whether it may run twice, when its node is lost. Default: what the node says of the tool.",
    ),
]


def run(  # noqa: PLR0913, PLR0917  # one for each option
    tool: ToolName,
    arguments: Arguments = "{}",
    node: OnNode = None,
    capability: Capability = None,
    timeout: Timeout = None,
    priority: Priority = None,
    wait: Wait = False,
    idempotent: Idempotent = None,
    as_json: AsJson = False,
) -> None:
    """Have a node run a tool. The task's id is printed, or with --wait its result."""
    options = {
        "capability": capability,
        "timeout": None if timeout is None else timeout * 1000,
        "priority": priority,
        "idempotent": idempotent,
    }
    given = {name: value for name, value in options.items() if value is not None}
    body = {"toolName": tool, "toolArgs": json_object(arguments), "waitForResult": wait, **given}
    path = "/v1/tasks" if node is None else f"/v1/nodes/{quote(node, safe='')}/tasks"
    try:
        _wait_for(path, body, as_json) if wait else _send(path, body, as_json)
    except Failure as fault:
        if node is None or fault.exit_code is not Exit.NOT_FOUND:
            raise
        from apexbridge_trio.cli.nodes import hint_of

        raise Failure(f"{fault}; {hint_of(node)}", Exit.NOT_FOUND) from None


def _send(path: str, body: Mapping[str, Any], as_json: bool) -> None:
    from apexbridge_trio.cli.hub import call

    told = call("POST", path, body)
    if as_json:
        print_json(told)
    else:
        print(told["taskId"])


def _wait_for(path: str, body: Mapping[str, Any], as_json: bool) -> None:
    import trio

    from apexbridge_trio.cli.awaiting import Awaiting

    awaiting = Awaiting(path, body)
    trio.run(awaiting.ask)
    if awaiting.is_stopping:
        _tell_stop(awaiting.receipt, awaiting.words, as_json)
        raise typer.Exit(Exit.INTERRUPTED)
    _tell_end(awaiting.task, as_json)


def _tell_stop(receipt: Mapping[str, Any] | None, words: str, as_json: bool) -> None:
    if as_json and receipt is not None:
        print_json(receipt)
    else:
        print(words, file=sys.stderr)


def _tell_end(task: Mapping[str, Any], as_json: bool) -> None:
    from apexbridge_trio.cli.words import one_line
    from apexbridge_trio.cli.work import error_words

    if as_json:
        print_json(task)
    elif task["success"]:
        print_json(task["result"])
    if not task["success"]:
        why = f": {one_line(error_words(task))}" if task["error"] else ""
        raise Failure(f"{task['taskId']} {task['state']}{why}", Exit.FAILED)
