"""The peer of a request, as the server knows it and ASGI has no words for.

A server puts an object of this shape into the scope's extensions, and an edge finds it there: neither
knows the other.
"""

from typing import Final, Protocol

from apexbridge_trio.errors import ApexError

# Its name in the extensions.
PEER: Final = "apexbridge.peer"


class Peer(Protocol):
    """Who asks, while the answer is made."""

    @property
    def is_gone(self) -> bool:
        """Whether nothing more can be said to it: it hung up, or was cut."""
        ...

    @property
    def cut(self) -> ApexError | None:
        """Why the server has ended the connection; None: it has not, or the peer hung up first."""
        ...

    def cut_when_gone(self) -> None:
        """Cancel the app as soon as its peer is gone, in place of telling it."""
        ...
