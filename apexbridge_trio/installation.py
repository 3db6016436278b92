"""How this program came onto the machine, and so what brings a library that is missing."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

Extra = Literal["mcp", "otel"]

# What is imported of each.
_MODULES: Final[Mapping[Extra, tuple[str, ...]]] = {
    "mcp": ("mcp",),
    "otel": ("opentelemetry.sdk.trace.export", "opentelemetry.exporter.otlp.proto.http.trace_exporter"),
}

_HERE: Final = Path(__file__).parents[1]
# Where the package and `make install` lay it (packaging/places).
_PACKAGED: Final = Path("/usr/lib/apexbridge")
_USUAL: Final = Path("/usr/local")


def has(extra: Extra) -> bool:
    """Tell whether the libraries of an extra are there, all that is used of them."""
    try:
        return all(find_spec(name) for name in _MODULES[extra])
    except ModuleNotFoundError:  # a package above the module
        return False


def remedy(extra: Extra | Literal[""] = "", *, prefix: Path = Path(sys.prefix), source: Path = _HERE) -> str:
    """Return the command that makes the installation whole; but for the package's, in the clone it came from.

    Args:
        extra: Of pyproject.toml, that has what is missing; "": what is needed in any case.
        prefix: The environment that runs this.
        source: Where the package lies: a clone, or its ``site-packages``.
    """
    if prefix == _PACKAGED:
        return "sudo apt install --reinstall ./build/apexbridge_*.deb"
    if prefix.parts[-2:] == ("lib", "apexbridge"):
        below = prefix.parents[1]
        return "sudo make install" + ("" if below == _USUAL else f" PREFIX={below}")
    if prefix == source / ".venv":
        return "make clean venv"
    return f"pip install '.[{extra}]'" if extra else "pip install ."
