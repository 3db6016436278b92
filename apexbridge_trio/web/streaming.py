"""A streamed reply: headers with the first event, a sign of life in silence, one writer at a time."""

from typing import Final

import trio

from apexbridge_trio.protocol.sse import KEEP_ALIVE
from apexbridge_trio.web.arrival import Arrival

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class EventReply:
    """One ``text/event-stream`` reply.

    Cancellation: the server takes a message before it waits for the wire, so a write that is
    cancelled was made, whole.

    Args:
        keepalive_s: Silence after which a comment is sent, seconds.
    """

    def __init__(self, arrival: Arrival, keepalive_s: float) -> None:
        self._arrival = arrival
        self._keepalive_s = keepalive_s
        self._last = trio.current_time()
        self._writing = False
        self._pinging: trio.Event | None = None
        self._is_over = False
        self.has_begun = False

    def give_up(self) -> bool:
        """End the signs of life; tells whether nothing was sent, so that an error may be the reply."""
        self._is_over = True
        return not self.has_begun

    async def write(self, events: bytes) -> None:
        """Send whole events; returns when the server has taken them."""
        if self._pinging is not None:
            await self._pinging.wait()
        self._writing = True
        if self._arrival.first_event is None:
            self._arrival.first_event = trio.current_time()
        await self._send(events)
        self._writing = False

    async def close(self, events: bytes) -> None:
        """Send the last events and end the reply; no sign of life comes after or between them."""
        self._is_over = True
        await self.write(events)
        await self._arrival.send({"type": "http.response.body", "body": b""})

    async def keep_alive(self) -> None:
        """Send a comment whenever nothing else was sent for a while, until cancelled.

        The first one begins the reply: what fails later is told as an event.
        """
        while not self._is_over:
            due = self._last + self._keepalive_s
            await trio.sleep_until(due)
            if self._writing:
                # The client is slow: there is no silence while it has not taken what was sent.
                self._last = trio.current_time()
            if self._is_over or self._last + self._keepalive_s > due:
                continue
            self._pinging = trio.Event()
            try:
                await self._send(KEEP_ALIVE)
            finally:
                self._pinging.set()
                self._pinging = None

    async def _send(self, events: bytes) -> None:
        self._last = trio.current_time()
        if not self.has_begun:
            self.has_begun = True
            await self._arrival.send(
                {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)}
            )
        await self._arrival.send({"type": "http.response.body", "body": events, "more_body": True})
