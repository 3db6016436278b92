"""Which addresses belong to the public internet, in whatever form they are written.

`plugins/web_fetch/door.py` asks the same: a plugin runs without the hub's package, so it has these lines
of its own, and a test holds the two together.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

# Translates an IPv4 address that is written into its last bits (RFC 6052).
NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# The public internet: IPv4, also as it is mapped and translated, and global unicast of IPv6 (RFC 4291).
# Other parts of IPv6 are nobody's, or a site's own: fec0::/10, IPv4 as ::a.b.c.d.
INTERNET: Final = (
    *map(ipaddress.ip_network, ("0.0.0.0/0", "::ffff:0:0/96", "2000::/3")),
    NAT64,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(text: str) -> bool:
    """Tell whether an address is of the public internet: not private, loopback, link-local or multicast.

    Raises:
        ValueError: It is no address.
    """
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
