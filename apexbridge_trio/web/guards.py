"""Who may come in: keys, scopes, the loopback rule, Host and Origin.

A peer on this machine may chat without a key (`auth.loopback`), since the seed's own example carries
none. A web page must not use that: a name that was rebound to 127.0.0.1 shows in Host, a foreign
page in Origin, and both are refused. With a key neither matters.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from apexbridge_trio.config import Auth
from apexbridge_trio.errors import ApexError, Forbidden, NotFound, Unauthenticated
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.redaction import redact
from apexbridge_trio.web.arrival import Arrival, header
from apexbridge_trio.web.door import identified, kind_of, take

# Results of plugins come with a token, a key or a signature of their own: `callback` looks at them.
CALLBACKS: Final = "/plugin-callback"

# Read by a Prometheus on this machine without a key; see `require_watcher`.
METRICS: Final = "/metrics"

# The first entry that fits rules; an empty set: anybody. What is not below one of these is not there,
# so that a router that reads a path in another way than we do (`//v1/models`) opens nothing.
_RULES: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("/health", frozenset()),
    (METRICS, frozenset()),  # `require_watcher` decides
    ("/v1/chat", frozenset({"chat"})),
    ("/v1/chatvcp", frozenset({"chat"})),
    ("/v1/models", frozenset({"chat"})),
    ("/v1/interrupt", frozenset({"chat", "admin"})),
    ("/v1/events", frozenset({"chat", "admin"})),
    ("/v1/logs", frozenset({"logs", "admin"})),
    ("/v1/notifications", frozenset({"chat", "admin"})),
    ("/v1/requests", frozenset({"chat", "admin"})),
    ("/v1/nodes", frozenset({"chat", "admin"})),
    ("/v1/tasks", frozenset({"chat", "admin"})),
    ("/v1/reminders", frozenset({"chat"})),
    ("/v1/plugins", frozenset({"admin"})),
    ("/openapi.json", frozenset()),
    ("/v1/audit", frozenset({"admin"})),
    ("/v1/triggers", frozenset({"admin"})),
    ("/v1/keys", frozenset({"admin"})),
    ("/v1/config", frozenset({"admin"})),
)
# What the paths that there are begin with, as requests are counted by.
ROUTES: Final = (*(path for path, _ in _RULES), CALLBACKS)
_KEYLESS: Final = ("/v1/chat", "/v1/chatvcp", "/v1/models", "/v1/interrupt")
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
LOCAL: Final = Principal(id="local", scopes=frozenset({"chat"}))


def admit(hub: Hub, arrival: Arrival) -> Principal | None:
    """Say who asks, or refuse; nothing of the body has been read.

    Raises:
        TooMany: There were too many requests, or wrong keys, before.
        Unauthenticated: No key where one is needed, or one that is not known.
        Forbidden: The key lacks the scope, or a page of another site asks.
        NotFound: No rule says who may use this path.
    """
    path: str = arrival.scope["path"]
    if is_below(path, CALLBACKS):
        return None
    key = bearer(arrival)
    principal = identified(hub, arrival, key) if key is not None else None
    if key is not None and principal is None:
        raise Unauthenticated(
            "This key is not known here. Make one with: apexbridge keys create --scope chat"
        )
    needed = scopes_of(path)
    refusal: ApexError | None = None
    if principal is None and needed != frozenset():
        principal, refusal = _local(hub.config.auth, arrival, path)
    # Only now: a page of another site must not use up what the programs of this machine may ask for.
    if kind := kind_of(arrival.scope["method"], path):
        take(hub, arrival, principal or _at_home(hub.config.auth, arrival), kind)
    if refusal is not None:
        raise refusal
    if needed is None:
        raise NotFound(nothing_at(path))
    if principal and needed and not needed & principal.scopes:
        raise Forbidden(f"This key may not do that; it needs the scope {' or '.join(sorted(needed))}.")
    return principal


def scopes_of(path: str) -> frozenset[str] | None:
    """Return the scopes of which one is needed at a path; empty: anybody may; None: nothing is there."""
    return next((scopes for start, scopes in _RULES if is_below(path, start)), None)


def is_keyless(path: str) -> bool:
    """Tell whether a path may be used without a key, on the machine itself."""
    return any(is_below(path, start) for start in _KEYLESS)


def nothing_at(path: str) -> str:
    """Say that nothing is there; a key may be part of a path that was meant for a channel."""
    return f"There is nothing at {redact(path)[:200]}."


def bearer(arrival: Arrival) -> str | None:
    """Return the key a request carries; empty if it is in no form that is known."""
    value = header(arrival.scope, b"authorization")
    if value is None:
        return None
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _local(auth: Auth, arrival: Arrival, path: str) -> tuple[Principal | None, ApexError | None]:
    """Return who asks without a key, or why nobody may."""
    if arrival.is_local and auth.loopback == "chat":
        if fault := foreign(auth, arrival):
            return None, fault
        if is_keyless(path) or not _is_known(path):
            return LOCAL, None
    message = "A key is needed: Authorization: Bearer <key>. Make one with: apexbridge keys create"
    return None, Unauthenticated(message)


def _at_home(auth: Auth, arrival: Arrival) -> Principal | None:
    """Return as whom a request without a key is counted that comes from the person at this machine."""
    is_ours = arrival.is_local and auth.loopback == "chat" and foreign(auth, arrival) is None
    return LOCAL if is_ours else None


def require_watcher(hub: Hub, arrival: Arrival) -> None:
    """Let in who may look inside the hub: an administrator, or the person at this machine.

    Raises:
        Unauthenticated: No key, and from elsewhere, or keys are needed here too.
        Forbidden: The key lacks the scope, or a page of another site asks.
    """
    if arrival.principal is not None:
        if "admin" not in arrival.principal.scopes:
            raise Forbidden("This key may not do that; it needs the scope admin.")
    elif not arrival.is_local or hub.config.auth.loopback == "none":
        raise Unauthenticated(
            "A key is needed: Authorization: Bearer <key>. Make one with: "
            "apexbridge keys create --scope admin"
        )
    elif fault := foreign(hub.config.auth, arrival):
        raise fault


def foreign(auth: Auth, arrival: Arrival) -> Forbidden | None:
    """Say what shows that a web page asks, not the person at this machine."""
    names = _LOCAL_NAMES | frozenset(auth.allowed_hosts)
    host = _host_name(f"//{header(arrival.scope, b'host') or ''}")
    if host not in names:
        return Forbidden("Without a key the hub answers only to localhost, 127.0.0.1 and [::1].", code="host")
    origin = header(arrival.scope, b"origin")
    # A page that only fetches (an image, a frame) sends no Origin; browsers say of it what no page can forge.
    is_across = header(arrival.scope, b"sec-fetch-site") == "cross-site"
    if is_across or (origin is not None and _host_name(origin) not in names):
        return Forbidden("A page of another site asks, and carries no key.", code="origin")
    return None


@lru_cache(maxsize=128)  # of each request without a key, and nearly always the same
def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def is_below(path: str, start: str) -> bool:
    """Tell whether a path is `start` or below it."""
    return path == start or path.startswith(f"{start}/")


def _is_known(path: str) -> bool:
    return any(is_below(path, start) for start, _ in _RULES)
