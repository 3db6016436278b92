"""Options that several commands have, and how a result is printed."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The config file. Default: the state directory's, or /etc's.")
]
StateDirectory = Annotated[
    Path | None,
    typer.Option(
        "--state", help="The state directory. Default: $STATE_DIRECTORY, ~/.local/state/apexbridge."
    ),
]


def print_json(value: Any) -> None:
    """Print one JSON document, readable and in the words of its language."""
    print(json.dumps(value, ensure_ascii=False, indent=2))
