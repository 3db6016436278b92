"""``config``: what is in force, what was, and how it changes, while the hub runs."""

import difflib
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, print_json

app = typer.Typer(
    name="config", help="Look at and change the config of the running hub.", no_args_is_help=True
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="A key or a section: chat.max_rounds, models.")]
Pairs = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY VALUE", help="Any number of pairs; a value is JSON, or else a text; null: the default."
    ),
]
Revision = Annotated[str, typer.Argument(metavar="REVISION", help="As `config history` shows it.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A config.toml; - reads standard input.")]

# Somebody else may change the config at the same time; what is set is meant whatever else changes.
_ATTEMPTS: Final = 5
_WHEN: Final = {
    "live": "in force",
    "next-request": "in force for what begins now",
    "restart": "in force once the hub is started again",
}


@app.command("get")
def get(key: Key = "", as_json: AsJson = False) -> None:
    """Show what is in force, or one key of it. Secrets are masked."""
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.options import json_text
    from apexbridge_trio.cli.serve import flat

    value = call("GET", "/v1/config")
    for part in key.split(".") if key else ():
        value = _inside(value, part, key)
    if as_json:
        print_json(value)
    elif not isinstance(value, dict | list):
        print(value if isinstance(value, str) else json_text(value))
    else:
        for name, one in flat(value, key):
            print(f"{name} = {one}")


@app.command("set")
def set_(pairs: Pairs, as_json: AsJson = False) -> None:
    """Change keys, all of them or none. Says of each when it is in force."""
    if len(pairs) % 2:
        raise typer.BadParameter("give pairs of KEY and VALUE")
    patch: dict[str, Any] = {}
    for key, text in zip(pairs[::2], pairs[1::2], strict=True):
        _put(patch, key, _value_of(text))
    _show_change(_patched(patch), as_json=as_json)


@app.command()
def diff(revision: Annotated[str, typer.Argument(metavar="[REVISION]")] = "") -> None:
    """Show what has changed since a revision. Without one, since the one before."""
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.words import printable

    known = [one["revision"] for one in call("GET", "/v1/config/history")]
    if not revision and len(known) < 2:
        return
    old, new = revision or known[1], known[0]
    before, after = _text_of(call, old), _text_of(call, new)
    for line in difflib.unified_diff(before, after, old, new, lineterm=""):
        print(printable(line))


@app.command()
def history(as_json: AsJson = False) -> None:
    """List the revisions that are kept, the newest first."""
    from apexbridge_trio.cli.hub import call
    from apexbridge_trio.cli.tables import print_table
    from apexbridge_trio.cli.words import local_time

    listed = call("GET", "/v1/config/history")
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            one["revision"],
            local_time(one["at"]),
            one["origin"],
            " ".join(filter(None, (one["by"], one["from"]))),
            ", ".join(changed["key"] for changed in one["changed"]),
        )
        for one in listed
    ]
    print_table(("REVISION", "WHEN", "HOW", "WHO", "KEYS"), rows)


@app.command()
def rollback(revision: Revision, as_json: AsJson = False) -> None:
    """Put an earlier revision in force again."""
    from apexbridge_trio.cli.hub import call

    _show_change(call("POST", "/v1/config/rollback", {"revision": revision}), as_json=as_json)


@app.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Ask the running hub what is wrong with a file. Says what it would change, and changes nothing."""
    from apexbridge_trio.cli.hub import call

    said = call("POST", "/v1/config/validate", {"toml": _read(file)})
    if as_json:
        print_json(said)
    elif said["valid"]:
        for one in said["changed"] or [{"key": "nothing", "applied": ""}]:
            print(f"{one['key']} would change{_when(one)}")
    else:
        for fault in said["faults"]:
            place = f"{file}:{fault['line']}" if fault["line"] else str(file)
            print(": ".join(filter(None, (place, fault["path"], fault["message"]))), file=sys.stderr)
    if not said["valid"]:
        raise typer.Exit(Exit.FAILED)


def _patched(patch: dict[str, Any]) -> Any:
    from apexbridge_trio.cli.hub import Stale, call_with_tag

    for attempt in range(_ATTEMPTS):
        _, tag = call_with_tag("GET", "/v1/config")
        try:
            return call_with_tag("PATCH", "/v1/config", patch, if_match=tag)[0]
        except Stale:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError  # the loop returns or raises


def _put(patch: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        patch = patch.setdefault(part, {})
        if not isinstance(patch, dict):
            raise typer.BadParameter(f"{key!r} is inside of what another pair sets")
    patch[last] = value


def _value_of(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _inside(value: Any, part: str, key: str) -> Any:
    if isinstance(value, dict) and part in value:
        return value[part]
    near = difflib.get_close_matches(part, value, n=1) if isinstance(value, dict) else []
    hint = f"; did you mean {near[0]}?" if near else ""
    raise Failure(f"there is no key {key!r}{hint}", Exit.NOT_FOUND)


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as fault:
        raise Failure(f"can not read {file}: {fault.strerror}", Exit.NOT_FOUND) from None
    except UnicodeDecodeError as fault:
        raise Failure(f"{file}: byte {fault.start} is not UTF-8", Exit.USAGE) from None


def _text_of(call: Any, revision: str) -> list[str]:
    text: str = call("GET", f"/v1/config/history/{quote(revision, safe='')}")["toml"]
    return text.splitlines()


def _show_change(said: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    print(f"revision {said['revision']}")
    for one in said["changed"]:
        print(f"{one['key']}{_when(one)}")
    if not said["changed"]:
        print("nothing has changed")
    if said.get("created"):
        print(f"made {said['created']}", file=sys.stderr)
    if not said["recorded"]:
        print("it is in force, but the history could not be written", file=sys.stderr)


def _when(one: dict[str, Any]) -> str:
    return f": {_WHEN[one['applied']]}" if one["applied"] else ""
