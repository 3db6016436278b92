"""The way to an upstream: TCP, a proxy if there is one, TLS."""

import base64
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, cast
from urllib.parse import quote, unquote, urlsplit

import trio
from msgspec import Struct

from apexbridge_trio.errors import ConfigInvalid, UpstreamUnreachable
from apexbridge_trio.plain import PlainStream

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a connection to a host and port.

The stream has a `socket` that can `close()` and tell `is_readable()` without an await, as
`PlainStream` has.
"""

PORTS: Final = {"http": 80, "https": 443}
MAX_TUNNEL_HEAD_BYTES: Final = 16384  # as the head limit of squid's and tinyproxy's clients


async def open_plain(host: str, port: int) -> PlainStream:
    """Open TCP.

    Raises:
        OSError: There is no connection.
    """
    return PlainStream(await trio.open_tcp_stream(host, port))


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the process's one TLS context, built on first use: to load the roots takes 30 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType:
    """Return the socket under a stream, plain or TLS."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return cast("PlainStream", stream).socket


class Address(Struct, frozen=True):
    """What a URL says about where to go.

    Attributes:
        path: Percent-encoded, without a slash at its end.
        credentials: ``user:password``, or empty.
    """

    is_tls: bool
    host: str
    port: int
    path: bytes
    credentials: str

    @classmethod
    def of(cls, url: str, what: str) -> "Address":
        """Read an ``http://`` or ``https://`` URL.

        Raises:
            ConfigInvalid: It is none; `what` names it, as the URL may hold a password.
        """
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme not in PORTS or not host or parts.query or parts.fragment:
            raise ConfigInvalid(f"{what} is not an http:// or https:// address.")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(
            is_tls=parts.scheme == "https",
            host=host,
            port=port or PORTS[parts.scheme],
            path=quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~").encode("ascii"),
            credentials=f"{user}:{password}" if user else "",
        )

    @property
    def authority(self) -> bytes:
        """``host:port`` as HTTP writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("ascii")


class Route:
    """Dials one upstream.

    Args:
        base_url: The upstream's address, without credentials.
        name: What errors call the upstream; they never show an address.
        proxy: ``http://[user:password@]host:port``; plain requests pass it in absolute form, TLS
            through a CONNECT tunnel. Empty: none; the environment is not asked.
        connect: Opens TCP.
        timeout_s: For DNS, TCP, the proxy and TLS together.

    Attributes:
        target: What stands before each request's own path.
        headers: What each request carries for the way, as a block of lines.

    Raises:
        ConfigInvalid: An address can not be used.
    """

    def __init__(self, base_url: str, name: str, proxy: str, connect: Connect, timeout_s: float) -> None:
        self._origin = Address.of(base_url, f"base_url of upstream {name}")
        self._proxy = Address.of(proxy, f"proxy of upstream {name}") if proxy else None
        if self._origin.credentials:
            raise ConfigInvalid(f"base_url of upstream {name} holds a password; use api_key_file.")
        if self._proxy and self._proxy.is_tls:
            raise ConfigInvalid(f"proxy of upstream {name} is not an http:// address.")
        self._name = name
        self._connect = connect
        self._timeout_s = timeout_s
        authority = self._origin.authority
        self.target = self._origin.path
        self.headers = b"Host: %b\r\n" % authority
        if self._proxy and not self._origin.is_tls:
            self.target = b"http://" + authority + self._origin.path
            self.headers += _authorization(self._proxy)

    async def dial(self) -> trio.abc.Stream:
        """Open a connection that is ready for a request.

        Cancellation: what was opened so far is closed in the same step.

        Raises:
            UpstreamUnreachable: There is none within the timeout.
        """
        nearest = self._proxy or self._origin
        with trio.move_on_after(self._timeout_s):
            try:
                stream = await self._connect(nearest.host, nearest.port)
                return await self._secure(stream) if self._origin.is_tls else stream
            except (OSError, trio.BrokenResourceError) as fault:
                raise self._unreachable(_reason(fault)) from fault
        raise self._unreachable(f"no connection in {self._timeout_s:g} s")

    async def _secure(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        try:
            if self._proxy:
                await self._tunnel(stream, self._proxy)
            # Half of the web's servers never say farewell in TLS; HTTP's own framing tells the end.
            host, context = self._origin.host, tls_context()
            secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
            await secured.do_handshake()
        except BaseException:  # nothing is handled: whatever ends it, Cancelled too, closes the socket
            socket_of(stream).close()
            raise
        return secured

    async def _tunnel(self, stream: trio.abc.Stream, proxy: Address) -> None:
        """Ask the proxy for a way through; nothing follows its head, as in TLS the client speaks first."""
        to = self._origin.authority
        await stream.send_all(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (to, to, _authorization(proxy)))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = await stream.receive_some(MAX_TUNNEL_HEAD_BYTES)
            if not data or len(head) > MAX_TUNNEL_HEAD_BYTES:
                raise self._unreachable("its proxy gave no answer")
            head += data
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise self._unreachable("its proxy refused the tunnel")

    def _unreachable(self, why: str) -> UpstreamUnreachable:
        return UpstreamUnreachable(f"Upstream {self._name} can not be reached: {why}.")


def _authorization(proxy: Address) -> bytes:
    token = base64.b64encode(proxy.credentials.encode("utf-8"))
    return b"Proxy-Authorization: Basic %b\r\n" % token if proxy.credentials else b""


def _reason(fault: Exception) -> str:
    """Say why there is no connection, without an address."""
    cause = fault if isinstance(fault, ssl.SSLError) else fault.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return "TLS failed"
    if isinstance(fault, socket.gaierror):
        return "its host name is not known"
    return "the connection was refused or lost"
