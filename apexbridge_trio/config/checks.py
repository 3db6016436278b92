"""What types can not say of a config: addresses, names that must be unique, names that must exist."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from apexbridge_trio.config.lines import Place
from apexbridge_trio.config.schema import EMBEDDED, Config, Mcp, Model, Upstream
from apexbridge_trio.config.toml import nearest
from apexbridge_trio.config.triggers import check_trigger
from apexbridge_trio.errors import ConfigInvalid

Fault = Callable[[Place, str], None]

# RFC 9110 §5.1 and §5.5: a field name is a token; a value is one line.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def parse_bind(bind: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; an IPv6 address stands in brackets, port 0 means any free one.

    Raises:
        ConfigInvalid: It is no such pair.
    """
    host, _, port = bind.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not port.isascii() or not port.isdigit() or int(port) > 65_535 or not _is_host(host, v6=bracketed):
        raise ConfigInvalid(f"expected HOST:PORT, for example 127.0.0.1:8088 or [::1]:8088, got {bind!r}")
    return host, int(port)


def _is_host(host: str, *, v6: bool) -> bool:
    try:
        return (ipaddress.ip_address(host).version == 6) is v6
    except ValueError:
        return not v6 and _HOST_NAME.fullmatch(host) is not None


def find_faults(config: Config, fault: Fault) -> None:
    """Tell `fault` everything that is wrong between values and in them.

    Args:
        config: May be one with faults already: what is None was told before.
        fault: Called with the place and what is wrong there.
    """
    try:
        parse_bind(config.server.bind)
    except ConfigInvalid as wrong:
        fault(("server", "bind"), wrong.message)
    _check_url(config.server.public_url, ("server", "public_url"), fault)
    _check_url(config.tracing.endpoint, ("tracing", "endpoint"), fault)
    _check_zone(config.plugins.timezone, fault)
    for number, proxy in enumerate(config.server.trusted_proxies):
        _check_network(proxy, ("server", "trusted_proxies", number), fault)
    _check_unique((entry.name for entry in config.upstreams), ("upstreams",), "name", fault)
    _check_unique((entry.id for entry in config.models), ("models",), "id", fault)
    _check_unique((entry.name for entry in config.plugins.mcp), ("plugins", "mcp"), "name", fault)
    for number, server in enumerate(config.plugins.mcp):
        _check_mcp(server, ("plugins", "mcp", number), fault)
    _check_unique((entry.name for entry in config.triggers), ("triggers",), "name", fault)
    for number, trigger in enumerate(config.triggers):
        check_trigger(trigger, ("triggers", number), fault)
    for number, upstream in enumerate(config.upstreams):
        _check_upstream(upstream, ("upstreams", number), fault)
    for number, model in enumerate(config.models):
        _check_model(model, config, ("models", number), fault)


def _check_upstream(upstream: Upstream, place: Place, fault: Fault) -> None:
    _check_url(upstream.base_url, (*place, "base_url"), fault)
    _check_url(upstream.proxy, (*place, "proxy"), fault)
    if upstream.api_key_file and upstream.api_key_env:
        fault((*place, "api_key_env"), "one source of the key is enough; api_key_file is set too")
    for name, value in upstream.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            fault((*place, "headers", name), "not a name of an HTTP header")
        elif not _HEADER_VALUE.fullmatch(value):  # not shown: it may be a key
            fault((*place, "headers", name), "expected one line of printable ASCII")


def _check_mcp(server: Mcp, place: Place, fault: Fault) -> None:
    # Its query stays as it is: many a server takes its key there.
    _check_url(server.url, (*place, "url"), fault, may_ask=True)
    if bool(server.command) is bool(server.url):
        fault(place, "a server has a command or a url, one of the two")
    if server.command and (server.api_key_file or server.api_key_env):
        key = "api_key_file" if server.api_key_file else "api_key_env"
        fault((*place, key), "a key is sent to a url; a command finds its own in its config.env")
    if server.api_key_file and server.api_key_env:
        fault((*place, "api_key_env"), "one source of the key is enough; api_key_file is set too")


def _check_model(model: Model, config: Config, place: Place, fault: Fault) -> None:
    _check_known(
        model.upstream, [entry.name for entry in config.upstreams], "upstream", (*place, "upstream"), fault
    )
    ids = [EMBEDDED, *(entry.id for entry in config.models if entry.id != model.id)]
    for number, other in enumerate(model.fallback):
        _check_known(other, ids, "other model", (*place, "fallback", number), fault)


def _check_known(name: str, known: list[str], what: str, place: Place, fault: Fault) -> None:
    known = [one for one in known if one]
    if name and name not in known:
        fault(place, f"there is no {what} {name!r}{nearest(name, known)}")


def _check_unique(names: Iterable[str], table: Place, key: str, fault: Fault) -> None:
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        if name and seen[name]:
            fault((*table, number, key), f"{name!r} is taken by an entry above")
        seen[name] += 1


def _check_zone(zone: str, fault: Fault) -> None:
    try:
        ZoneInfo(zone or "UTC")
    except (ValueError, OSError, KeyError):
        near = nearest(zone, available_timezones())
        fault(("plugins", "timezone"), f"there is no IANA time zone {zone!r}{near}")


def _check_network(network: str, place: Place, fault: Fault) -> None:
    try:
        ipaddress.ip_network(network, strict=False)
    except ValueError:
        fault(place, f"expected an address or a network as 10.0.0.0/8, got {network!r}")


def _check_url(url: str, place: Place, fault: Fault, *, may_ask: bool = False) -> None:
    """Check an http or https address; it is not shown, as it may hold a password."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        ok = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        ok = False
    if not ok or not url.isascii() or not url.isprintable() or " " in url:
        fault(place, "expected an address like https://host:port/path")
    elif "@" in parts.netloc:
        fault(place, "no name and password in an address: they would be shown")
    elif may_ask and "#" in url:
        fault(place, "no # in an address")
    elif not may_ask and (parts.query or parts.fragment):
        fault(place, "no ? and no # in an address: paths are added to it")
