"""What types can not say: addresses, headers, zones."""

import msgspec
import pytest

from apexbridge_trio.config import Config, Mcp, Plugins, Server, Upstream, parse_bind
from apexbridge_trio.config.checks import find_faults
from apexbridge_trio.config.lines import Place
from apexbridge_trio.errors import ConfigInvalid


def faults_of(config: Config) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    find_faults(config, lambda place, what: found.append((place, what)))
    return found


@pytest.mark.parametrize(
    ("bind", "pair"),
    [
        ("127.0.0.1:8088", ("127.0.0.1", 8088)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("hub.home-lan:80", ("hub.home-lan", 80)),
    ],
)
def test_a_bind_is_a_host_and_a_port(bind: str, pair: tuple[str, int]) -> None:
    assert parse_bind(bind) == pair


@pytest.mark.parametrize(
    "bind",
    ["", "8088", ":8088", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[127.0.0.1]:80", "[x]:80",
     "[::1]", "a b:80", "-a:80", "host:８０", "host\n:80"],
)  # fmt: skip
def test_anything_else_is_no_bind(bind: str) -> None:
    with pytest.raises(ConfigInvalid, match="expected HOST:PORT"):
        parse_bind(bind)
    ((place, _what),) = faults_of(Config(server=Server(bind=bind)))
    assert place == ("server", "bind")


@pytest.mark.parametrize("url", ["", "http://h", "https://h:1/v1", "http://[::1]:11434/v1"])
def test_good_addresses(url: str) -> None:
    assert faults_of(Config(server=Server(public_url=url))) == []


@pytest.mark.parametrize(
    "url", ["hunter2", "//hunter2", "ftp://h", "http://", "http://h:x", "http://h:0", "http://[::1", "http://h/a b", "http://h/\n", "http://é",
            "http://u:hunter2@h", "http://h/?a=b", "http://h/#a"],
)  # fmt: skip
def test_bad_addresses_are_told_but_not_shown(url: str) -> None:
    ((place, what),) = faults_of(Config(server=Server(public_url=url)))
    assert place == ("server", "public_url")
    assert "hunter2" not in what


def test_headers_can_not_forge_a_request() -> None:
    upstream = Upstream(
        name="a", base_url="http://h", headers={"X-Ok": "a b", "X Bad": "", "X-Two": "hunter2\r\nX: y"}
    )
    found = faults_of(Config(upstreams=[upstream]))
    assert found == [
        (("upstreams", 0, "headers", "X Bad"), "not a name of an HTTP header"),
        (("upstreams", 0, "headers", "X-Two"), "expected one line of printable ASCII"),
    ]
    assert faults_of(Config(upstreams=[msgspec.structs.replace(upstream, headers={}, proxy="socks://h")]))


@pytest.mark.parametrize("zone", ["Asia/Shangai", "/etc/passwd", "../x", "Asia"])
def test_a_zone_is_one_of_iana(zone: str) -> None:
    ((place, what),) = faults_of(Config(plugins=Plugins(timezone=zone)))
    assert place == ("plugins", "timezone")
    assert what.startswith(f"there is no IANA time zone {zone!r}")
    assert zone != "Asia/Shangai" or what.endswith("; did you mean Asia/Shanghai?")
    assert faults_of(Config(plugins=Plugins(timezone="Asia/Shanghai"))) == []


@pytest.mark.parametrize(
    ("server", "place", "what"),
    [
        (Mcp("a"), (), "a server has a command or a url, one of the two"),
        (Mcp("a", command=["x"], url="http://h/mcp"), (), "a server has a command or a url, one of the two"),
        (Mcp("a", url="ftp://h"), ("url",), "expected an address like https://host:port/path"),
        (Mcp("a", url="http://h/mcp?k=1#x"), ("url",), "no # in an address"),
        (Mcp("a", command=["x"], api_key_env="K"), ("api_key_env",), "a key is sent to a url; "),
        (Mcp("a", command=["x"], api_key_file="k"), ("api_key_file",), "a key is sent to a url; "),
        (
            Mcp("a", url="http://h", api_key_file="k", api_key_env="K"),
            ("api_key_env",),
            "one source of the key",
        ),
    ],
)
def test_an_mcp_server_is_somewhere_and_has_one_key(server: Mcp, place: tuple[str, ...], what: str) -> None:
    ((found, said),) = faults_of(Config(plugins=Plugins(mcp=[server])))
    assert found == ("plugins", "mcp", 0, *place)
    assert said.startswith(what)


def test_an_mcp_server_may_take_its_key_in_its_query() -> None:
    assert faults_of(Config(plugins=Plugins(mcp=[Mcp("a", url="https://h/mcp/?apiKey=x")]))) == []


def test_two_mcp_servers_have_two_names() -> None:
    twice = [Mcp("a", command=["x"]), Mcp("a", command=["y"])]
    assert faults_of(Config(plugins=Plugins(mcp=twice))) == [
        (("plugins", "mcp", 1, "name"), "'a' is taken by an entry above")
    ]
