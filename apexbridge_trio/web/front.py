"""The ASGI application: the way in for every request, and the line in the log at its end."""

import logging
from typing import Any, cast

import trio

from apexbridge_trio.errors import ApexError, KeyEnded
from apexbridge_trio.hub import Hub
from apexbridge_trio.links import POLICY
from apexbridge_trio.log import bind, get_logger
from apexbridge_trio.origin import doing
from apexbridge_trio.tracing import came_with
from apexbridge_trio.web.api import build_api
from apexbridge_trio.web.arrival import CHAT_PATHS, Arrival, ASGIApp, Receive, Scope, Send, boundary, header
from apexbridge_trio.web.callback import callback
from apexbridge_trio.web.chat import chat
from apexbridge_trio.web.counting import channel_of, count, outcome_of
from apexbridge_trio.web.crossing import ALLOWED, is_preflight
from apexbridge_trio.web.events import EVENTS, events
from apexbridge_trio.web.guards import CALLBACKS, admit, is_below
from apexbridge_trio.web.logs import LOGS, logs
from apexbridge_trio.web.reading import narrowed
from apexbridge_trio.web.sockets import channel

log = get_logger("request")


class Front:
    """The hub as an ASGI application."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Quart spells ASGI's dictionaries out in types of its own.
        self._api = cast("ASGIApp", build_api(hub))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's lifespan.

        Cancellation: everything under the request ends.
        """
        if scope["type"] == "lifespan":
            await self._api(scope, receive, send)
            return
        answer = _as_http(send) if scope["type"] == "websocket" else send
        arrival = Arrival.of(scope, answer, self._hub.openings)
        if self._hub.tracer is not None:
            came_with(header(scope, b"traceparent"), header(scope, b"tracestate"))
        try:
            with bind(request_id=arrival.request_id):
                await self._serve(arrival, scope, receive, send)
        finally:
            count(self._hub.measures, arrival)
            with doing(arrival.whose, arrival.request_id):
                _write_line(arrival)

    async def _serve(self, arrival: Arrival, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with boundary(arrival), arrival.opening:
                if scope["type"] == "websocket":
                    with self._hub.measures.socket(channel_of(scope["path"])):
                        await channel(self._hub, arrival, receive, send)
                    return
                if is_preflight(scope):
                    await arrival.say(204, ALLOWED)
                    return
                hub = self._hub.pinned()
                arrival.principal = admit(hub, arrival)
                try:
                    await self._dispatch(hub, arrival, receive)
                finally:
                    arrival.note_end("cancelled_by_client")
        except ApexError as fault:
            if arrival.status == 0:
                await arrival.refuse(fault)
            elif isinstance(fault, KeyEnded):
                arrival.outcome = fault.code
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": POLICY, "reason": fault.message[:100]})

    async def _dispatch(self, hub: Hub, arrival: Arrival, receive: Receive) -> None:
        """Serve what was admitted; `hub` is the request's own, what lasts longer than one gets the hub."""
        if arrival.scope["path"] in CHAT_PATHS:
            await chat(hub, arrival, receive)
            return
        if is_below(arrival.scope["path"], CALLBACKS):
            await callback(hub, arrival, receive)
            return
        if arrival.scope["path"] == EVENTS:
            await events(self._hub, arrival)
            return
        if arrival.scope["path"] == LOGS:
            await logs(self._hub, arrival)
            return
        if arrival.principal is not None:
            arrival.principal = narrowed(arrival.principal, arrival, None, None)
        arrival.scope["apex"] = arrival
        await self._api(arrival.scope, receive, arrival.send)


def _as_http(send: Send) -> Send:
    """Answer a WebSocket's upgrade with plain HTTP: it is refused before it is accepted."""

    async def send_as_http(message: Any) -> None:
        await send(message | {"type": f"websocket.{message['type']}"})

    return send_as_http


def _write_line(arrival: Arrival) -> None:
    """Write the one line a finished request gets."""
    notes = dict(arrival.notes)
    if (turn := notes.pop("turn", None)) is not None:
        notes |= {"model": turn.model.id, "rounds": turn.rounds, "tools": turn.tools_run}
    if arrival.first_byte is not None:
        notes["first_byte_ms"] = round((arrival.first_byte - arrival.started) * 1000, 1)
    failed = arrival.status >= 500 or (arrival.status == 0 and not arrival.outcome)
    log.log(
        logging.WARNING if failed else logging.INFO,
        "request",
        request_id=arrival.request_id,
        method=arrival.scope.get("method", "WEBSOCKET"),
        path=arrival.scope["path"],
        principal=arrival.principal.id if arrival.principal else None,
        status=arrival.status or None,
        outcome=outcome_of(arrival),
        duration_ms=round((trio.current_time() - arrival.started) * 1000, 1),
        bytes=arrival.bytes_sent,
        **notes,
    )
