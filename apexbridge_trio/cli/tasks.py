"""``tasks``: work for nodes, looked at, stopped, asked for and asked for again."""

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, Watch, print_json
from apexbridge_trio.cli.running import run
from apexbridge_trio.cli.showing import listing_options_go_behind, print_receipt, show

app = typer.Typer(name="tasks", help="List the tasks of nodes, stop them, run one.")
app.command()(run)

# The hub waits so long for the receipt of what it is told to stop.
_WAIT_S = 5.0


class State(StrEnum):
    """What a task can be in; it ends in one of the last five."""

    queued = "queued"
    assigned = "assigned"
    running = "running"
    waiting_callback = "waiting_callback"
    succeeded = "succeeded"
    failed = "failed"
    interrupted = "interrupted"
    timed_out = "timed_out"
    lost = "lost"


TaskId = Annotated[str, typer.Argument(metavar="ID", help="The id that `tasks` shows.")]
InState = Annotated[State | None, typer.Option("--state", help="Only those in this state.")]
AtNode = Annotated[str | None, typer.Option("--node", metavar="ID", help="Only those that this node has.")]


@app.callback(invoke_without_command=True)
def tasks(
    context: typer.Context,
    state: InState = None,
    node: AtNode = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Alone, it is `tasks list`."""
    if context.invoked_subcommand is None:
        list_(state, node, watch, as_json)
    else:
        listing_options_go_behind(context)


@app.command("list")
def list_(state: InState = None, node: AtNode = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """List the tasks that the key may see, newest first."""
    from apexbridge_trio.cli.work import draw

    show("/v1/tasks", {"state": state, "node": node}, draw, watch, as_json)


@app.command("show")
def show_(task_id: TaskId, as_json: AsJson = False) -> None:
    """Show all that is known of a task, with arguments and result."""
    from apexbridge_trio.cli.work import print_task

    told = _ask("GET", task_id)
    if as_json:
        print_json(told)
    else:
        print_task(told)


@app.command()
def retry(task_id: TaskId, as_json: AsJson = False) -> None:
    """Do once more what has ended, as a new task; its id is printed."""
    told = _ask("POST", task_id, "/retry")
    if as_json:
        print_json(told)
    else:
        print(told["taskId"])


@app.command()
def cancel(task_id: TaskId, as_json: AsJson = False) -> None:
    """Stop a task, and say what has stopped.

    The exit code is 1 when something is still stopping after the wait.
    """
    print_receipt(_stop(task_id), as_json)


def _stop(task_id: str) -> Any:
    try:
        return _ask("DELETE", task_id)
    except Failure as fault:
        if fault.exit_code is not Exit.NOT_FOUND:
            raise
    state = _ask("GET", task_id)["state"]  # it is there, but does not run
    raise Failure(f"{task_id} has ended already: {state}", Exit.NOT_FOUND)


def _ask(method: str, task_id: str, action: str = "") -> Any:
    from apexbridge_trio.cli.hub import call_known

    path = f"/v1/tasks/{quote(task_id, safe='')}{action}"
    return call_known(method, path, lambda: "the ids are shown by: apexbridge tasks", at_most_s=_WAIT_S)
