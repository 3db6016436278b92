"""What the hub shows, on a terminal, looked at again and again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import trio
from rich.console import Group, RenderableType
from rich.live import Live

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.following import until_pressed
from apexbridge_trio.cli.hub import client_options, document_of, reaching
from apexbridge_trio.cli.tables import console, request_tree

# Two looks a second are as fast as people read; each is one small request.
_LOOK_EVERY_S = 0.5


def draw_tree(told: Any) -> RenderableType:
    """Draw one request, or all, with what runs below."""
    return Group(*map(request_tree, told if isinstance(told, list) else [told]))


async def follow(address: str, draw: Callable[[Any], RenderableType]) -> None:
    """Show what is at `address` until Ctrl-C, or until the one thing that is there has ended.

    Args:
        address: Below the hub's.
        draw: Makes a picture of what the hub has answered.

    Raises:
        Failure: The hub can not be reached, or it refused.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    await until_pressed(partial(_draw_on, address, draw))


async def _draw_on(address: str, draw: Callable[[Any], RenderableType]) -> None:
    was_there = False
    # Without its own thread: this loop draws.
    with Live(console=console, auto_refresh=False) as live:
        async with httpx.AsyncClient(**client_options()) as client:
            while True:
                try:
                    told = await _look(client, address)
                except Failure as fault:
                    if was_there and fault.exit_code is Exit.NOT_FOUND:
                        return
                    raise
                was_there = True
                live.update(draw(told), refresh=True)
                await trio.sleep(_LOOK_EVERY_S)


async def _look(client: httpx.AsyncClient, address: str) -> Any:
    with reaching():
        reply = await client.get(address)
    return document_of(reply.status_code, reply.content)
