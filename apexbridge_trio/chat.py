"""The chat turn: ask the model, run the tools it calls, ask again.

A turn runs inside its flight; each model call and each tool call is a child of it, named
``round1/llm`` and ``round1/<tool>``. Interrupt, deadline and disconnect are the flight's scope, so
nothing here looks for them. Who listens decides the form of the answer: a `Listener` takes the
bytes of each round as they come.

A round that calls only tools of the hub is followed by another; `max_rounds` bounds them, and in
the last one the model is told to call none.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
import trio
from msgspec import Raw

from apexbridge_trio.errors import ApexError, UpstreamBroken
from apexbridge_trio.flights import Flight
from apexbridge_trio.measures import usage_facts
from apexbridge_trio.models import Model, with_system
from apexbridge_trio.protocol.answer import Answer
from apexbridge_trio.protocol.assembly import MAX_ANSWER_BYTES, Assembly, add_usage, total_tokens
from apexbridge_trio.protocol.estimate import BYTES_A_TOKEN, prompt_tokens
from apexbridge_trio.protocol.openai import ChatRequest, encode, with_usage
from apexbridge_trio.protocol.rounds import Round, judge, read_document, read_payload, without_calls
from apexbridge_trio.protocol.sse import Blocks, payloads
from apexbridge_trio.protocol.stream import ClientStream
from apexbridge_trio.redaction import redact
from apexbridge_trio.tools import Toolbox

# After [DONE] a provider ends its body at once; one that holds it open loses its connection.
END_WAIT_S: Final = 0.25

# Of a fault, told to the client: enough for what providers say; a page of HTML is cut.
MAX_SAID_CHARS: Final = 600


class Listener(Protocol):
    """Takes the answers of a turn's rounds.

    Attributes:
        pieces: So many came of the answer that is or was heard last: of a stream whose provider does not
            say what it cost, a piece is a token.
    """

    pieces: int

    async def hear(self, answer: Answer) -> Round:
        """Take one answer to its end and say what it means.

        Raises:
            UpstreamError: It broke off, or is no answer.
        """
        ...

    @property
    def round_usage(self) -> Any:
        """What the answer that was heard last has cost, as the provider says, if it does."""
        ...

    def next_round(self) -> None:
        """The hub ran the round's calls and asks again."""
        ...


