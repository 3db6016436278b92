"""One line on how the hub stands, for ``systemctl status``."""

from typing import Final

import trio

from apexbridge_trio.hub import Hub
from apexbridge_trio.notify import notify

# Counting is cheap, and nobody who reads it is in a greater hurry.
LOOK_EVERY_S: Final = 1.0


def standing(hub: Hub) -> str:
    """Say what is connected and in flight."""
    online = sum(1 for node in hub.nodes.registry if node.is_up)
    word = "draining" if hub.flights.is_draining else "ready"
    return f"{word}: {_counted(online, 'node')}, {_counted(len(hub.flights), 'request')} in flight"


async def tell_standing(hub: Hub) -> None:
    """Tell the service manager each change, at most once a second, until cancelled.

    Without a manager return at once. It is looked at, not told: what changes it, a chat, is on the hot path.
    """
    told = ""
    while True:
        if (now := standing(hub)) != told:
            if not notify(f"STATUS={now}") and not told:
                return
            told = now
        await trio.sleep(LOOK_EVERY_S)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
