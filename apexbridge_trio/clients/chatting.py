"""A chat that was asked for on a client's connection: it is answered with events."""

from collections.abc import Mapping

import trio
from msgspec import Raw

from apexbridge_trio.errors import ApexError, TooMany
from apexbridge_trio.flights import Flight
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.limits import Asker, Held
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.openai import ChatRequest, read_chat
from apexbridge_trio.push import answer_events, answer_whole, streamed

log = get_logger("clients")


async def answer_chat(hub: Hub, asker: Principal, body: bytes) -> None:
    """Answer a chat: all its owner's devices are told of it, this one too.

    What fails after ``chat.started`` is told as ``chat.failed``, and not raised.

    Cancellation: the chat ends, unless it is in the background.

    Raises:
        ApexError: It was refused before it began.
    """
    request, fields = read_chat(body)
    hub = hub.pinned()
    owner = asker.narrowed(tenant_id=request.tenant_id, family_id=request.family_id)
    if (standing := hub.limiter.take(Asker(owner.id), "chat", trio.current_time())) and standing.wait_s:
        raise TooMany("Too many chats were asked for.", retry_after_s=standing.wait_s)
    with hub.hold_chat(owner, request) as held:
        await _answer(hub, owner, request, fields, held)


async def _answer(
    hub: Hub, owner: Principal, request: ChatRequest, fields: Mapping[str, Raw], held: Held
) -> None:
    request_id = request.chosen_id or new_id("req")
    told = hub.push(owner, request_id, request)
    fields = dict(streamed(request, fields))
    timeout_s = hub.timeout_of(request)
    if request.apex.background:

        async def work(flight: Flight) -> bytes:
            return await answer_whole(await hub.turn(owner, request, fields), flight, told)

        hub.backgrounds.start(request_id, owner, work, timeout_s=timeout_s, told=told, held=held)
        return
    flight = hub.flights.open(request_id, "chat", owner, timeout_s=timeout_s)
    outcome = "cancelled"
    try:
        with told, flight:
            await answer_events(await hub.turn(owner, request, fields), flight, told)
        outcome = "completed"
    except ApexError as fault:  # told already
        outcome = fault.code
    finally:
        took_ms = round((trio.current_time() - flight.started) * 1000, 1)
        log.info("chat ended", request_id=request_id, outcome=outcome, duration_ms=took_ms)
