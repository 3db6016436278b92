"""The WebSocket channels: who comes, to which, with which key; refused by HTTP before the upgrade.

A key may stand in the path (``…/VCP_Key=<key>``), as software in the field has it, in the header, or,
for browsers, in a pair of subprotocols. A wrong one is answered with 401 to the upgrade: an agent that
is let in and then closed tries again every second, for ever.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from msgspec import Struct

from apexbridge_trio.audit import Actor
from apexbridge_trio.clients import ClientLink
from apexbridge_trio.errors import Draining, Forbidden, NotFound, Unauthenticated
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.links import POLICY, SOCKET, Link
from apexbridge_trio.log import get_logger
from apexbridge_trio.logs import LogLink, Style
from apexbridge_trio.nodes import NodeLink
from apexbridge_trio.origin import doing
from apexbridge_trio.web.arrival import Arrival, Receive, Send
from apexbridge_trio.web.asking import EventQuery, wanted_lines
from apexbridge_trio.web.door import identified, take
from apexbridge_trio.web.guards import bearer
from apexbridge_trio.web.reading import narrowed

NODE_PATHS: Final = ("/abp-distributed-server", "/distributed-server", "/vcp-distributed-server")
CLIENT_PATHS: Final = ("/abp-client", "/client")
LOG_PATHS: Final = ("/ABPlog", "/log", "/VCPlog")
_DEPRECATED: Final = {
    "/vcp-distributed-server": "a node uses a deprecated path; use /abp-distributed-server",
    "/VCPlog": "a log viewer uses a deprecated path; use /ABPlog",
}
SUBPROTOCOL: Final = "apexbridge.v1"
_KEY_NAMES: Final = ("VCP_Key=", "ABP_Key=")
_BEARER: Final = "bearer."

log = get_logger("channel")
_told: set[str] = set()


class Need(Struct, frozen=True):
    """What a key must allow for a channel.

    Attributes:
        deed: What that is, in a refusal.
        made_with: How such a key is made.
        also: Another scope that allows it.
    """

    scope: str
    deed: str
    made_with: str
    also: str = ""


async def channel(hub: Hub, arrival: Arrival, receive: Receive, send: Send) -> None:
    """Serve one WebSocket until it ends.

    Args:
        hub: The hub.
        arrival: The upgrade.
        receive: ASGI's.
        send: ASGI's own; what `arrival` sends is a refusal.

    Raises:
        NotFound: There is no channel at this path.
        Unauthenticated: No key, or a wrong one.
        Forbidden: The key is for something else.
        HubFull: The key has as many channels as it may have.
        TooMany: It comes too often, or its address had too many wrong keys.
    """
    path, key = _split(arrival.scope["path"])
    if path not in _CHANNELS:
        raise NotFound("There is no channel at this path.")
    need, serve = _CHANNELS[path]
    arrival.principal = principal = _admitted(hub, arrival, key, need)
    if path in _DEPRECATED:
        _tell_once(principal, _DEPRECATED[path])
    with hub.limiter.hold_channel(principal.id):
        await serve(_Asked(hub, arrival, principal, receive, send, path))


class _Asked(Struct, frozen=True):
    """A channel that somebody may have, and where it is asked for."""

    hub: Hub
    arrival: Arrival
    principal: Principal
    receive: Receive
    send: Send
    path: str

    def reader(self) -> Principal:
        """Return who listens, within the tenant and family that they name.

        Raises:
            ApexError: They may not, or the hub is about to end.
        """
        if self.hub.flights.is_draining:
            raise Draining("The hub is about to end; come again in a moment.", retry_after_s=5)
        return narrowed(self.principal, self.arrival, None, None)

    async def run(self, link: Link) -> None:
        """Serve a connection whose upgrade was answered, and close it."""
        self.arrival.opening.end = partial(link.end, POLICY)
        await link.run(self.receive)
        self.arrival.notes["ended"] = link.reason
        await self.send({"type": "websocket.close", "code": link.code, "reason": link.reason[:100]})

    async def accepted(self) -> Any:
        """Answer the upgrade, and return the socket."""
        await self.receive()  # websocket.connect
        self.arrival.status = 101
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.arrival.scope["subprotocols"] else None
        named = [(b"x-request-id", self.arrival.request_id.encode())]
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": named})
        return self.arrival.scope["extensions"][SOCKET]


async def _serve_node(asked: _Asked) -> None:
    socket = await asked.accepted()
    by = Actor.of(asked.principal, asked.arrival.address, asked.arrival.request_id)
    link = NodeLink(asked.hub.nodes, socket, asked.principal, by, is_vcp_path=asked.path in _DEPRECATED)
    with doing(asked.principal):
        await asked.run(link)
    asked.arrival.notes["node"] = link.node.id if link.node else None


async def _serve_client(asked: _Asked) -> None:
    """Serve a client's device; it may say on coming what it had last, and what it wants to be told."""
    reader, wanted = asked.reader(), EventQuery.of(asked.arrival)
    link = ClientLink(
        asked.hub,
        await asked.accepted(),
        reader,
        position=wanted.position,
        kinds=wanted.kinds,
        device=wanted.device,
    )
    with doing(reader if "admin" not in reader.scopes else None):  # who may interrupt what is another's
        await asked.run(link)


