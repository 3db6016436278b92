"""The versions this room was proved on."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.installation import remedy

# The room replaces methods inside these; another version may have moved them without a word.
PROVED: Final[Mapping[str, str]] = {
    "hypercorn": "0.18.0",
    "quart-trio": "0.12.0",
    "h11": "0.16.0",
    "wsproto": "1.3.2",
}


def require_proved(proved: Mapping[str, str] = PROVED) -> None:
    """Refuse to serve on libraries that the hardening was not proved on.

    Raises:
        ConfigInvalid: Names the library, the version found and the one wanted.
    """
    for name, wanted in proved.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise ConfigInvalid(
                f"{name} {found} is installed, and serving is proved on {wanted} only: {remedy()}"
            )
