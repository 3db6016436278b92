"""What all connections of one server share."""

from collections.abc import Callable
from typing import Any

from hypercorn.config import Config
from msgspec import Struct, field

from apexbridge_trio.serving.call import ASGIApp, OnFault
from apexbridge_trio.serving.limits import ServingLimits
from apexbridge_trio.serving.refusal import Headers


def shown_to_nobody(_request: Headers) -> Headers:
    """Let no page of another site read a reply: nothing is to be said for that."""
    return []


def _stock_config() -> Config:
    config = Config()
    config.include_date_header = False  # ours is written once a second
    config.include_server_header = False
    config.websocket_ping_interval = None  # the reader's deadline pings, and sees who is silent
    config.keep_alive_max_requests = 2**62
    return config


class Site(Struct, frozen=True):
    """The app, what peers may do, and whom to tell of faults.

    Args:
        app: The ASGI app.
        limits_now: What a peer may take; asked for each connection and request anew, so that a change counts.
        on_fault: Told of each crash.
        state: What the app's lifespan has filled.
        shown_to: From a request's headers, what a reply that is not the app's says beside.
        config: Hypercorn's own.
    """

    app: ASGIApp
    limits_now: Callable[[], ServingLimits]
    on_fault: OnFault
    state: dict[str, Any] = field(default_factory=dict)
    shown_to: Callable[[Headers], Headers] = shown_to_nobody
    config: Config = field(default_factory=_stock_config)

    @property
    def limits(self) -> ServingLimits:
        """What a peer that comes now may take."""
        return self.limits_now()
