"""``keys``: made, listed and revoked, at the hub or in its state directory."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from apexbridge_trio.cli.options import AsJson, StateDirectory, print_json, seconds_of

app = typer.Typer(
    name="keys",
    help="Make, list and revoke keys. A running hub obeys at once, and ends what a revoked one has open.",
    no_args_is_help=True,
)

Scopes = Annotated[
    list[str], typer.Option("--scope", help="chat, node, callback, logs or admin; may be repeated.")
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose it is; tenants see nothing of each other.")]
Family = Annotated[str | None, typer.Option("--family", help="Who within the tenant.")]
Name = Annotated[str, typer.Option("--name", help="What you call it.")]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="SPAN", help="Good for so long only: 12h, 30d, 1d12h.")
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")]

_HEADS = ("ID", "NAME", "TENANT", "FAMILY", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "REVOKED")


@app.command()
def create(
    scope: Scopes,
    tenant: Tenant = "default",
    family: Family = None,
    name: Name = "",
    expires: Expires = None,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from apexbridge_trio.cli.keyring import make_key

    expires_s = None if expires is None else seconds_of("--expires", expires)
    made, where = make_key(state, expires_s, scopes=scope, tenant_id=tenant, family_id=family, name=name)
    if as_json:
        print_json({"key": made["key"], **_shown(made)})
    else:
        print(made["key"])
    print(f"key {made['id']} is kept as a hash {where}; it is not shown again", file=sys.stderr)


@app.command("list")
def list_(state: StateDirectory = None, as_json: AsJson = False) -> None:
    """List what is known of the keys; they themselves are not kept."""
    from apexbridge_trio.cli.keyring import list_keys

    listed = list_keys(state)
    if as_json:
        print_json([_shown(entry) for entry in listed])
        return
    from apexbridge_trio.cli.tables import print_table

    print_table(_HEADS, map(_row, listed))


@app.command()
def revoke(key_id: KeyId, state: StateDirectory = None, as_json: AsJson = False) -> None:
    """Make a key worthless, at once and for ever. What it has open ends within a second."""
    from apexbridge_trio.cli.keyring import revoke_key

    receipt = revoke_key(state, key_id)
    told: dict[str, Any] = {
        name: receipt[name]
        for name in ("closed", "notClosed", "interrupted", "notStopped")
        if name in receipt
    }
    if as_json:
        print_json({"id": key_id, "revoked": True, **told})
        return
    print(f"key {key_id} is revoked{_ended(told)}", file=sys.stderr)
    for path in told.get("notStopped", ()):
        print(f"  not stopped yet: {path}", file=sys.stderr)


def _ended(told: dict[str, Any]) -> str:
    if not told:
        return ""
    closed, interrupted = _number(told["closed"], "connection"), _number(len(told["interrupted"]), "request")
    return f"; {closed} closed, {interrupted} interrupted"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: entry[name] for name in ("id", "name", "tenantId", "familyId", "scopes", "state")},
        "created": _iso(entry["createdAt"]),
        "expires": _iso(entry["expiresAt"]),
        "lastUsed": _iso(entry["lastUsedAt"]),
        "revoked": _iso(entry["revokedAt"]),
    }


def _row(entry: dict[str, Any]) -> list[str]:
    from apexbridge_trio.cli.words import local_time

    times = [entry[name] for name in ("createdAt", "expiresAt", "lastUsedAt", "revokedAt")]
    whose = [
        entry["id"],
        entry["name"],
        entry["tenantId"],
        entry["familyId"] or "",
        " ".join(entry["scopes"]),
    ]
    return [*whose, *("" if ms is None else local_time(ms) for ms in times)]


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
