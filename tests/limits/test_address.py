"""What an address is counted by."""

import pytest

from apexbridge_trio.limits import network_of, peer_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("", ""),
        ("no address" * 20, ("no address" * 20)[:64]),
    ],
)
def test_a_network_is_one(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("address", "forwarded", "trusted", "peer"),
    [
        ("127.0.0.1", None, ["127.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7", ["127.0.0.1"], "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7", [], "127.0.0.1"),
        # Anybody may write what he likes before what a proxy adds.
        ("127.0.0.1", "198.51.100.1, 192.0.2.7", ["127.0.0.1"], "192.0.2.7"),
        ("127.0.0.1", "198.51.100.1, 10.0.0.9", ["127.0.0.1", "10.0.0.0/8"], "198.51.100.1"),
        ("127.0.0.1", "192.0.2.7, ", ["127.0.0.1"], "127.0.0.1"),
        ("192.0.2.9", "198.51.100.1", ["127.0.0.1"], "192.0.2.9"),
        ("no address", "198.51.100.1", ["127.0.0.1"], "no address"),
        ("::1", "2001:db8::1", ["::1/128"], "2001:db8::1"),
        # With a port, each connection would be somebody else.
        ("127.0.0.1", "192.0.2.7:50123", ["127.0.0.1"], "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::1]:50123", ["127.0.0.1"], "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1", ["127.0.0.1"], "2001:db8::1"),
    ],
)
def test_behind_a_proxy_that_is_trusted(
    address: str, forwarded: str | None, trusted: list[str], peer: str
) -> None:
    assert peer_of(address, forwarded, trusted) == peer