class Turn:
    """One answer to one request.

    Args:
        request: What was asked.
        fields: The same, for the model.
        model: Who is asked.
        toolbox: The tools that may be offered.
        max_rounds: Model calls at most.
        spend: Is told once, at the end, how many tokens it cost, and when; None: they are not counted.

    Attributes:
        rounds: Model calls begun so far.
        tokens: What they have cost, as their providers say; where one has not, as is estimated.
        tools_run: Names of the tools that were started, in order.
        is_used_up: The model wanted more rounds than there are.
        hub_tools: Names of the tools that are run here.
    """

    def __init__(
        self,
        request: ChatRequest,
        fields: Mapping[str, Raw],
        model: Model,
        toolbox: Toolbox,
        max_rounds: int,
        spend: Callable[[int, float], None] | None = None,
    ) -> None:
        self.request = request
        self.fields = fields
        self.model = model
        self.toolbox = toolbox
        self.max_rounds = max_rounds
        self.spend = spend
        self.rounds = 0
        self.tokens = 0
        self._is_asked = False
        self.tools_run: list[str] = []
        self.is_used_up = False
        names = toolbox.chosen(model.tools, request.apex.tools or "auto")
        if request.tool_choice == "none" or (request.n or 1) > 1:
            names = []  # several choices would run a tool several times
        # A tool of the client's wins over one of ours with the same name.
        self._offered = [name for name in names if name not in request.client_tools]
        self.hub_tools = frozenset(self._offered)

    async def run(self, flight: Flight, listener: Listener) -> None:
        """Ask until the answer is for the client.

        Raises:
            ApexError: The turn failed; `tools_ran` tells whether a tool had been started.
        """
        try:
            await self._run(flight, listener, dict(self._first_fields()))
        except ApexError as fault:
            # What a provider says may quote the key it was sent.
            fault.message = redact(fault.message)[:MAX_SAID_CHARS]
            fault.tools_ran = fault.tools_ran or bool(self.tools_run)
            raise
        finally:  # also of what was cut short: what was made is paid for
            if self.spend is not None:
                self.spend(self.tokens, trio.current_time())

    async def _run(self, flight: Flight, listener: Listener, fields: dict[str, Any]) -> None:
        while True:
            self.rounds += 1
            is_last = self.rounds >= self.max_rounds
            if self.hub_tools and is_last:
                fields["tool_choice"] = "none"
            with flight.child(f"round{self.rounds}/llm", "upstream") as asking:
                came = await self._ask(fields, asking, listener)
            self.is_used_up = is_last and bool(came.hub_calls)
            if not came.hub_calls or is_last:
                return
            await self._run_tools(came, flight, fields)
            listener.next_round()

    async def _ask(self, fields: dict[str, Any], asking: Flight, listener: Listener) -> Round:
        self._is_asked = False
        try:
            async with self.model.open_answer(fields, asking.facts, self._note_asked) as answer:
                return await listener.hear(answer)
        finally:  # a provider that has the prompt works on it, whoever has left by then
            asking.facts |= usage_facts(listener.round_usage)
            self.tokens += total_tokens(listener.round_usage) or self._estimated(fields, asking, listener)

    def _note_asked(self, what: Literal["sent", "refused"]) -> None:
        self._is_asked = what == "sent"

    def _estimated(self, fields: dict[str, Any], asking: Flight, listener: Listener) -> int:
        """Return what an answer may have cost whose provider has not said, or was not heard to the end."""
        if self.spend is None or not self._is_asked:
            return 0
        tokens = prompt_tokens(fields) + listener.pieces
        asking.facts["apex.usage.estimated_tokens"] = tokens
        return tokens

    async def _run_tools(self, came: Round, flight: Flight, fields: dict[str, Any]) -> None:
        self.tools_run += [call.function.name for call in came.hub_calls]
        outcomes = await self.toolbox.run(came.hub_calls, flight, f"round{self.rounds}/")
        added = [came.message, *(outcome.message() for outcome in outcomes)]
        messages: Sequence[Raw] = msgspec.json.decode(fields["messages"], type=list[Raw])
        fields["messages"] = Raw(encode([*messages, *added]))
        # A choice that forces a call would force one in each round, for ever.
        fields.pop("tool_choice", None)

    def _first_fields(self) -> Mapping[str, Any]:
        fields: dict[str, Any] = dict(self.fields)
        if self.spend is not None and self.request.stream:
            fields["stream_options"] = with_usage(fields.get("stream_options"))
        fields["messages"] = with_system(fields["messages"], self.toolbox.worded(self.model.system))
        if self.hub_tools:
            theirs: Sequence[Raw] = (
                msgspec.json.decode(fields.get("tools", b"null"), type=list[Raw] | None) or ()
            )
            fields["tools"] = [*theirs, *self.toolbox.definitions(self._offered)]
        return fields


class StreamListener:
    """Sends a streamed answer on as it comes.

    Args:
        stream: What the client sees.
        write: Sends bytes to the client, and waits until they are taken.
    """

    def __init__(self, stream: ClientStream, write: Callable[[bytes], Awaitable[None]], turn: Turn) -> None:
        self._stream = stream
        self._write = write
        self._hub_tools = turn.hub_tools
        self._counts = turn.spend is not None
        self.pieces = 0

    def next_round(self) -> None:
        """See `Listener.next_round`."""
        self.pieces = 0
        self._stream.next_round()

    @property
    def round_usage(self) -> Any:
        """See `Listener.round_usage`."""
        return self._stream.round_usage

    async def hear(self, answer: Answer) -> Round:
        """See `Listener.hear`; bytes are written as soon as they are known to be the client's."""
        stream = self._stream
        if not answer.is_stream:
            body = await _whole(answer)
            self.pieces = len(body) // BYTES_A_TOKEN
            document, _ = read_document(body)
            await self._write(stream.feed_document(document))
        while not stream.is_done and (data := await answer.receive()):
            self.pieces += data.count(b"data:") if self._counts else 0
            if shown := stream.feed(data):
                await self._write(shown)
        rest, came = stream.close_round()
        if rest:
            await self._write(rest)
        await _read_out(answer)
        return came


