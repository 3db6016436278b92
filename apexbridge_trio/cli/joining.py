"""Where other machines find the hub of this one."""

import ipaddress
import os
import socket
from pathlib import Path

from msgspec import Struct

from apexbridge_trio import log
from apexbridge_trio.agent import parse_hub
from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.config import config_path, load, parse_bind, state_directory

# Documentation's own (RFC 5737, RFC 3849): a route is chosen for it, and nothing is ever sent.
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class Address(Struct, frozen=True):
    """The hub's address.

    Args:
        url: As another machine is told it.
        remarks: What stands in the way of its reaching it; for people.
    """

    url: str
    remarks: tuple[str, ...] = ()


def find_address(hub: str | None, config: Path | None, state: Path | None) -> Address:
    """Return the option's address, else the config's ``public_url``, else where the hub is bound to.

    Raises:
        ConfigInvalid: The option's is none, or the config can not be used.
        Failure: The config says no port.
    """
    if hub is not None:
        return _spoken(hub)
    log.configure("warning", "text")
    directory = state_directory(state, os.environ)
    server = load(config_path(config, directory), env=os.environ).server
    return _spoken(server.public_url) if server.public_url else _bound(server.bind)


def _spoken(url: str) -> Address:
    """Return an address that a person has given, if an agent can take it."""
    try:
        host = parse_hub(url).host
    except ValueError:  # of a bracket that is not closed, for example
        raise Failure(f"{url!r} is no address like http://192.168.1.5:8088", Exit.USAGE) from None
    remarks = (
        (f"{url} is this machine itself: no other one can join by this line",) if is_loopback(host) else ()
    )
    return Address(url if "://" in url else f"http://{url}", remarks)


def _bound(bind: str) -> Address:
    host, port = parse_bind(bind)
    if port == 0:
        raise Failure(
            f"the config says bind = {bind!r}, any port; name the hub's address: --hub URL", Exit.USAGE
        )
    if is_loopback(host):
        return Address(_url(host, port), (_unreachable(bind, port),))
    if not _is_any(host):
        return Address(_url(host, port))
    own = lan_address()
    if own is not None:
        return Address(_url(own, port))
    name = socket.gethostname()
    return Address(
        _url(name, port), (f"this machine has no network now; {name} is its name, not its address",)
    )


def _unreachable(bind: str, port: int) -> str:
    remark = f"the hub listens on {bind} only, so other machines can not reach it: "
    remark += f'put bind = "0.0.0.0:{port}" below [server] into config.toml and start the hub again'
    own = lan_address()
    return remark if own is None else f"{remark}; the line is then to say --hub {_url(own, port)}"


def lan_address() -> str | None:
    """Return this machine's address in its network: the one that it would go out by."""
    for family, far in _FAR:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))
            except OSError:
                continue
            own = str(probe.getsockname()[0])
            if not is_loopback(own):
                return own
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, as only it can say."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
