"""``audit``: who changed what, when and from where, as the hub has written it down."""

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from apexbridge_trio.cli.options import AsJson, print_json

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many changes.")]
Before = Annotated[int | None, typer.Option("--before", min=1, help="Only those before this number.")]
ActionName = Annotated[
    str | None, typer.Option("--action", help="Only this action (key.revoked), or this kind of action (key).")
]


def audit(
    limit: Limit = 50, before: Before = None, action: ActionName = None, as_json: AsJson = False
) -> None:
    """Show who changed what, newest first. It takes a key with the scope admin."""
    from apexbridge_trio.cli.hub import call

    asked = {"limit": limit, "before": before, "action": action}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    said = call("GET", f"/v1/audit?{query}")
    if as_json:
        print_json(said)
        return
    from apexbridge_trio.cli.tables import print_table

    heads = ("NUMBER", "WHEN", "WHO", "TENANT", "FROM", "ACTION", "TARGET", "BECAME")
    print_table(heads, [_row(entry) for entry in said["entries"]])


def _row(entry: dict[str, Any]) -> list[str]:
    from apexbridge_trio.cli.words import local_time

    by, after = entry["by"], entry["after"]
    became = _said(after) if isinstance(after, dict) else _written(after)
    when = local_time(entry["at"])
    return [str(entry["seq"]), when, by["principal"], by["tenantId"] or "", entry["from"], entry["action"],
            entry["target"], became]  # fmt: skip


def _said(after: dict[str, Any]) -> str:
    """Say what a thing has become, without what it has nothing of; all of it is what --json is for."""
    return ", ".join(
        f"{name} {_written(value)}" for name, value in after.items() if value not in (None, "", [])
    )


def _written(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