async def _serve_log(asked: _Asked) -> None:
    """Serve a log viewer; in its query it says what of the log it wants."""
    hub, who, wanted = asked.hub, asked.reader(), wanted_lines(asked.arrival)
    socket = await asked.accepted()
    style = Style("vcp_log" if asked.path in _DEPRECATED else "abp_log", is_whole="admin" in who.scopes)
    reader = hub.logs.read(who, wanted, style)
    await asked.run(LogLink(hub.logs, reader, socket, hub.nodes.server_id, hub.events.now_ms()))
    asked.arrival.notes["lines_missed"] = reader.missed


_NODE: Final = Need("node", "join as a node", "apexbridge nodes invite NAME")
_CLIENT: Final = Need("chat", "listen and chat here", "apexbridge keys create --scope chat")
_LOG: Final = Need("logs", "read the log", "apexbridge keys create --scope logs", also="admin")
_CHANNELS: Final[dict[str, tuple[Need, Callable[[_Asked], Awaitable[None]]]]] = {
    **dict.fromkeys(NODE_PATHS, (_NODE, _serve_node)),
    **dict.fromkeys(CLIENT_PATHS, (_CLIENT, _serve_client)),
    **dict.fromkeys(LOG_PATHS, (_LOG, _serve_log)),
}


def _split(path: str) -> tuple[str, str | None]:
    """Return the channel's path, and the key in it."""
    for name in _KEY_NAMES:
        before, found, key = path.partition(f"/{name}")
        if found:
            return before, key
    return path.rstrip("/"), None


def _admitted(hub: Hub, arrival: Arrival, key: str | None, need: Need) -> Principal:
    key = key or bearer(arrival) or _offered(arrival)
    if not key:
        raise Unauthenticated("A channel needs a key: Authorization: Bearer <key>.")
    principal = identified(hub, arrival, key)
    if principal is None:
        raise Unauthenticated(f"This key is not known here. Make one with: {need.made_with}")
    if not principal.scopes & {need.scope, need.also}:
        needed = f"{need.scope} or {need.also}" if need.also else need.scope
        raise Forbidden(f"This key may not {need.deed}; it needs the scope {needed}.")
    take(hub, arrival, principal, "control")
    return principal


def _offered(arrival: Arrival) -> str | None:
    """Return the key in a pair of subprotocols; browsers can send no header."""
    offered: list[str] = arrival.scope["subprotocols"]
    if SUBPROTOCOL not in offered:
        return None
    coded = next((one[len(_BEARER) :] for one in offered if one.startswith(_BEARER)), "")
    try:
        return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None


def _tell_once(principal: Principal, what: str) -> None:
    told = f"{principal.id} {what}"
    if told not in _told:
        _told.add(told)
        with doing(principal):
            log.warning(what, principal=principal.id)
