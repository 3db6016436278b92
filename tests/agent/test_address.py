import pytest

from apexbridge_trio.agent.address import PATH, HubAddress, parse_hub
from apexbridge_trio.errors import ConfigInvalid


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://hub.local:8088", HubAddress("hub.local", 8088, is_tls=False), "hub.local:8088"),
        ("hub.local:8088", HubAddress("hub.local", 8088, is_tls=False), "hub.local:8088"),
        ("ws://hub.local/", HubAddress("hub.local", 80, is_tls=False), "hub.local"),
        ("https://hub.example", HubAddress("hub.example", 443, is_tls=True), "hub.example"),
        ("wss://hub.example:8443", HubAddress("hub.example", 8443, is_tls=True), "hub.example:8443"),
        ("http://[fd00::1]:8088", HubAddress("fd00::1", 8088, is_tls=False), "[fd00::1]:8088"),
        ("https://home.example/apex/", HubAddress("home.example", 443, is_tls=True, path=f"/apex{PATH}"), "home.example"),
        (f"ws://hub:8088{PATH}", HubAddress("hub", 8088, is_tls=False), "hub:8088"),
    ],
)  # fmt: skip
def test_an_address_is_read(url, address, authority):
    assert parse_hub(url) == address
    assert address.authority == authority
    assert str(address) in {f"http://{authority}", f"https://{authority}"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://hub", "ftp:// is none of http, ws, https, wss"),
        ("http://", "no host"),
        ("http://hub:99999", "Port out of range"),
        ("http://hub:x", "Port could not be cast"),
        ("http://[::1", "can not be read"),
        ("http://apx_secret@hub\u2100", "can not be read"),
        ("http://apx_secret@hub", "--key-file"),
        ("ws://hub/abp-distributed-server/VCP_Key=secret", "--key-file"),
        ("http://hub?key=secret", "--key-file"),
    ],
)
def test_what_is_no_address_is_said_without_repeating_a_key(url, words):
    with pytest.raises(ConfigInvalid, match=words) as raised:
        parse_hub(url)
    assert "secret" not in str(raised.value)
