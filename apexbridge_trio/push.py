"""A chat, told to its owner's devices while it is answered.

What is told is what a client that streams would read: the same pieces, in the same order, and then one
end with the whole text. So a device may come at any time, and a chat may be asked for here and be read there.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from msgspec import Raw

from apexbridge_trio.chat import StreamListener, Turn, WholeListener
from apexbridge_trio.errors import ApexError, CutShort, InternalFault, UpstreamBroken
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.assembly import MAX_ANSWER_BYTES
from apexbridge_trio.protocol.openai import ChatRequest, error_body, with_usage
from apexbridge_trio.protocol.sse import payloads
from apexbridge_trio.protocol.stream import ClientStream

Write = Callable[[bytes], Awaitable[None]]

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Push:
    """One chat as events, from its start to its one end; a context manager.

    Entering tells ``chat.started``; leaving tells ``chat.completed``, or ``chat.failed`` with what was
    raised, which goes on. Leaving does not await, so every way out is told, also a cancellation.
    """

    def __init__(self, events: Events, owner: Principal, request_id: str, model: str) -> None:
        self._events = events
        self._owner = owner
        self._named = {"requestId": request_id}
        self._model = model
        self._request_id = request_id
        self._pieces = 0
        self._texts: list[str] = []
        self._chars = 0
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        said = self._named | {"model": self._model}
        self._events.publish("chat.started", self._owner, said, chat=self._request_id)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        said: dict[str, Any] = self._named | {"model": self._model, "content": "".join(self._texts)}
        if fault is None:
            said |= {"finishReason": self._finish_reason or "stop"}
            said |= {"usage": self._usage} if self._usage else {}
            self._events.publish("chat.completed", self._owner, said, ends=self._request_id)
            return
        said["error"] = error_body(_as_told(fault))
        self._events.publish("chat.failed", self._owner, said, ends=self._request_id)

    def text(self, text: str) -> None:
        """Tell a piece of the text."""
        self._tell({"content": text}, 0)

    def read(self, shown: bytes) -> None:
        """Tell what a client reads: whole events of its stream.

        Raises:
            UpstreamBroken: The answer is larger than the hub holds.
        """
        for payload in payloads(shown):
            if payload == b"[DONE]":
                continue
            chunk = _decode(payload)
            self._usage = chunk.get("usage") or self._usage
            for choice in chunk.get("choices") or ():
                delta = {name: value for name, value in choice["delta"].items() if name != "role" and value}
                if delta:
                    self._tell(delta, choice["index"])
                if choice["index"] == 0:
                    self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def through(self, write: Write) -> Write:
        """Return a writer that tells what it writes."""

        async def write_and_tell(shown: bytes) -> None:
            self.read(shown)
            await write(shown)

        return write_and_tell

    def finish(self, reason: str | None, usage: dict[str, Any] | None) -> None:
        """Note how it ended, where no stream said it."""
        self._finish_reason, self._usage = reason, usage

    @property
    def has_told(self) -> bool:
        """Whether any piece was told."""
        return self._pieces > 0

    def _tell(self, delta: dict[str, Any], choice: int) -> None:
        if choice == 0 and isinstance(text := delta.get("content"), str):
            self._texts.append(text)
            self._chars += len(text)
            if self._chars > MAX_ANSWER_BYTES:
                raise UpstreamBroken(f"The answer is larger than {MAX_ANSWER_BYTES} characters.")
        said = self._named | {"index": self._pieces, "delta": delta} | ({"choice": choice} if choice else {})
        self._pieces += 1
        self._events.publish("chat.chunk", self._owner, said, chat=self._request_id)


class Unpushed:
    """A chat of which no device is told: only the hub's own listeners hear of its end, without its text.

    A context manager around the flight, as `Push` is; where nobody listens it only compares.
    """

    __slots__ = ("_events", "_owner", "_said")

    def __init__(self, events: Events, owner: Principal, request_id: str, model: str) -> None:
        self._events = events
        self._owner = owner
        self._said: dict[str, Any] = {"requestId": request_id, "model": model}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is None:
            self._events.note("chat.completed", self._owner, self._said)
        else:
            said = self._said | {"error": error_body(_as_told(fault))}
            self._events.note("chat.failed", self._owner, said)


def streamed(request: ChatRequest, fields: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """Return a request's fields so that its provider streams; of several choices nothing is streamed."""
    if (request.n or 1) > 1:
        return fields
    return {**fields, "stream": Raw(b"true"), "stream_options": with_usage(fields.get("stream_options"))}


async def answer_whole(turn: Turn, flight: Flight, told: Push) -> bytes:
    """Run a turn to a document, and tell its text as it comes."""
    many = (turn.request.n or 1) > 1
    listener = WholeListener(turn, None if many else told.text)
    await turn.run(flight, listener)
    document = listener.end()
    if not told.has_told and listener.text:
        told.text(listener.text)
    told.finish(listener.finish_reason, listener.usage)
    return document


async def answer_events(turn: Turn, flight: Flight, told: Push) -> None:
    """Run a turn whose pieces and end are nothing but told."""
    seen = ClientStream(
        new_id("chatcmpl"),
        int(time.time()),
        turn.model.id,
        wants_usage=True,
        many=(turn.request.n or 1) > 1,
    )
    seen.hub_tools = turn.hub_tools

    async def write(shown: bytes) -> None:
        told.read(shown)

    await turn.run(flight, StreamListener(seen, write, turn))
    told.read(seen.end("length" if turn.is_used_up else ""))


def _as_told(fault: BaseException) -> ApexError:
    if isinstance(fault, ApexError):
        return fault
    if isinstance(fault, Exception):
        return InternalFault("The hub failed; its log says how.")
    return CutShort("It was cut short: who asked for it has left or did not read, or the hub ends.")
