"""``keys``: made, listed and revoked in the state directory, with the hub running or not."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, StateDirectory, print_json

if TYPE_CHECKING:
    from apexbridge_trio.identity import Keys
    from apexbridge_trio.store import KeyRecord

app = typer.Typer(
    name="keys", help="Make, list and revoke keys; a running hub obeys at once.", no_args_is_help=True
)

Scopes = Annotated[
    list[str], typer.Option("--scope", help="chat, node, callback, logs or admin; may be repeated.")
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose it is; tenants see nothing of each other.")]
Family = Annotated[str | None, typer.Option("--family", help="Who within the tenant.")]
Name = Annotated[str, typer.Option("--name", help="What you call it.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")]


@app.command()
def create(
    scope: Scopes,
    tenant: Tenant = "default",
    family: Family = None,
    name: Name = "",
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    with open_keys(state) as (keys, directory):
        key, record = keys.create(scopes=scope, tenant_id=tenant, family_id=family, name=name)
    if as_json:
        print_json({"key": key, **_shown(record)})
    else:
        print(key)
    print(f"key {record.id} is kept as a hash in {directory}; it is not shown again", file=sys.stderr)


@app.command("list")
def list_(state: StateDirectory = None, as_json: AsJson = False) -> None:
    """List what is known of the keys; they themselves are not kept."""
    with open_keys(state) as (keys, _directory):
        records = [_shown(record) for record in keys.records()]
    if as_json:
        print_json(records)
        return
    from apexbridge_trio.cli.tables import print_table

    columns = ("id", "name", "tenantId", "familyId", "scopes", "created", "revoked")
    rows = [[_cell(one[column]) for column in columns] for one in records]
    print_table(("ID", "NAME", "TENANT", "FAMILY", "SCOPES", "CREATED", "REVOKED"), rows)


@app.command()
def revoke(key_id: KeyId, state: StateDirectory = None, as_json: AsJson = False) -> None:
    """Make a key worthless, at once and for ever."""
    with open_keys(state) as (keys, _directory):
        if not keys.revoke(key_id):
            raise Failure(f"there is no good key with the id {key_id!r}", Exit.NOT_FOUND)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print(f"key {key_id} is revoked", file=sys.stderr)


@contextmanager
def open_keys(state: Path | None) -> "Iterator[tuple[Keys, Path]]":
    """Open the keys of a state directory; the hub of it may be running.

    Raises:
        ConfigInvalid: There is no such directory, and it can not be made.
        StoreUnusable: Its database can not be opened.
    """
    from apexbridge_trio.config import state_directory
    from apexbridge_trio.identity import Keys
    from apexbridge_trio.store import Store

    directory = state_directory(state, os.environ)
    with Store(directory) as store:
        yield Keys(store), directory


def _shown(record: "KeyRecord") -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "tenantId": record.tenant_id,
        "familyId": record.family_id,
        "scopes": sorted(record.scopes),
        "created": _iso(record.created_ms),
        "revoked": None if record.revoked_ms is None else _iso(record.revoked_ms),
    }


def _cell(value: str | list[str] | None) -> str:
    return " ".join(value) if isinstance(value, list) else value or ""


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
