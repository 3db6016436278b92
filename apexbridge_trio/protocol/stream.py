"""The stream a client reads, made from whatever providers send, over all rounds of a turn.

Most of a stream is passed on as it came: a block of events is only looked at for what would need a
change, and is decoded if that is found. Needing a change are: another id or creation time than the
answer began with, tool calls (their index), the end of a choice, usage, errors, and any form that is
not ``data: {…}``. Whatever the chunking, the client reads the same events.

What ends the answer is held back until the round is over, because only then it is known whether the
hub goes on with its own tools:

    feed* → close_round → (feed* → close_round)* → end
    any of them → fail | interrupt
"""

import re
from typing import Any, Final

from apexbridge_trio.errors import ApexError, UpstreamBroken
from apexbridge_trio.protocol.assembly import MAX_ANSWER_BYTES, Assembly, Places, add_usage
from apexbridge_trio.protocol.openai import Chunk, ChunkChoice, Delta, encode, encode_error
from apexbridge_trio.protocol.rounds import Round, as_chunk, judge, read_payload
from apexbridge_trio.protocol.sse import DONE, Blocks, encode_event, payloads

# Found in a block, these mean a look at each event. They can not stand inside a JSON string, where
# the quotes would be escaped.
_NEEDS_A_LOOK: Final = re.compile(rb'"(?:tool_calls"|error"|(?:finish_reason|usage)"(?!: ?null))')


