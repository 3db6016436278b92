"""``GET /v1/logs``: what the log channel tells, as server-sent events.

An ASGI callable, as `events` is, and it ends as that does: the client leaves, or the hub drains. A client
that does not read is told how many lines it has missed; one that takes nothing at all is dropped by the
server.
"""

from typing import Final

import trio

from apexbridge_trio.errors import MethodNotAllowed
from apexbridge_trio.hub import Hub
from apexbridge_trio.logs import Reader, Style
from apexbridge_trio.web.arrival import Arrival, ended_with_client
from apexbridge_trio.web.asking import last_event, query_of, wanted_lines
from apexbridge_trio.web.reading import narrowed
from apexbridge_trio.web.streaming import EventReply

LOGS: Final = "/v1/logs"


async def logs(hub: Hub, arrival: Arrival) -> None:
    """Tell the last lines and then each that is written, until the client leaves or the hub ends.

    With ``?follow=false`` only the last lines.

    Raises:
        ApexError: Why nothing is told.
    """
    if arrival.scope["method"] != "GET":
        raise MethodNotAllowed("The log is read with GET.", allowed=["GET"])
    assert arrival.principal is not None
    who = narrowed(arrival.principal, arrival, None, None)
    had = last_event(arrival)
    reader = hub.logs.read(
        who,
        wanted_lines(arrival),
        Style(is_whole="admin" in who.scopes, epoch=hub.logs.epoch),
        after=(had.epoch, had.seq) if had is not None else None,
    )
    arrival.opening.end = lambda _reason: hub.logs.leave(reader)
    if query_of(arrival).get("follow", "true") in {"false", "0"}:
        hub.logs.leave(reader)
    try:
        with ended_with_client(arrival, "closed_by_client"):
            async with trio.open_nursery() as nursery:
                await _send(EventReply(arrival, hub.config.chat.keepalive_s), reader, nursery)
                nursery.cancel_scope.cancel(reason="nothing more is told")
    finally:
        hub.logs.leave(reader)
        arrival.notes["lines_missed"] = reader.missed


async def _send(reply: EventReply, reader: Reader, nursery: trio.Nursery) -> None:
    nursery.start_soon(reply.keep_alive, name="sign of life")
    # Headers at once: a log without lines is no hub that is silent.
    await reply.write(b": the log\n\n")
    while parts := await reader.take():
        await reply.write(b"".join(parts))
    await reply.close(b": the end\n\n")
