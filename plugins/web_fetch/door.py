"""Which addresses may be talked to: hosts on a list, and of those only addresses of the public internet.

A name is resolved once, here, and the connection goes to the address that was looked at. So a name
that leads elsewhere a moment later (DNS rebinding) leads nowhere.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
# Translates an IPv4 address that is written into its last bits (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# The public internet: IPv4, also as it is mapped and translated, and global unicast of IPv6 (RFC 4291).
# Other parts of IPv6 are nobody's, or a site's own: fec0::/10, IPv4 as ::a.b.c.d.
INTERNET = (
    *map(ipaddress.ip_network, ("0.0.0.0/0", "::ffff:0:0/96", "2000::/3")),
    NAT64,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """It is not fetched; the message says why, to people."""


@dataclass(frozen=True)
class Target:
    """Where a request goes.

    Args:
        host: For the certificate and the Host header.
        address: What is connected to.
        path: With the query.
    """

    scheme: str
    host: str
    port: int
    address: str
    path: str


def resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses.

    Raises:
        Refused: It has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(f"there is no host {host} / 找不到主机") from None
    return [str(entry[4][0]) for entry in found]


def is_public(text: str) -> bool:
    """Tell whether an address belongs to the public internet, in whatever form it is written."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    is_there = any(address in network for network in INTERNET)
    return is_there and all(one.is_global and not one.is_multicast for one in _meanings(address))


def _meanings(address: Address) -> Iterable[Address]:
    """Yield an address and the IPv4 addresses that are hidden in it."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        hidden = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            hidden.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        yield from (one for one in hidden if one is not None)


class Door:
    """The list of hosts.

    Args:
        hosts: ``example.org``, ``*.example.org`` for the hosts below it, ``example.org:8443`` for a port.
        resolve: For tests.
        is_public: For tests.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        resolve: Callable[[str, int], list[str]] = resolve,
        is_public: Callable[[str], bool] = is_public,
    ) -> None:
        self._hosts = [host.lower() for host in hosts]
        self._resolve = resolve
        self._is_public = is_public

    def target(self, url: str) -> Target:
        """Return where a request for `url` goes.

        Raises:
            Refused: It may not be made.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            raise Refused("this is no address of a page / 网址无效") from None
        if parts.scheme not in PORTS or not parts.hostname or not _is_plain(url):
            raise Refused("only plain http and https addresses are fetched / 只支持 http 和 https")
        if parts.username is not None:
            raise Refused("an address with a name or password in it is not fetched / 网址不能带用户名")
        host = _ascii(parts.hostname).rstrip(".")
        self._check(host, port, parts.scheme)
        addresses = self._resolve(host, port)
        if not all(map(self._is_public, addresses)):
            raise Refused(f"{host} leads to a private address / {host} 指向内部地址")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme, host, port, addresses[0], path)

    def _check(self, host: str, port: int, scheme: str) -> None:
        if not self._hosts:
            raise Refused(
                "no host is allowed yet: write HOSTS=example.org,*.wikipedia.org into config.env in this"
                " plugin's state directory / 还没有允许的网站，请在插件状态目录的 config.env 里写 HOSTS"
            )
        names = {host} if port == PORTS[scheme] else {f"{host}:{port}"}
        names |= {
            f"*.{name.split('.', at)[at]}" for name in set(names) for at in range(1, host.count(".") + 1)
        }
        if not names & set(self._hosts):
            raise Refused(f"{host} is not on the list of allowed hosts / {host} 不在允许的网站里")


def _is_plain(url: str) -> bool:
    return url.isprintable() and " " not in url and "\\" not in url


def _ascii(host: str) -> str:
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise Refused("this is no name of a host / 主机名无效") from None