class ClientStream:
    """One streamed answer.

    Attributes:
        hub_tools: Tools the hub runs itself; their calls are not shown to the client. Set it before
            the first byte.
        is_done: Whether the provider said that the round is over.

    Args:
        answer_id: The id to use if the provider sends none.
        created: Unix seconds, likewise.
        model: The model's name, likewise.
        wants_usage: Whether the client asked for the usage chunk.
        many: Whether the client asked for several choices; each event is then decoded.
    """

    def __init__(
        self,
        answer_id: str,
        created: int,
        model: str,
        *,
        wants_usage: bool = False,
        many: bool = False,
    ) -> None:
        self._id, self._created, self._model = answer_id, created, model
        self.hub_tools: frozenset[str] = frozenset()
        self._wants_usage = wants_usage
        self._many = many
        self._adopted = False
        self._opened: set[int] = set()
        self._usage: dict[str, Any] = {}
        self.rounds = 0
        self._begin_round()

    def _begin_round(self) -> None:
        self._blocks = Blocks()
        self._tokens: tuple[bytes, bytes] | None = None
        self._own_tokens: tuple[bytes, bytes] | None = None
        self._places: dict[int, Places] = {}
        self._shown: dict[tuple[int, int], int | None] = {}
        self._finish: dict[int, bytes] = {}
        self._round_usage: dict[str, Any] = {}
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._fault: UpstreamBroken | None = None
        self.is_done = False

    def feed(self, data: bytes) -> bytes:
        """Add bytes of the provider's stream and return what the client gets of them.

        Once `is_done`, nothing more is taken: the provider said so, or sent an error, or what is
        no stream of chunks; `close_round` tells which.

        Raises:
            UpstreamBroken: The answer is larger than the hub holds.
        """
        block = self._blocks.feed(data)
        if not block or self.is_done:
            return b""
        if self.hub_tools:
            self._keep(block)
        if (tokens := self._tokens) is not None and not self._many and _is_plain(block, tokens):
            if tokens is self._own_tokens:
                return block
            assert self._own_tokens is not None
            return block.replace(tokens[0], self._own_tokens[0]).replace(tokens[1], self._own_tokens[1])
        return self._each(block)

    def _each(self, block: bytes) -> bytes:
        """Look at each event; what stands before a broken one is still the client's."""
        shown = []
        try:
            for payload in payloads(block):
                shown.append(self._event(payload))  # noqa: PERF401  # what was made before a fault stays
        except UpstreamBroken as fault:
            self._fault = fault
            self.is_done = True
        return b"".join(shown)

    def feed_document(self, document: dict[str, Any]) -> bytes:
        """Add a whole answer, from a provider that does not stream."""
        payload = encode(as_chunk(document))
        if self.hub_tools:
            self._keep(encode_event(payload))
        shown = self._event(payload)
        self.is_done = True
        return shown

    def close_round(self) -> tuple[bytes, Round]:
        """End the provider's stream; returns what is left for the client, and what the round means.

        Raises:
            UpstreamBroken: The stream ended in the middle of the answer.
        """
        rest = self.feed(b"\n\n") if self._blocks.pending else b""
        if self._fault is not None:
            raise self._fault
        if not self._opened or not (self._finish or self.is_done):
            raise UpstreamBroken("The provider's stream ended in the middle of the answer.")
        self.rounds += 1
        self._usage = add_usage(self._usage, self._round_usage)
        if self.hub_tools and None in self._shown.values():
            return rest, judge(self._assemble(), self.hub_tools)
        return rest, Round({})

    @property
    def round_usage(self) -> dict[str, Any]:
        """What the provider says that this round has cost; empty, if it does not."""
        return self._round_usage

    def next_round(self) -> None:
        """Forget the round's end: the hub ran the calls, and the model is asked again."""
        self._begin_round()

    def end(self, reason: str = "") -> bytes:
        """Close the answer as the provider did, or with `reason`; nothing follows."""
        finish = [self._finish.get(index, b"") for index in sorted(self._opened)]
        if reason or not all(finish):
            finish = [self._chunk(index, reason or "stop") for index in sorted(self._opened)]
        if self._wants_usage and self._usage:
            finish.append(self._write([], usage=self._usage, apex={"rounds": self.rounds}))
        return b"".join(finish) + DONE

    def interrupt(self) -> bytes:
        """Close the answer because somebody said stop."""
        choices = [ChunkChoice(Delta(), "stop", index) for index in sorted(self._opened)]
        choices = choices or [ChunkChoice(Delta(role="assistant"), "stop")]
        return self._write(choices, apex={"interrupted": True}) + DONE

    def fail(self, error: ApexError, request_id: str) -> bytes:
        """Close the answer with an error."""
        return encode_event(encode_error(error, request_id)) + DONE

    def _keep(self, block: bytes) -> None:
        self._kept.append(block)
        self._kept_bytes += len(block)
        if self._kept_bytes > MAX_ANSWER_BYTES:
            raise UpstreamBroken(f"The answer is larger than {MAX_ANSWER_BYTES} bytes.")

    def _assemble(self) -> dict[str, Any]:
        assembly = Assembly()
        for block in self._kept:
            for payload in payloads(block):
                if payload != b"[DONE]":
                    assembly.feed(read_payload(payload))
        return assembly.build()

    def _event(self, payload: bytes) -> bytes:
        if self.is_done or payload.strip() == b"[DONE]":
            self.is_done = True
            return b""
        chunk = read_payload(payload)
        choices = chunk.get("choices")
        self._round_usage = chunk.pop("usage", None) or self._round_usage
        if not choices:
            return b""
        self._adopt(chunk, payload)
        shown = [choice for choice in choices if self._show(choice)]
        for choice in shown:
            if choice.get("finish_reason"):
                self._finish[choice["index"]] = self._closing(chunk, choice)
        open_choices = [choice for choice in shown if not choice.get("finish_reason") or choice["delta"]]
        for choice in open_choices:
            choice["finish_reason"] = None
        return encode_event(encode(chunk | {"choices": open_choices})) if open_choices else b""

    def _closing(self, chunk: dict[str, Any], choice: dict[str, Any]) -> bytes:
        """The event that ends a choice; what it still says has its own event before."""
        return encode_event(encode(chunk | {"choices": [choice | {"delta": {}}]}))

    def _adopt(self, chunk: dict[str, Any], payload: bytes) -> None:
        """Take the answer's identity from its first chunk, and give it to all others."""
        sent = chunk.get("id"), chunk.get("created")
        if not self._adopted:
            self._adopted = True
            self._id = sent[0] if isinstance(sent[0], str) and sent[0] else self._id
            self._created = sent[1] if isinstance(sent[1], int) else self._created
            self._model = chunk.get("model") or self._model
        if self._tokens is None and (tokens := _tokens_of(payload, *sent)) is not None:
            same = sent == (self._id, self._created)
            self._tokens = tokens
            self._own_tokens = tokens if same else (_token("id", self._id), _token("created", self._created))
        chunk["id"], chunk["created"] = self._id, self._created
        chunk["object"] = "chat.completion.chunk"
        chunk.setdefault("model", self._model)

    def _show(self, choice: dict[str, Any]) -> bool:
        """Put one choice in order; tells whether anything of it is for the client."""
        index = choice["index"] = choice.get("index") or 0
        delta = choice["delta"] = dict(choice.get("delta") or {})
        if delta.get("tool_calls"):
            calls = [call for call in delta["tool_calls"] if self._own_or_client(index, call)]
            delta["tool_calls"] = calls
        if not delta.get("tool_calls"):
            delta.pop("tool_calls", None)
        if index in self._opened:
            delta.pop("role", None)
            if delta.get("content") == "":
                del delta["content"]
        else:
            self._opened.add(index)
            delta["role"] = "assistant"
        return bool(delta) or bool(choice.get("finish_reason"))

    def _own_or_client(self, index: int, call: dict[str, Any]) -> bool:
        """Give a call's delta its index among the client's calls; false for a call of the hub."""
        place = self._places.setdefault(index, Places()).place(call)
        if (index, place) not in self._shown:
            function = call.get("function") or {}
            ours = function.get("name") in self.hub_tools
            count = sum(1 for (of, _), at in self._shown.items() if of == index and at is not None)
            self._shown[index, place] = None if ours else count
            if not ours:
                call["id"] = call.get("id") or f"call_{place}"
                call.setdefault("type", "function")
        shown_at = self._shown[index, place]
        call["index"] = shown_at
        return shown_at is not None

    def _chunk(self, index: int, reason: str) -> bytes:
        return self._write([ChunkChoice(Delta(), reason, index)])

    def _write(self, choices: list[ChunkChoice], **rest: dict[str, Any]) -> bytes:
        return encode_event(encode(Chunk(self._id, self._created, self._model, choices, **rest)))


def _token(name: str, value: object) -> bytes:
    return b'"%s":%s' % (name.encode(), encode(value))


def _tokens_of(payload: bytes, answer_id: object, created: object) -> tuple[bytes, bytes] | None:
    """How the provider writes its id and time, if it writes them in a way that can be compared."""
    found = []
    for name, value in (("id", answer_id), ("created", created)):
        near, spaced = _token(name, value), b'"%s": %s' % (name.encode(), encode(value))
        found.append(near if near in payload else spaced)
        if not value or found[-1] not in payload:
            return None
    return found[0], found[1]


def _is_plain(block: bytes, tokens: tuple[bytes, bytes]) -> bool:
    """Tell whether each event of a block can be passed on unread."""
    events = block.count(b"\n\n")
    return (
        block.count(tokens[0]) == events
        and block.count(tokens[1]) == events
        and block.count(b"\n") == 2 * events
        and block.startswith(b"data: {")
        and block.count(b"\n\ndata: {") == events - 1
        and block.count(b"}\n\n") == events
        and _NEEDS_A_LOOK.search(block) is None
        and (block.isascii() or _is_utf8(block))
    )


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
