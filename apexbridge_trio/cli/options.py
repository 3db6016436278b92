"""Options that several commands have, and how a result is printed."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from apexbridge_trio.cli.exits import Exit, Failure

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay, and follow it until Ctrl-C.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The config file. Default: the state directory's, or /etc's.")
]
StateDirectory = Annotated[
    Path | None,
    typer.Option(
        "--state", help="The state directory. Default: $STATE_DIRECTORY, ~/.local/state/apexbridge."
    ),
]


_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(option: str, span: str) -> float:
    """Read a span of time.

    Raises:
        Failure: It is none.
    """
    if not re.fullmatch(rf"(?:{_SPAN.pattern})+", span):
        raise Failure(f"{option}: {span!r} is no span of time, such as 90s, 10m, 1h30m or 2d", Exit.USAGE)
    return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(span))


def print_json(value: Any) -> None:
    """Print one JSON document, readable and in the words of its language."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """Write a value as JSON for people; half a surrogate pair, which no terminal takes, stays escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_object(text: str) -> dict[str, Any]:
    """Read a tool's arguments as they are on a command line.

    Raises:
        Failure: They are no JSON object.
    """
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        example = """'{"expression": "6*7"}'"""
        raise Failure(
            f"the arguments are no JSON object: {fault}; in a shell they are quoted, as in {example}",
            Exit.USAGE,
        ) from None
