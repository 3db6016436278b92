"""The door of every edge: whose address it is, whether its key is looked at, and how often it may come.

Asked before anything of a request is read but its head: by HTTP, by upgrades to a WebSocket, by callbacks.
"""

import time
from math import ceil
from typing import Final

import trio

from apexbridge_trio.errors import TooMany
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.limits import Asker, Kind, Standing, network_of, peer_of
from apexbridge_trio.web.arrival import Arrival

# What makes less work, not more, is never refused: who says stop is heard, however much they asked before.
_FREE: Final = frozenset({"/health", "/health/live", "/health/ready", "/v1/interrupt"})
_CHAT: Final = ("/v1/chat", "/v1/chatvcp")


def identified(hub: Hub, arrival: Arrival, key: str) -> Principal | None:
    """Return who a key stands for; a wrong one counts against the address it comes from.

    Raises:
        TooMany: Too many keys from there were wrong; this one was not looked up.
    """
    strikes, now = hub.limiter.strikes, trio.current_time()
    if wait_s := strikes.wait_s(network(hub, arrival), key, now):
        raise slowed(wait_s)
    principal = hub.keys.principal_of(key)
    if principal is None:
        strikes.wrong(network(hub, arrival), now, key)
    else:
        strikes.right(key)
    return principal


def slowed(wait_s: float) -> TooMany:
    """Say that an address has to wait, whatever key it has."""
    message = "Too many wrong keys from this address; the next one is looked at in a while."
    return TooMany(message, code="too_many_wrong_keys", retry_after_s=ceil(wait_s))


def take(hub: Hub, arrival: Arrival, principal: Principal | None, kind: Kind) -> None:
    """Count a request; its reply says how that leaves things.

    Args:
        hub: The hub.
        arrival: The request.
        principal: Who asks; None: it is counted by its address.
        kind: What it is counted as.

    Raises:
        TooMany: There were too many of its kind.
    """
    now = trio.current_time()
    standing = hub.limiter.take(_asker(hub, arrival, principal), kind, now)
    if standing is None:
        return
    arrival.limited = _headers(standing, now)
    if standing.wait_s:
        message = f"Too many requests: {standing.limit} of this kind a minute is the limit."
        raise TooMany(message, retry_after_s=ceil(standing.wait_s))


def kind_of(method: str, path: str) -> Kind | None:
    """Return what a request is counted as; None: it is not."""
    if path in _FREE or (method == "DELETE" and path.startswith("/v1/tasks/")):
        return None
    return "chat" if path.startswith(_CHAT) else "control"


def network(hub: Hub, arrival: Arrival) -> str:
    """Return what the address of a request is counted by."""
    host: str = (arrival.scope.get("client") or ("",))[0]
    if trusted := hub.config.server.trusted_proxies:
        host = peer_of(host, _forwarded(arrival), trusted)
    return network_of(host)


def _forwarded(arrival: Arrival) -> str:
    """Return all that proxies have said; one may add to the line that came, or write a line below it."""
    lines = [value for name, value in arrival.scope["headers"] if name == b"x-forwarded-for"]
    return b",".join(lines).decode("latin-1")


def _asker(hub: Hub, arrival: Arrival, principal: Principal | None) -> Asker:
    if principal is not None:
        return Asker(principal.id)
    return Asker(network(hub, arrival), has_key=False)


def _headers(standing: Standing, now: float) -> list[tuple[bytes, bytes]]:
    full_at = ceil(time.time() + standing.full_at - now)
    return [
        (b"x-ratelimit-limit", b"%d" % standing.limit),
        (b"x-ratelimit-remaining", b"%d" % standing.remaining),
        (b"x-ratelimit-reset", b"%d" % full_at),
    ]
