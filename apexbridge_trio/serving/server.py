"""The listeners, the lifespan, and the way to stop."""

import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

import trio
from hypercorn.utils import parse_socket_addr

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.limits import network_of
from apexbridge_trio.plain import PlainStream
from apexbridge_trio.serving.address import Address
from apexbridge_trio.serving.call import ASGIApp, OnFault
from apexbridge_trio.serving.connection import Connection
from apexbridge_trio.serving.lifespan import lifespan
from apexbridge_trio.serving.limits import ServingLimits
from apexbridge_trio.serving.refusal import Headers, full
from apexbridge_trio.serving.site import Site, shown_to_nobody
from apexbridge_trio.serving.versions import require_proved

# With Hypercorn's 100, a thousand clients at once wait a second for the kernel to ask again.
BACKLOG: Final = 1024
# Connections above the limit that are still told why; the rest are closed unread.
TURNED_AWAY: Final = 64
# A proxy on this machine brings everybody; and what has no address is a local socket.
_OWN: Final = frozenset({"", "::", "127.0.0.1"})


async def serve(
    app: ASGIApp,
    *,
    binds: Sequence[str] = (),
    sockets: Sequence[socket.socket] = (),
    limits: ServingLimits | Callable[[], ServingLimits],
    shutdown: Callable[[], Awaitable[None]],
    on_fault: OnFault,
    shown_to: Callable[[Headers], Headers] = shown_to_nobody,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 and WebSockets until `shutdown` returns; no TLS, no HTTP/2, no h2c.

    Started means accepting, after the app's start-up. Then, when `shutdown` returns: no new
    connections; idle ones are closed; WebSockets get 1001; requests in flight may end within
    ``limits.grace_s`` and are cancelled after it; last the app's own shut-down.

    Cancellation: at once; requests are cancelled, and the app's shut-down is not asked for.

    Args:
        app: Any ASGI app. It sees ``http.disconnect`` at once when the peer is gone, but never after
            the last event of its response.
        binds: ``HOST:PORT`` each, ``[HOST]:PORT`` for IPv6; port 0 picks one.
        sockets: Ready-made ones, listening or not, which the server closes.
        limits: What peers may do; a function is asked for each connection anew.
        shutdown: Returns when it is time to stop.
        on_fault: Told of each crash: ``"request"`` or ``"connection"``, and the exception.
        shown_to: From a request's headers, what lets a page of another site read the server's own reply
            to it; the app says so on its own replies.
        task_status: Gets the addresses bound, in order: binds, then sockets.

    Raises:
        ConfigInvalid: A bind is no address, or a library is not of the version proved.
        InternalFault: The app failed at its start-up or shut-down; in a group, as a nursery's faults are.
        OSError: An address can not be bound.
    """
    require_proved()
    limits_now = limits if callable(limits) else lambda: limits
    with ExitStack() as held:
        for sock in sockets:  # they are ours from now on, whatever becomes of a bind
            held.callback(sock.close)
        listening = [*(held.enter_context(_bound(bind)) for bind in binds), *sockets]
        listeners = [_listener(sock, limits_now()) for sock in listening]
        addresses = list(map(Address.of, listening))
        async with lifespan(app) as state, trio.open_nursery() as nursery:
            reception = _Reception(Site(app, limits_now, on_fault, state, shown_to), listeners)
            async with trio.open_nursery() as accepting:
                serve_all = partial(trio.serve_listeners, reception.serve, listeners, handler_nursery=nursery)
                accepting.start_soon(serve_all, name="serving listeners")
                task_status.started(addresses)
                await shutdown()
                accepting.cancel_scope.cancel(reason="shutdown")
            nursery.cancel_scope.deadline = trio.current_time() + limits_now().grace_s
            await reception.drain()


async def serve_stream(
    app: ASGIApp,
    stream: trio.abc.Stream,
    limits: ServingLimits,
    *,
    on_fault: OnFault,
    shown_to: Callable[[Headers], Headers] = shown_to_nobody,
    client: tuple[str, int] = ("127.0.0.1", 50000),
    server: tuple[str, int] = ("127.0.0.1", 8088),
) -> None:
    """Serve one connection over any stream, such as a pair of memory streams, until it has ended.

    The app's lifespan is not run. Everything else is what `serve` does with a connection.
    """
    site = Site(app, lambda: limits, on_fault, shown_to=shown_to)
    await Connection(site, stream, client, server).run()


class _Reception:
    """The connections that are open, and whether there is room for one more."""

    def __init__(self, site: Site, listeners: Sequence[trio.SocketListener]) -> None:
        self._site = site
        self._listeners = listeners
        self._send_timeout_s = site.limits.send_timeout_s
        self._connections: set[Connection] = set()
        # Of the networks that are connected now, and no others.
        self._of_network: Counter[str] = Counter()

    async def drain(self) -> None:
        for connection in list(self._connections):
            await connection.drain()

    async def serve(self, stream: trio.SocketStream) -> None:
        sock = stream.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
        except OSError:  # gone between the kernel's accept and ours
            sock.close()
            return
        self._follow_limits()
        network = network_of(client[0]) if client else ""
        over = max(self._over(network), len(self._connections) - self._site.limits.max_connections)
        if over >= TURNED_AWAY:
            sock.close()
            return
        connection = Connection(self._site, PlainStream(stream), client, server)
        self._connections.add(connection)
        self._of_network[network] += 1
        try:
            await connection.run(full() if over >= 0 else None)
        finally:
            self._connections.discard(connection)
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]

    def _follow_limits(self) -> None:
        limits = self._site.limits
        if limits.send_timeout_s != self._send_timeout_s:
            self._send_timeout_s = limits.send_timeout_s
            for listener in self._listeners:  # who connects from now on
                _hear_the_dead(listener.socket, limits)

    def _over(self, network: str) -> int:
        """Return how many more there are of a network than there may be; below 0: there is room."""
        most = self._site.limits.connections_per_address
        if not most or network in _OWN:
            return -1
        return self._of_network[network] - most


def _bound(bind: str) -> socket.socket:
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ConfigInvalid(f"{bind!r} is no address to bind: it must be HOST:PORT.", param="server.bind")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as fault:
        raise ConfigInvalid(_why_not(bind, fault), param="server.bind") from fault


def _why_not(bind: str, fault: OSError) -> str:
    # Python adds the address, as a tuple.
    reason = (fault.strerror or "it failed").partition(" (while ")[0]
    hint = "; stop what listens there, or choose another port" if fault.errno == errno.EADDRINUSE else ""
    return f"Can not listen on {bind}: {reason}{hint} (server.bind, or --bind)."


def _listener(sock: socket.socket, limits: ServingLimits) -> trio.SocketListener:
    sock.listen(BACKLOG)
    _hear_the_dead(sock, limits)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _hear_the_dead(sock: "socket.socket | trio.socket.SocketType", limits: ServingLimits) -> None:
    """Have the kernel find a peer that vanished without a word; accepted sockets inherit it."""
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        most_ms = min(int(limits.send_timeout_s * 1000), 2**31 - 1)
        with suppress(AttributeError, OSError):  # Linux only; while the listener is being closed
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, most_ms)