class WholeListener:
    """Puts an answer together to one document.

    The bytes of a provider's document go to the client as they are, unless something was added to
    them: rounds, or repaired tool calls.

    Args:
        hear: Is told each piece of the text as it comes.
    """

    def __init__(self, turn: Turn, hear: Callable[[str], None] | None = None) -> None:
        self._turn = turn
        self._hear = hear
        self._usage: dict[str, Any] = {}
        self._document: dict[str, Any] = {}
        self._body = b""
        self.pieces = 0

    def next_round(self) -> None:
        """Forget the round: nothing of one with calls of the hub is for the client."""
        self.pieces, self._document = 0, {}

    async def hear(self, answer: Answer) -> Round:
        """See `Listener.hear`; nothing is kept of a round that another one follows, but its usage."""
        self._document = await (self._assembled(answer) if answer.is_stream else self._decoded(answer))
        came = judge(self._document, self._turn.hub_tools)
        if came.is_cut:
            self._body = b""
        if came.hub_calls or self._turn.rounds > 1:
            self._body = b""
            self._usage = add_usage(self._usage, self._document.get("usage"))
        return came

    async def _decoded(self, answer: Answer) -> dict[str, Any]:
        self._body = await _whole(answer)
        self.pieces = len(self._body) // BYTES_A_TOKEN
        document, is_repaired = read_document(self._body)
        if is_repaired:
            self._body = b""
        return document

    async def _assembled(self, answer: Answer) -> dict[str, Any]:
        blocks, assembly, is_done = Blocks(), Assembly(), False
        while not is_done and (data := await answer.receive()):
            for payload in payloads(blocks.feed(data)):
                is_done = is_done or payload.strip() == b"[DONE]"
                if not is_done:
                    chunk = read_payload(payload)
                    assembly.feed(chunk)
                    self.pieces += 1
                    self._tell(chunk)
        # As `ClientStream.close_round` has it: an end alone is no answer, a choice without an end not either.
        if not assembly.has_begun or not (is_done or assembly.is_finished):
            raise UpstreamBroken("The provider's stream ended in the middle of the answer.")
        await _read_out(answer)
        return assembly.build()

    def _tell(self, chunk: dict[str, Any]) -> None:
        for choice in chunk.get("choices") or () if self._hear else ():
            text = (choice.get("delta") or {}).get("content")
            if self._hear and isinstance(text, str) and text:
                self._hear(text)

    @property
    def text(self) -> str:
        """What the answer's first choice says."""
        return str(self._document["choices"][0]["message"].get("content") or "")

    @property
    def round_usage(self) -> Any:
        """See `Listener.round_usage`."""
        return self._document.get("usage")

    @property
    def usage(self) -> dict[str, Any] | None:
        """What it cost, if the provider has said."""
        return self._usage or self._document.get("usage")

    @property
    def finish_reason(self) -> str | None:
        """Why the answer's first choice ended, once `end` was called."""
        reason: str | None = self._document["choices"][0].get("finish_reason")
        return reason

    def end(self) -> bytes:
        """Return the answer's document."""
        if self._body:
            return self._body
        if self._turn.is_used_up:
            without_calls(self._document)
        if self._usage:
            self._document |= {"usage": self._usage, "apex": {"rounds": self._turn.rounds}}
        return encode(self._document)


async def _whole(answer: Answer) -> bytes:
    parts, size = [], 0
    while data := await answer.receive():
        parts.append(data)
        size += len(data)
        if size > MAX_ANSWER_BYTES:
            raise UpstreamBroken(f"The answer is larger than {MAX_ANSWER_BYTES} bytes.")
    return b"".join(parts)


async def _read_out(answer: Answer) -> None:
    """Read to the body's end, so that the connection can be used again."""
    with trio.move_on_after(END_WAIT_S):
        while await answer.receive():
            pass
