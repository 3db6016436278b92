"""``nodes invite``: a key for another machine, and the line that joins it."""

import re
import shlex
import sys
from typing import Annotated

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.keyring import open_keyring, the_user
from apexbridge_trio.cli.keys import Family, Tenant
from apexbridge_trio.cli.options import AsJson, ConfigFile, StateDirectory, print_json

NodeName = Annotated[str, typer.Argument(metavar="NAME", help="What the node is called.")]
Hub = Annotated[
    str | None,
    typer.Option(
        "--hub", metavar="URL", help="Where the other machine finds the hub. Default: the config's."
    ),
]

# A sane id that is also the name of a file, and no option to any command.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def invite(
    name: NodeName,
    tenant: Tenant = "default",
    family: Family = None,
    hub: Hub = None,
    config: ConfigFile = None,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a node, and print the line that joins it.

    The line is to be pasted into a shell of the other machine. The key is made in the state directory:
    run this where the hub runs.
    """
    from apexbridge_trio.cli.joining import find_address

    _check_name(name)
    address = find_address(hub, config, state)
    with open_keyring(state) as (keyring, directory):
        key, record, written = keyring.create(
            the_user(), scopes=["node"], tenant_id=tenant, family_id=family, name=name
        )
        written.done()
    line = joining_line(key, name, address.url)
    if as_json:
        told = {"name": name, "hub": address.url, "keyId": record.id, "key": key, "command": line}
        print_json(told)
    else:
        print(line)
    print(f"key {record.id} is kept as a hash in {directory}; it is not shown again", file=sys.stderr)
    for remark in address.remarks:
        print(remark, file=sys.stderr)


def joining_line(key: str, name: str, url: str) -> str:
    """Return what a shell on the other machine is to run; the key is in a file of its owner's only."""
    file = shlex.quote(f"{name}.key")
    start = f"apexbridge node --hub {shlex.quote(url)} --key-file {file} --name {shlex.quote(name)}"
    return f"(umask 077; echo {shlex.quote(key)} > {file}) && {start}"


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name):
        return
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100]
    hint = f"did you mean {near}?" if near else "for example kitchen-pi"
    rule = "1 to 100 of A-Z a-z 0-9 . _ and -, the first a letter or a digit"
    raise Failure(f"{name[:200]!r} is no name for a node ({rule}); {hint}", Exit.USAGE)
