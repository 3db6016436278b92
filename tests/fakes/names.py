"""A resolver for what is not in any net, as ``trio.socket.set_custom_hostname_resolver`` takes it."""

import socket
from typing import Any

import trio


class NoNames(trio.abc.HostnameResolver):
    """Knows no name, at once: a real one may ask about for a while, or answer for every name."""

    async def getaddrinfo(self, *_: object, **__: object) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object) -> Any:
        raise AssertionError
