"""Find model servers that run on this machine, so that a home needs no config for them."""

from collections.abc import Container, Sequence
from typing import Final

import trio

from apexbridge_trio import config
from apexbridge_trio.upstream.source import Upstream

KNOCK_S: Final = 1.0  # loopback answers or refuses in under a millisecond
# Their documented default ports.
PLACES: Final = (("ollama", 11434), ("llama.cpp", 8080))


async def find_local(
    *, known: Container[str] = (), places: Sequence[tuple[str, int]] = PLACES
) -> list[config.Upstream]:
    """Look for Ollama and llama.cpp on their usual ports and return entries for those with models.

    Takes at most `KNOCK_S` and the time to list models. A server that listens but lists no models
    in OpenAI's form is another program, or of no use yet.

    Args:
        known: Names that need no look.
        places: Names and ports on 127.0.0.1.
    """
    found: dict[str, config.Upstream] = {}

    async def look(name: str, port: int) -> None:
        entry = config.Upstream(name=name, base_url=f"http://127.0.0.1:{port}/v1")
        if await _listens(port) and await Upstream(entry).models():
            found[name] = entry

    async with trio.open_nursery() as nursery:
        for name, port in places:
            if name not in known:
                nursery.start_soon(look, name, port, name=f"look for {name}")
    return [found[name] for name, _ in places if name in found]


async def _listens(port: int) -> bool:
    """Knock first: where nothing listens, the usual case, httpx need not be loaded."""
    with trio.move_on_after(KNOCK_S):
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            return False
        stream.socket.close()
        return True
    return False
