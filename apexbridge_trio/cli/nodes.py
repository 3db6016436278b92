"""``nodes``: the machines that have joined, and what an administrator does with them."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from apexbridge_trio.cli.invite import invite
from apexbridge_trio.cli.node import Kind
from apexbridge_trio.cli.options import AsJson, Watch, print_json
from apexbridge_trio.cli.showing import listing_options_go_behind, show

app = typer.Typer(name="nodes", help="List the machines that have joined, drain and invite them.")
app.command()(invite)


class Status(StrEnum):
    """What a node can be."""

    online = "online"
    busy = "busy"
    draining = "draining"
    offline = "offline"


NodeId = Annotated[str, typer.Argument(metavar="ID", help="The id that `nodes` shows.")]
OfStatus = Annotated[Status | None, typer.Option("--status", help="Only those that are this.")]
OfType = Annotated[Kind | None, typer.Option("--type", help="Only those of this type.")]
OfCapability = Annotated[str | None, typer.Option("--capability", help="Only those that can do this.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")]


@app.callback(invoke_without_command=True)
def nodes(
    context: typer.Context,
    status: OfStatus = None,
    kind: OfType = None,
    capability: OfCapability = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Alone, it is `nodes list`."""
    if context.invoked_subcommand is None:
        list_(status, kind, capability, watch, as_json)
    else:
        listing_options_go_behind(context)


@app.command("list")
def list_(
    status: OfStatus = None,
    kind: OfType = None,
    capability: OfCapability = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """List the nodes that the key may see, and how they are."""
    from apexbridge_trio.cli.machines import draw

    show("/v1/nodes", {"status": status, "type": kind, "capability": capability}, draw, watch, as_json)


@app.command("show")
def show_(node_id: NodeId, as_json: AsJson = False) -> None:
    """Show all that is known of a node, with its tools."""
    from apexbridge_trio.cli.machines import print_node

    told = _ask("GET", node_id)
    if as_json:
        print_json(told)
    else:
        print_node(told)


@app.command()
def drain(node_id: NodeId, as_json: AsJson = False) -> None:
    """Give a node no more tasks; what it runs goes on."""
    _tell_load(_ask("POST", node_id, "/drain"), as_json)


@app.command()
def resume(node_id: NodeId, as_json: AsJson = False) -> None:
    """Give a node tasks again."""
    _tell_load(_ask("POST", node_id, "/resume"), as_json)


@app.command()
def forget(node_id: NodeId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Disconnect a node and forget it; what it runs is lost.

    Its key stays good: an agent that still runs comes back at once.
    """
    if not yes and sys.stdin.isatty():
        what = f"Forget {node_id}? It is disconnected, and what it runs is lost."
        typer.confirm(what, abort=True, err=True)
    told = _ask("DELETE", node_id)
    if as_json:
        print_json(told)
    else:
        print(f"{told['nodeId']} is forgotten")
        print("an agent that still runs comes back, unless: apexbridge keys revoke", file=sys.stderr)


def _tell_load(told: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    active = told["stats"]["activeTasks"]
    print(f"{told['id']} is {told['status']}, tasks there: {active} of {told['maxConcurrent']}")


def _ask(method: str, node_id: str, action: str = "") -> Any:
    from apexbridge_trio.cli.hub import call_known

    return call_known(method, f"/v1/nodes/{quote(node_id, safe='')}{action}", lambda: hint_of(node_id))


def hint_of(name: str) -> str:
    """Say what to do about an id that is no node's: it may be the name of one."""
    from apexbridge_trio.cli.hub import call

    ids = [node["id"] for node in call("GET", "/v1/nodes") if node["name"] == name]
    return f"{name} is the name of {' and '.join(ids)}" if ids else "the ids are shown by: apexbridge nodes"
