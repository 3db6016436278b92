"""The WebSocket channels: who comes, to which, with which key; refused by HTTP before the upgrade.

A key may stand in the path (``…/VCP_Key=<key>``), as software in the field has it, in the header, or,
for browsers, in a pair of subprotocols. A wrong one is answered with 401 to the upgrade: an agent that
is let in and then closed tries again every second, for ever.
"""

import base64
import binascii
from functools import partial
from typing import Any, Final

from apexbridge_trio.clients import ClientLink
from apexbridge_trio.errors import Draining, Forbidden, NotFound, Unauthenticated
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import get_logger
from apexbridge_trio.logs import LogLink, Style
from apexbridge_trio.nodes import NodeLink
from apexbridge_trio.nodes.link import POLICY
from apexbridge_trio.origin import doing
from apexbridge_trio.web.arrival import Arrival, Receive, Send
from apexbridge_trio.web.asking import EventQuery, wanted_lines
from apexbridge_trio.web.door import identified, take
from apexbridge_trio.web.guards import bearer
from apexbridge_trio.web.reading import narrowed

NODE_PATHS: Final = ("/abp-distributed-server", "/distributed-server", "/vcp-distributed-server")
CLIENT_PATHS: Final = ("/abp-client", "/client")
LOG_PATHS: Final = ("/ABPlog", "/log", "/VCPlog")
DEPRECATED: Final = "/vcp-distributed-server"
DEPRECATED_LOG: Final = "/VCPlog"
SUBPROTOCOL: Final = "apexbridge.v1"
_KEY_NAMES: Final = ("VCP_Key=", "ABP_Key=")
_BEARER: Final = "bearer."
_MADE_WITH: Final = {
    "node": "apexbridge nodes invite NAME",
    "chat": "apexbridge keys create --scope chat",
    "logs": "apexbridge keys create --scope logs",
}
# Where the server puts its socket; see `serving.websocket`.
_EXTENSION: Final = "apexbridge.socket"

log = get_logger("channel")
_told: set[str] = set()


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
    if path in CLIENT_PATHS:
        arrival.principal = _admitted(hub, arrival, key, "chat", "listen and chat here")
        with hub.limiter.hold_channel(arrival.principal.id):
            await _serve_client(hub, arrival, receive, send)
        return
    if path in LOG_PATHS:
        arrival.principal = _admitted(hub, arrival, key, "logs", "read the log", also="admin")
        with hub.limiter.hold_channel(arrival.principal.id):
            await _serve_log(hub, arrival, receive, send, is_legacy=path == DEPRECATED_LOG)
        return
    if path not in NODE_PATHS:
        raise NotFound("There is no channel at this path.")
    arrival.principal = principal = _admitted(hub, arrival, key, "node", "join as a node")
    if path == DEPRECATED:
        _tell_once(principal, "a node uses a deprecated path; use /abp-distributed-server")
    with hub.limiter.hold_channel(principal.id):
        socket = await _accepted(arrival, receive, send)
        link = NodeLink(hub.nodes, socket, principal, is_vcp_path=path == DEPRECATED)
        arrival.opening.end = partial(link.end, POLICY)
        with doing(principal):
            await link.run(receive)
        arrival.notes |= {"node": link.node.id if link.node else None, "ended": link.reason}
        await send({"type": "websocket.close", "code": link.code, "reason": link.reason[:100]})


async def _serve_client(hub: Hub, arrival: Arrival, receive: Receive, send: Send) -> None:
    """Serve a client's device; it may say on coming what it had last, and what it wants to be told.

    Raises:
        ApexError: Why it is not let in.
    """
    assert arrival.principal is not None
    reader = narrowed(arrival.principal, arrival, None, None)
    asked = EventQuery.of(arrival)
    if hub.flights.is_draining:
        raise Draining("The hub is about to end; come again in a moment.", retry_after_s=5)
    socket = await _accepted(arrival, receive, send)
    link = ClientLink(hub, socket, reader, position=asked.position, kinds=asked.kinds, device=asked.device)
    arrival.opening.end = link.end
    with doing(reader if "admin" not in reader.scopes else None):  # who may interrupt what is another's
        await link.run(receive)
    arrival.notes |= {"ended": link.reason}
    await send({"type": "websocket.close", "code": link.code, "reason": link.reason[:100]})


async def _serve_log(hub: Hub, arrival: Arrival, receive: Receive, send: Send, *, is_legacy: bool) -> None:
    """Serve a log viewer; in its query it says what of the log it wants.

    Raises:
        ApexError: Why it is not let in.
    """
    assert arrival.principal is not None
    who = narrowed(arrival.principal, arrival, None, None)
    wanted = wanted_lines(arrival)
    if hub.flights.is_draining:
        raise Draining("The hub is about to end; come again in a moment.", retry_after_s=5)
    if is_legacy:
        _tell_once(who, "a log viewer uses a deprecated path; use /ABPlog")
    socket = await _accepted(arrival, receive, send)
    style = Style("vcp_log" if is_legacy else "abp_log", is_whole="admin" in who.scopes)
    reader = hub.logs.read(who, wanted, style)
    link = LogLink(hub.logs, reader, socket, hub.nodes.server_id)
    await link.run(receive, hub.events.now_ms())
    arrival.notes |= {"ended": link.reason, "lines_missed": reader.missed}
    await send({"type": "websocket.close", "code": link.code, "reason": link.reason[:100]})


async def _accepted(arrival: Arrival, receive: Receive, send: Send) -> Any:
    """Answer the upgrade, and return the socket."""
    await receive()  # websocket.connect
    arrival.status = 101
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in arrival.scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    return arrival.scope["extensions"][_EXTENSION]


def _split(path: str) -> tuple[str, str | None]:
    """Return the channel's path, and the key in it."""
    for name in _KEY_NAMES:
        before, found, key = path.partition(f"/{name}")
        if found:
            return before, key
    return path.rstrip("/"), None


def _admitted(
    hub: Hub, arrival: Arrival, key: str | None, scope: str, deed: str, *, also: str = ""
) -> Principal:
    key = key or bearer(arrival) or _offered(arrival)
    if not key:
        raise Unauthenticated("A channel needs a key: Authorization: Bearer <key>.")
    principal = identified(hub, arrival, key)
    if principal is None:
        raise Unauthenticated(f"This key is not known here. Make one with: {_MADE_WITH[scope]}")
    if not principal.scopes & {scope, also}:
        needed = f"{scope} or {also}" if also else scope
        raise Forbidden(f"This key may not {deed}; it needs the scope {needed}.")
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
