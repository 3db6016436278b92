"""Where the server listens."""

import socket
from typing import NamedTuple


class Address(NamedTuple):
    """One address that is listened at.

    Args:
        host: An address of IPv4 or IPv6; of a UNIX socket its path, an abstract one with ``@`` before it.
        port: 0 for a UNIX socket.
    """

    host: str
    port: int

    @classmethod
    def of(cls, sock: socket.socket) -> "Address":
        """Return the address a socket is bound to."""
        name = sock.getsockname()
        if sock.family != socket.AF_UNIX:
            return cls(name[0], name[1])
        return cls(f"@{name[1:].decode(errors='replace')}" if isinstance(name, bytes) else name, 0)

    @property
    def authority(self) -> str:
        """``HOST:PORT`` as it stands in a URL; of a UNIX socket its path."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """Write it as a URL; of a UNIX socket ``unix:PATH``, as curl and nginx do."""
        return f"http://{self.authority}" if self.port else f"unix:{self.host}"
