import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from apexbridge_trio.errors import ConfigInvalid, UpstreamUnreachable
from apexbridge_trio.relay import tls_context
from tests.fakes.memory import MemoryStream
from tests.fakes.names import NoNames
from tests.fakes.upstream import FakeUpstream
from tests.relay.asking import PATH, ask, body_of, pool_of


@pytest.mark.parametrize(
    ("base_url", "proxy"),
    [
        ("ftp://host/v1", ""),
        ("http:///v1", ""),
        ("http://host:port/v1", ""),
        ("http://host:99999/v1", ""),
        ("http://host/v1?key=hush", ""),
        ("http://me:hush@host/v1", ""),
        ("http://host/v1", "socks5://me:hush@host"),
        ("http://host/v1", "https://me:hush@host"),
    ],
)
def test_an_address_that_can_not_be_used_is_refused_without_its_secret(base_url: str, proxy: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        pool_of(base_url=base_url, proxy=proxy)
    assert "hush" not in refused.value.message


@pytest.mark.parametrize("credentials", ["", "me:p%40ss@"])
async def test_a_plain_request_passes_the_proxy_in_absolute_form(
    credentials: str, autojump_clock: object
) -> None:
    proxy = FakeUpstream()
    asked: list[tuple[str, int]] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        return await proxy.connect(host, port)

    async with proxy:
        pool = pool_of(connect, base_url="http://model.test/v1", proxy=f"http://{credentials}proxy.test:3128")
        await ask(pool, "hello")
        pool.close()
    assert asked == [("proxy.test", 3128)]
    assert proxy.requests[0].path == "http://model.test:80/v1/chat/completions"
    assert proxy.requests[0].headers["host"] == "model.test:80"
    sent = proxy.requests[0].headers.get("proxy-authorization")
    assert sent == ("Basic bWU6cEBzcw==" if credentials else None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused the tunnel"),
        (b"", "gave no answer"),
        (b"x" * 70000, "gave no answer"),
    ],
)
async def test_a_proxy_without_a_way_through_is_unreachable(
    answer: bytes, why: str, autojump_clock: object
) -> None:
    ends: list[MemoryStream] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        near, far = MemoryStream.pair()
        await far.send_all(answer)
        if not answer:
            far._out.close()
        ends.append(near)
        return near

    pool = pool_of(connect, base_url="https://model.test/v1", proxy="http://me:hush@proxy.test:3128")
    with pytest.raises(UpstreamUnreachable, match=why) as told:
        await ask(pool, "hello")
    assert "hush" not in told.value.message
    with pytest.raises(trio.ClosedResourceError):
        await ends[0].receive_some()


# e2e: real sockets, real clock.

SAFETY_S = 120.0
e2e = partial(pool_of, connect_timeout_s=SAFETY_S)  # a busy machine is waited for


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key for 127.0.0.1, in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=fake -addext subjectAltName=IP:127.0.0.1"
    made = ["openssl", *command.split(), "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


@asynccontextmanager
async def tls_provider(certificate: Path) -> AsyncIterator[tuple[FakeUpstream, int]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with FakeUpstream() as provider, trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            try:
                await provider.serve(secured)
            except trio.BrokenResourceError:
                await trio.aclose_forcefully(stream)

        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield provider, listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel(reason="the test is over")


async def tunnel(stream: trio.SocketStream) -> None:
    """A CONNECT proxy for one connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive_some()
    assert b"\r\nProxy-Authorization: Basic bWU6aHVzaA==\r\n" in head
    host, port = head.split()[1].split(b":")
    other = await trio.open_tcp_stream(host.decode(), int(port))
    await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
    async with stream, other, trio.open_nursery() as nursery:

        async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
            async for data in source:
                await target.send_all(data)
            nursery.cancel_scope.cancel(reason="one side has ended")

        nursery.start_soon(copy, stream, other)
        await copy(other, stream)


@pytest.mark.parametrize("is_proxied", [False, True])
async def test_tls_direct_and_through_a_tunnel(is_proxied: bool, certificate: Path, trusted: None) -> None:
    with trio.fail_after(SAFETY_S):
        async with tls_provider(certificate) as (provider, port), trio.open_nursery() as nursery:
            proxy = ""
            if is_proxied:
                (listener,) = await nursery.start(partial(trio.serve_tcp, tunnel, 0, host="127.0.0.1"))
                proxy = f"http://me:hush@127.0.0.1:{listener.socket.getsockname()[1]}"
            pool = e2e(base_url=f"https://127.0.0.1:{port}/v1", proxy=proxy)
            for _ in range(3):
                assert b"Hello" in await ask(pool, "hello")
                assert b"[DONE]" in await ask(pool, "stream:3:1", stream=True)
            assert len(provider.connections) == 1
            async with pool.open(b"POST", PATH, [], body_of("endless", stream=True)) as response:
                await response.receive()
            assert (await provider.closed(0)).closed_by == "peer"
            pool.close()
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_a_certificate_nobody_trusts_is_unreachable(certificate: Path) -> None:
    tls_context.cache_clear()
    with trio.fail_after(SAFETY_S):
        async with tls_provider(certificate) as (_, port):
            with pytest.raises(UpstreamUnreachable, match="not trusted"):
                await ask(e2e(base_url=f"https://127.0.0.1:{port}/v1"), "hello")


async def test_plain_http_where_tls_was_meant_is_unreachable() -> None:
    with trio.fail_after(SAFETY_S):
        async with FakeUpstream() as provider:
            port = await provider.listen()
            with pytest.raises(UpstreamUnreachable, match="TLS failed"):
                await ask(e2e(base_url=f"https://127.0.0.1:{port}/v1"), "hello")


async def test_an_unknown_host_and_a_closed_port_are_unreachable() -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    with trio.fail_after(SAFETY_S), socket.socket() as deaf:
        with pytest.raises(UpstreamUnreachable, match="host name is not known"):
            await ask(e2e(base_url="http://no-such-host.invalid/v1"), "hello")
        deaf.bind(("127.0.0.1", 0))  # taken, and it refuses
        with pytest.raises(UpstreamUnreachable, match="refused or lost"):
            await ask(e2e(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"), "hello")
