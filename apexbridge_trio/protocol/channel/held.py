"""What a node sends behind its registration, until that is decided."""

from typing import Final

from apexbridge_trio.protocol.channel.events import Event

# More is a flood, and is told so.
MOST_HELD: Final = 1000
MOST_HELD_BYTES: Final = 32 * 1024 * 1024


class Held:
    """Events that wait, in order; bounded."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._bytes = 0

    def hold(self, event: Event, size: int) -> bool:
        """Keep an event that came as so many bytes; False: there is no room for it."""
        self._bytes += size
        if len(self._events) >= MOST_HELD or self._bytes > MOST_HELD_BYTES:
            return False
        self._events.append(event)
        return True

    def take(self) -> list[Event]:
        """Return all that was held; nothing is held any more."""
        events, self._events, self._bytes = self._events, [], 0
        return events
