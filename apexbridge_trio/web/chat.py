"""The chat endpoint: an ASGI callable of its own, since Quart's routing costs more than the relay.

The request ends with its client, in every phase; the server sees to that. The flight is inside, so
that an interrupt ends the work and leaves the reply to be written. A stream has a second task, its sign
of life.
"""

import time
from collections.abc import Mapping
from functools import partial

import trio
from msgspec import Raw, Struct

from apexbridge_trio.chat import StreamListener, Turn, WholeListener
from apexbridge_trio.errors import ApexError, Interrupted, MethodNotAllowed
from apexbridge_trio.flights import Flight
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.limits import Held
from apexbridge_trio.protocol.openai import ChatRequest, encode, read_chat
from apexbridge_trio.protocol.stream import ClientStream
from apexbridge_trio.push import Push, Unpushed, Write, answer_whole, streamed
from apexbridge_trio.web.arrival import Arrival, Receive, boundary, ended_with_client
from apexbridge_trio.web.reading import narrowed, read_body, require_json
from apexbridge_trio.web.streaming import EventReply


async def chat(hub: Hub, arrival: Arrival, receive: Receive) -> None:
    """Answer one chat request, or raise before anything was sent.

    Cancellation: everything under the request ends; nothing is sent any more.

    Raises:
        ApexError: Why there is no answer.
    """
    if arrival.scope["method"] != "POST":
        raise MethodNotAllowed("Chats are asked for with POST.", allowed=["POST"])
    require_json(arrival)
    request, fields = read_chat(await read_body(receive, hub.limiter.limits.max_body_bytes))
    assert arrival.principal is not None
    owner = narrowed(arrival.principal, arrival, request.tenant_id, request.family_id)
    arrival.principal = owner
    arrival.request_id = request.chosen_id or arrival.request_id
    with hub.hold_chat(owner, request) as held:
        asked = Asked(hub, arrival, owner, request, fields, held)
        if request.apex.background:
            await asked.answer_later()
            return
        flight = asked.take_off()
        arrival.opening.end = flight.interrupt
        with ended_with_client(arrival, "cancelled_by_client"):
            refusal = await (asked.stream(flight) if request.stream else asked.answer(flight))
            if refusal is not None:
                await arrival.refuse(refusal)


class Asked(Struct):
    """A chat that was asked for: admitted, decoded, and now to be answered in one of three ways.

    Attributes:
        held: Its place in its owner's share. It is given back with the flight, before the end of the
            reply: whoever has the whole answer may ask at once for the next.
    """

    hub: Hub
    arrival: Arrival
    owner: Principal
    request: ChatRequest
    fields: Mapping[str, Raw]
    held: Held

    def take_off(self) -> Flight:
        """Reserve the request's id; the flight is entered at once."""
        return self.hub.flights.open(
            self.arrival.request_id, "chat", self.owner, timeout_s=self.hub.timeout_of(self.request)
        )

    async def answer(self, flight: Flight) -> ApexError | None:
        """Answer with one document; returns what to refuse with instead."""
        try:
            if self.request.apex.push:
                with self._told() as told, boundary(self.arrival), self.held, flight:
                    body = await self._document_told(flight, told)
            else:
                with self._unpushed(), boundary(self.arrival), self.held, flight:
                    body = await self._document(flight)
        except ApexError as fault:
            return fault
        self.arrival.outcome = "completed"
        await self.arrival.reply(200, body)
        return None

    async def stream(self, flight: Flight) -> ApexError | None:
        """Answer with a stream; returns what to refuse with if nothing was sent yet."""
        reply = EventReply(self.arrival, self.hub.config.chat.keepalive_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply.keep_alive, name="sign of life")
            refusal = await self._stream(flight, reply)
            nursery.cancel_scope.cancel(reason="answered")
        return refusal

    async def _stream(self, flight: Flight, reply: EventReply) -> ApexError | None:
        seen = self._client_stream()
        try:
            if self.request.apex.push:
                with self._told() as told, boundary(self.arrival), self.held, flight:
                    closing = await self._run_stream(flight, seen, told.through(reply.write))
                    told.read(closing)
            else:
                with self._unpushed(), boundary(self.arrival), self.held, flight:
                    closing = await self._run_stream(flight, seen, reply.write)
            self.arrival.outcome = "completed"
        except ApexError as fault:
            if reply.give_up():
                return fault
            self.arrival.outcome = self.arrival.notes["error"] = fault.code
            stopped = isinstance(fault, Interrupted)
            closing = seen.interrupt() if stopped else seen.fail(fault, self.arrival.request_id)
        await reply.close(closing)
        return None

    async def answer_later(self) -> None:
        """Start the chat in the background and say so; its owner's devices are told of it."""
        told = self._told()
        self.hub.backgrounds.start(
            self.arrival.request_id,
            self.owner,
            partial(self._document_told, told=told),
            timeout_s=self.hub.timeout_of(self.request),
            told=told,
            held=self.held,
        )
        self.arrival.outcome = "accepted"
        body = encode({"requestId": self.arrival.request_id, "status": "accepted"})
        await self.arrival.reply(202, body)

    def _told(self) -> Push:
        return self.hub.push(self.owner, self.arrival.request_id, self.request)

    def _unpushed(self) -> Unpushed:
        hub = self.hub
        return Unpushed(hub.events, self.owner, self.arrival.request_id, hub.model_of(self.request))

    async def _run_stream(self, flight: Flight, seen: ClientStream, write: Write) -> bytes:
        turn = await self._turn(self.fields)
        seen.hub_tools = turn.hub_tools
        await turn.run(flight, StreamListener(seen, write, turn))
        return seen.end("length" if turn.is_used_up else "")

    async def _document_told(self, flight: Flight, told: Push) -> bytes:
        return await answer_whole(await self._turn(streamed(self.request, self.fields)), flight, told)

    async def _document(self, flight: Flight) -> bytes:
        turn = await self._turn(self.fields)
        listener = WholeListener(turn)
        await turn.run(flight, listener)
        return listener.end()

    async def _turn(self, fields: Mapping[str, Raw]) -> Turn:
        turn = await self.hub.turn(self.owner, self.request, fields)
        self.arrival.notes["turn"] = turn
        return turn

    def _client_stream(self) -> ClientStream:
        return ClientStream(
            new_id("chatcmpl"),
            int(time.time()),
            self.hub.model_of(self.request),
            wants_usage=self.request.wants_usage,
            many=(self.request.n or 1) > 1,
        )
