"""Whose address an address is: the one it is counted by, and the one behind a proxy."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1024)  # of each request, and nearly always one of a few
def network_of(address: str) -> str:
    """Return what an address is counted by.

    An IPv6 network of /64 is one, since that is what a home or a server is given (RFC 6177), and its
    addresses are for the taking. IPv4 in IPv6 is IPv4. What is no address (a local socket) is itself.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)


def peer_of(address: str, forwarded: str | None, trusted: Sequence[str]) -> str:
    """Return who is at the other end, behind proxies that are trusted to say so.

    Each proxy adds whom it heard at the end of ``X-Forwarded-For``; what stands before the last one that
    is not trusted was written by whoever it is, and means nothing.

    Args:
        address: The connection's.
        forwarded: The header's value.
        trusted: Addresses, and networks as ``10.0.0.0/8``.
    """
    peer = address
    for said in reversed((forwarded or "").split(",")):
        if not said.strip() or not any(_is_in(peer, network) for network in trusted):
            break
        peer = _without_port(said.strip())
    return peer


def _without_port(said: str) -> str:
    """Return an address without the port that some proxies add, another one with each connection."""
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said.partition(":")[0] if said.count(":") == 1 else said


@lru_cache(maxsize=1024)
def _is_in(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
