"""What a hub needs of this machine to start with a config: what would be found at the next start only.

Looked at when a config is changed, by ``check`` and by ``doctor``. What runs has been started already, so of
a change only what it changes is looked at: an address of a network that is down now keeps nobody from
changing something else.
"""

import errno
import socket
from collections.abc import Callable

from apexbridge_trio.config.checks import Fault, parse_bind
from apexbridge_trio.config.schema import Config
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.installation import has, remedy
from apexbridge_trio.log import get_logger

# Looks at a config, and tells what is wrong with it.
Check = Callable[[Config, Fault], None]

log = get_logger("config")


def find_needs(config: Config, fault: Fault, *, since: Config | None = None) -> None:
    """Tell `fault` what this machine lacks for a hub to start with a config; blocks.

    Args:
        config: As for `find_faults`.
        fault: As for `find_faults`.
        since: What is in force: only what differs from it is looked at; None: all.
    """
    if since is None or config.server.bind != since.server.bind:
        _check_bind(config.server.bind, fault)
    endpoint = config.tracing.endpoint
    if endpoint and (since is None or endpoint != since.tracing.endpoint) and not has("otel"):
        fault(("tracing", "endpoint"), f"needs a library that is not installed: {remedy('otel')}")


def why_not_bound(host: str, port: int) -> OSError | None:
    """Return why an address can not be listened at; None: it can. Nothing listens there for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as fault:
        return fault
    return None


def _check_bind(bind: str, fault: Fault) -> None:
    try:
        wrong = why_not_bound(*parse_bind(bind))
    except ConfigInvalid:
        return  # it was told
    if wrong is None:
        return
    if wrong.errno == errno.EADDRINUSE:  # by this hub, or by what is to make room for it
        log.warning("something listens there now; it must be gone when the hub is started again", bind=bind)
    else:
        fault(("server", "bind"), f"this machine can not listen there: {wrong.strerror or wrong}")
