"""Fetching pages: who may be talked to, what is read of the answer, and the plugin as a program."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.errors import ToolFailed
from tests.plugins.folders import SHIPPED, call_tool, load
from tests.plugins.programs import program_modules
from tests.test_intents import Home

ROOMS = program_modules("web_fetch", "door", "page", "fetching")
PUBLIC = "93.184.215.14"


def door(*hosts: str, addresses: list[str] | None = None) -> Any:
    return ROOMS.Door(hosts, resolve=lambda _host, _port: addresses or [PUBLIC])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:192.168.1.1", "64:ff9b::c0a8:101", "2002:c0a8:101::1",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_in_every_form(address: str) -> None:
    assert not ROOMS.is_public(address)
    with pytest.raises(ROOMS.Refused, match="private address"):
        door("example.org", addresses=[PUBLIC, address]).target("http://example.org/")


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_a_public_address_is_let_through(address: str) -> None:
    assert ROOMS.is_public(address)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://example.org", "example.org", 80, "/"),
        ("https://EXAMPLE.org./a?b=c#d", "example.org", 443, "/a?b=c"),
        ("https://zh.wikipedia.org/wiki/猫", "zh.wikipedia.org", 443, "/wiki/猫"),
        ("https://a.b.wikipedia.org:443/", "a.b.wikipedia.org", 443, "/"),
        ("https://local.example:8443/x", "local.example", 8443, "/x"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/"),
    ],
)
def test_a_host_of_the_list_is_let_through(url: str, host: str, port: int, path: str) -> None:
    allowed = door("example.org", "*.wikipedia.org", "local.example:8443", "xn--bcher-kva.example")
    target = allowed.target(url)
    assert (target.host, target.port, target.path, target.address) == (host, port, path, PUBLIC)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "not on the list"),
        ("http://wikipedia.org/", "not on the list"),
        ("http://notexample.org/", "not on the list"),
        ("http://example.org.evil.example/", "not on the list"),
        ("http://example.org:22/", "not on the list"),
        ("http://user:pass@example.org/", "name or password"),
        ("http://example.org@evil.example/", "name or password"),
        ("ftp://example.org/", "only plain http"),
        ("file:///etc/passwd", "only plain http"),
        ("//example.org/", "only plain http"),
        ("http:///x", "only plain http"),
        ("http://example.org/\r\nHost: x", "only plain http"),
        ("http://example.org\\@evil.example/", "only plain http"),
        ("http://example.org:99999/", "no address"),
        ("http://[::1/", "no address"),
        (f"http://{'ü' * 80}.example/", "no name of a host"),
    ],
)
def test_what_is_not_on_the_list_is_refused(url: str, why: str) -> None:
    with pytest.raises(ROOMS.Refused, match=why):
        door("example.org", "*.wikipedia.org").target(url)


def test_without_a_list_it_says_where_to_write_one() -> None:
    with pytest.raises(ROOMS.Refused, match=r"write HOSTS=.* into config\.env"):
        door().target("http://example.org/")


def test_numbers_that_mean_this_machine_are_resolved_before_they_are_judged() -> None:
    with pytest.raises(ROOMS.Refused, match="private address"):
        ROOMS.Door(["2130706433"]).target("http://2130706433/")


def test_a_name_without_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # Not asked of the network, which may be slow, or answer for every name.
    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(ROOMS.Refused, match="no host"):
        ROOMS.Door(["nowhere.invalid"]).target("http://nowhere.invalid/")


class Site(BaseHTTPRequestHandler):
    """A site with every kind of page; the host of each request is noted."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["Host"])
        getattr(self, f"page_{self.path.strip('/').partition('?')[0]}")()

    def send(
        self, body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def page_(self) -> None:
        self.send("<title>猫</title><p>喵".encode())

    def page_echo(self) -> None:
        self.send(self.path.encode(), "text/plain")

    def page_missing(self) -> None:
        self.send(b"no", status=404)

    def page_inside(self) -> None:
        self.send(b"", status=302, Location="http://inside.test/")

    def page_round(self) -> None:
        self.send(b"", status=301, Location="/round")

    def page_on(self) -> None:
        self.send(b"", status=307, Location="/")

    def page_zip(self) -> None:
        self.send(b"x", Content_Encoding="gzip")

    def page_large(self) -> None:
        self.send(b"x" * (ROOMS.MAX_BYTES + 10), "text/plain")

    def page_image(self) -> None:
        self.send(b"\x89PNG", "image/png")

    def page_slow(self) -> None:
        self.send(b"x")
        self.server.held.wait()

    def page_broken(self) -> None:
        self.wfile.write(b"what?\r\n")

    def log_message(self, *_: Any) -> None: ...


class Server(ThreadingHTTPServer):
    """Serves it on a free port; closed, none of its threads is left, nor a connection.

    Attributes:
        hosts: Of the requests.
        held: Set when a page that holds is to end.
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.hosts: list[str] = []
        self.held = threading.Event()

    @property
    def name(self) -> str:
        return f"site.test:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.held.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def site(server: Server) -> str:
    return server.name


def fetch(site: str, path: str, left_s: float = 20.0) -> Any:
    """Fetch from the site, which the door takes for public; `inside.test` is private to it."""
    names = {"site.test": "127.0.0.1", "inside.test": "127.0.0.2"}
    open_door = ROOMS.Door(
        [site, "inside.test"],
        resolve=lambda host, _port: [names[host]],
        is_public=lambda address: address == "127.0.0.1",
    )
    return ROOMS.Fetcher(open_door, deadline=time.monotonic() + left_s).get(f"http://{site}{path}")


def test_a_page_is_fetched_from_the_address_that_was_checked(server: Server) -> None:
    answer = fetch(server.name, "/")
    assert (answer.body.decode(), answer.content_type) == (
        "<title>猫</title><p>喵",
        "text/html; charset=utf-8",
    )
    assert server.hosts == [server.name]
    assert fetch(server.name, "/echo?q=猫&x=%20").body == b"/echo?q=%E7%8C%AB&x=%20"


def test_a_redirect_is_followed(site: str) -> None:
    assert fetch(site, "/on").url == f"http://{site}/"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/missing", "answered 404"),
        ("/inside", "inside.test leads to a private address"),
        ("/round", "from one address to the next"),
        ("/zip", "compressed, unasked"),
        ("/broken", "could not be asked: BadStatusLine"),
    ],
)
def test_what_is_no_page_is_said(site: str, path: str, why: str) -> None:
    with pytest.raises(ROOMS.Refused, match=why):
        fetch(site, path)


def test_time_is_bounded(site: str) -> None:
    with pytest.raises(ROOMS.Refused, match="too long"):
        fetch(site, "/slow", left_s=0.2)
    with pytest.raises(ROOMS.Refused, match="too long"):
        fetch(site, "/", left_s=0)


def test_size_is_bounded(site: str) -> None:
    answer = fetch(site, "/large")
    assert (len(answer.body), answer.is_cut) == (ROOMS.MAX_BYTES, True)


def test_nothing_leads_from_https_to_http() -> None:
    fetcher = ROOMS.Fetcher(door("a.test"), deadline=time.monotonic() + 20)
    fetcher._ask = lambda _target, _url: "http://a.test/"
    with pytest.raises(ROOMS.Refused, match="from https to http"):
        fetcher.get("https://a.test/")


def test_a_certificate_is_asked_for(site: str) -> None:
    port = int(site.partition(":")[2])
    open_door = ROOMS.Door([site], resolve=lambda *_: ["127.0.0.1"], is_public=lambda _: True)
    with pytest.raises(ROOMS.Refused, match="could not be asked: SSL"):
        ROOMS.Fetcher(open_door, deadline=time.monotonic() + 20).get(f"https://site.test:{port}/")


def test_a_host_that_is_not_there_is_said() -> None:
    with socket.socket() as taken:  # nobody else gets its port, and it does not listen
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        open_door = ROOMS.Door([f"x.test:{port}"], resolve=lambda *_: ["127.0.0.1"], is_public=lambda _: True)
        with pytest.raises(ROOMS.Refused, match="could not be asked: ConnectionRefusedError"):
            ROOMS.Fetcher(open_door, deadline=time.monotonic() + 20).get(f"http://x.test:{port}/")


@pytest.mark.parametrize(
    ("body", "kind", "title", "text"),
    [
        (b"<title> A\n b </title><h1>C</h1><p>d <b>e</b><br>f", "text/html", "A b", "C\n\nd e\nf"),
        (b"<script>if (a < b) x()</script><style>p</style><nav><nav>n</nav>m</nav>ok", "text/html", "", "ok"),
        (b"<svg><title>no</title></svg>&lt;yes&gt;&amp;", "", "", "<yes>&"),
        ("<meta charset=gbk><p>猫".encode("gbk"), "text/html", "", "猫"),
        ("貓".encode("big5"), "text/plain; charset=big5", "", "貓"),
        ("猫".encode(), "text/plain; charset=no-such", "", "猫"),
        (b"\xff\xfe", "text/plain", "", "\ufffd\ufffd"),
        (b'{"a": 1}', "application/json", "", '{"a": 1}'),
        (b"<a><b>c</b></a>", "application/rss+xml", "", "c"),
        (b"a<!-- <p>no --><p>b</no>", "text/html", "", "a\nb"),
    ],
)
def test_the_words_of_a_page(body: bytes, kind: str, title: str, text: str) -> None:
    page = ROOMS.read_page(body, kind)
    assert (page.title, page.text) == (title, text)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "video/mp4"])
def test_what_is_no_text_is_refused(kind: str) -> None:
    with pytest.raises(ROOMS.Refused, match="this is no text"):
        ROOMS.read_page(b"x", kind)


async def test_the_program_does_not_go_where_it_may_not(tmp_path: Path, server: Server) -> None:
    state = tmp_path / "plugins/web_fetch"
    state.mkdir(parents=True)
    port = server.server_port
    (state / "config.env").write_text(f"HOSTS=localhost:{port}, 127.0.0.1:{port}\n")
    tool = load(SHIPPED, state=tmp_path).tools["web_fetch"]
    with trio.fail_after(60):
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(ToolFailed, match="leads to a private address"):
                await call_tool(tool, {"url": f"http://{host}:{port}/"})
        with pytest.raises(ToolFailed, match="不在允许的网站里"):
            await call_tool(tool, {"url": "http://example.org/"})
    assert server.hosts == []


@pytest.mark.parametrize(
    "said", ["读取网页 https://example.org/a?b=c", "Read the page https://example.org/a?b=c"]
)
async def test_what_is_said_is_understood(tmp_path: Path, said: str) -> None:
    assert await Home(tmp_path).call(said) == ("web_fetch", {"url": "https://example.org/a?b=c"})


async def test_a_page_is_told_in_both_languages(tmp_path: Path) -> None:
    home = Home(tmp_path)
    page = {"url": "https://example.org", "title": "A", "text": "b" * 501, "is_cut": False}
    told = await home.told("读取网页 https://example.org", page, "web_fetch")
    assert told == "A：" + "b" * 500 + "……"
    assert await home.told("Read the page https://example.org", {**page, "text": "c"}, "web_fetch") == "A: c"
