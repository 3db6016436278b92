"""``models``, ``health`` and ``version``: short questions."""

import platform

import typer

from apexbridge_trio import __version__
from apexbridge_trio.cli.exits import Exit
from apexbridge_trio.cli.options import AsJson, print_json
from apexbridge_trio.cli.words import duration


def models(as_json: AsJson = False) -> None:
    """List the models that can be asked for."""
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.tables import print_table

    listed = call("GET", "/v1/models")
    if as_json:
        print_json(listed)
        return
    print_table(("MODEL", "BY"), [(one["id"], one["owned_by"]) for one in listed["data"]])


def health(as_json: AsJson = False) -> None:
    """Say how the hub is; the exit code is 1 when it is not well."""
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.tables import print_table

    told = call("GET", "/health")
    if as_json:
        print_json(told)
    else:
        print(f"{told['status']}, version {told['version']}, up {duration(told['uptimeS'] * 1000)}")
        if told.get("dependencies"):
            rows = [
                (one["name"], one["state"], _age(one["checkedAgeS"]), one["detail"] or "")
                for one in told["dependencies"]
            ]
            print_table(("PART", "STATE", "CHECKED", "DETAIL"), rows)
    if told["status"] != "ok":
        raise typer.Exit(Exit.FAILED)


def _age(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds * 1000)} ago"


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"apexbridge": __version__, "python": platform.python_version()})
    else:
        print(f"apexbridge {__version__}")
