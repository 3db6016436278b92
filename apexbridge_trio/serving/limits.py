"""How much a peer may take, and for how long it is waited for."""

from typing import Final

from msgspec import Struct

from apexbridge_trio.config import Limits

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024  # contract §2: max_frame_bytes of a node


class ServingLimits(Struct, frozen=True):
    """Bounds of one server; the first seven are keys of ``[limits]`` in the configuration.

    Args:
        max_body_bytes: Of one request's body; also what one request may hold in memory.
        max_connections: At once; those above are answered 503.
        header_timeout_s: From the first byte of a request (or the connect) to the end of its head.
        body_timeout_s: Without a byte of an unfinished body.
        idle_timeout_s: Between two requests on one connection.
        send_timeout_s: Without the peer taking a byte of what it asked for.
        connections_per_address: At once, of one network but this machine's; those above are answered 503.
        max_message_bytes: Of one WebSocket message, before compression of any kind (there is none).
        max_messages_per_s: Of one WebSocket, before it is read more slowly.
        ping_interval_s: Between pings; a peer silent for two and a half of them is gone.
        grace_s: For requests in flight once the server shuts down.
    """

    max_body_bytes: int = 8 * 1024 * 1024
    max_connections: int = 1000
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    send_timeout_s: float = 20.0
    connections_per_address: int = 0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_messages_per_s: int = 1000
    ping_interval_s: float = 20.0  # contract §2
    grace_s: float = 5.0

    @classmethod
    def of(cls, limits: Limits, *, grace_s: float, frame_bytes: int) -> "ServingLimits":
        """Return the bounds that a configuration gives to a server.

        Args:
            limits: The configuration's.
            grace_s: See above.
            frame_bytes: The largest frame of any channel, which bounds its frames itself.
        """
        return cls(
            **{name: getattr(limits, name) for name in _CONFIGURED},
            max_message_bytes=max(MAX_MESSAGE_BYTES, frame_bytes),
            grace_s=grace_s,
        )


# Each request asks for its bounds, so what they are is not looked up each time.
_CONFIGURED: Final = tuple(name for name in ServingLimits.__struct_fields__ if hasattr(Limits, name))
