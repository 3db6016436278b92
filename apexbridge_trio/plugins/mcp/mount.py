"""Where an MCP server is, and what its process may do."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from apexbridge_trio.config import Secret
from apexbridge_trio.plugins.manifest import Limits
from apexbridge_trio.plugins.tree import Cage

# OpenAI's rule for function names; MCP allows more (dots and slashes), and leaves the length open.
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST: Final = 64

# One message; an image of a camera as base64 is about 10 MB. A server that sends more loses its session
# if it is a process, and the call if it is at an address.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024


class Mount(Struct, frozen=True):
    """One server: a command that speaks over its standard streams, or an address.

    Args:
        name: Of the plugin; what its tools' names begin with.
        limits: Of each call.
        cage: What its processes may not do.
        command: The program and its arguments; empty if there is a `url`.
        url: Of a server that speaks streamable HTTP.
        token: Sent to the `url` as ``Authorization: Bearer …``.
        folder: The working directory of the command.
        env: Its whole environment.
    """

    name: str
    limits: Limits
    cage: Cage
    command: tuple[str, ...] = ()
    url: str = ""
    token: Secret | None = None
    folder: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=dict)

    def tool_name(self, theirs: str) -> str:
        """Return what the hub calls a tool of this server: ``<mount>_<tool>``, in OpenAI's letters.

        The mount's name is always there, so that no tool changes its name when another plugin comes;
        it is not doubled where the server puts its own name first.
        """
        plain = _ODD.sub("_", theirs)
        full = plain if plain.startswith(f"{self.name}_") else f"{self.name}_{plain}"
        return full[:_LONGEST]
