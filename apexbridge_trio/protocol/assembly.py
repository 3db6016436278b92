"""Put streamed deltas together to a message, and repair what providers get wrong in tool calls.

Seen in the field: no `index` at all; `index` 0 on every call, told apart by `id` only; no `id`; the
`id` repeated on each delta; whole calls in one delta; the name repeated or split. A delta belongs
to the call that `Places` gives it, always an integer counted from 0.

What is not known here is kept, for the client and for the next round: providers want back what they put
into a call (Gemini the signature of its thought), or beside the text (OpenRouter its reasoning).
"""

from collections.abc import Container
from typing import Any, Final

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.protocol.openai import encode

# What one answer may hold in memory when it must be held: a turn over it fails, alone.
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

# The calls of a round run side by side, each a task or a process. As many as OpenAI takes tools.
MAX_CALLS: Final = 128

# What a call is of, and the name of its text there.
_TEXTS: Final = {"function": "arguments", "custom": "input"}
_OF_CALL: Final = frozenset({"id", "index", "type", *_TEXTS})
_OF_CHOICE: Final = frozenset({"index", "delta", "finish_reason", "logprobs"})


class Places:
    """Say which call of one choice a tool-call delta belongs to."""

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}
        self._count = 0

    def place(self, delta: dict[str, Any]) -> int:
        """Return the place of the delta's call; a new call gets the next one.

        Raises:
            UpstreamBroken: There are more than `MAX_CALLS`.
        """
        call_id, index = delta.get("id"), delta.get("index")
        if isinstance(call_id, str) and call_id:
            place = self._by_id.get(call_id)
            if place is None:
                place = self._by_id[call_id] = self._unnamed(index) if not _names(delta) else self._next()
        elif isinstance(index, int) and index in self._by_index:
            place = self._by_index[index]
        else:
            place = self._next() if _names(delta) or not self._count else self._count - 1
        if isinstance(index, int):
            self._by_index[index] = place
        return place

    def _unnamed(self, index: Any) -> int:
        """An id that comes after its call began: the call at `index`, else a new one."""
        return self._by_index[index] if index in self._by_index else self._next()

    def _next(self) -> int:
        if self._count == MAX_CALLS:
            raise UpstreamBroken(f"The model made more than {MAX_CALLS} calls at once.")
        self._count += 1
        return self._count - 1


def _names(delta: dict[str, Any]) -> bool:
    body = delta.get(_kind_of(delta))
    return isinstance(body, dict) and bool(body.get("name"))


def _kind_of(delta: dict[str, Any]) -> str:
    """Return where a call's name and text are: ``function``, or ``custom`` for a tool without a schema."""
    return "custom" if isinstance(delta.get("custom"), dict) else "function"


def _add(rest: dict[str, Any], fields: dict[str, Any], known: Container[str]) -> int:
    """Add the fields that are not known, and return how many bytes they held."""
    more = {name: value for name, value in fields.items() if name not in known and value is not None}
    rest |= more
    return len(encode(more)) if more else 0


class _Call:
    """One call in the making."""

    def __init__(self) -> None:
        self.id = self.type = self.name = ""
        self.kind = "function"
        self.texts: list[str] = []
        self.rest: dict[str, Any] = {}
        self.body_rest: dict[str, Any] = {}

    def feed(self, delta: dict[str, Any]) -> int:
        """Add one delta and return how many bytes of text it held, about."""
        self.kind = "custom" if self.kind == "custom" else _kind_of(delta)
        body = delta.get(self.kind) or {}
        self.id = self.id or delta.get("id") or ""
        kind = delta.get("type")
        self.type = self.type or (kind if isinstance(kind, str) else "")
        self.name = self.name or body.get("name") or ""
        text = body.get(_TEXTS[self.kind]) or ""
        # Some providers send the arguments as an object; the wire has them as text.
        text = text if isinstance(text, str) else encode(text).decode()
        self.texts.append(text)
        rest = _add(self.rest, delta, _OF_CALL) + _add(self.body_rest, body, {"name", _TEXTS[self.kind]})
        return len(text) + rest

    def build(self, place: int) -> dict[str, Any]:
        text = "".join(self.texts) or ("{}" if self.kind == "function" else "")
        body = {"name": self.name, _TEXTS[self.kind]: text, **self.body_rest}
        call = {"id": self.id or f"call_{place}", "type": self.type or self.kind, self.kind: body}
        return call | self.rest


class _Choice:
    """One choice in the making."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.message: dict[str, Any] = {"role": "assistant"}
        self.parts: dict[str, list[str]] = {"content": []}
        self.lists: dict[str, list[Any]] = {}
        self.places = Places()
        self.calls: list[_Call] = []
        self.logprobs: list[Any] = []
        self.rest: dict[str, Any] = {}
        self.finish_reason: str | None = None

    def feed(self, choice: dict[str, Any]) -> int:
        """Add one delta and return how many bytes of text it held, about."""
        size = 0
        for name, value in (choice.get("delta") or {}).items():
            if name == "tool_calls":
                size += sum(self._feed_call(delta) for delta in value or ())
            elif name != "role" and isinstance(value, str):
                self.parts.setdefault(name, []).append(value)
                size += len(value)
            elif isinstance(value, list):
                # As OpenRouter's `reasoning_details`: what comes is what is added.
                self.lists.setdefault(name, []).extend(value)
                size += len(encode(value))
            elif value is not None and name != "role":
                self.message[name] = value
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            self.logprobs += logprobs.get("content") or ()
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return size + _add(self.rest, choice, _OF_CHOICE)

    def _feed_call(self, delta: dict[str, Any]) -> int:
        place = self.places.place(delta)
        if place == len(self.calls):
            self.calls.append(_Call())
        return self.calls[place].feed(delta)

    def build(self) -> dict[str, Any]:
        message = self.message | self.lists | {name: "".join(parts) for name, parts in self.parts.items()}
        if self.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [call.build(place) for place, call in enumerate(self.calls)]
        reason = self.finish_reason or ("tool_calls" if self.calls else "stop")
        built = {"index": self.index, "message": message, "finish_reason": reason, **self.rest}
        return built | ({"logprobs": {"content": self.logprobs}} if self.logprobs else {})


class Assembly:
    """Chunks of one streamed answer, put together to the document it would have been.

    Any split of the same deltas gives the same document. Text fields that are not known here
    (`reasoning_content`, `refusal`) are joined like `content`, and so are lists; other fields keep their
    last value.
    """

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._size = 0

    @property
    def has_begun(self) -> bool:
        """Whether there is a choice: without one a document is none."""
        return bool(self._choices)

    @property
    def is_finished(self) -> bool:
        """Whether each choice that began has its finish reason."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def feed(self, chunk: dict[str, Any]) -> None:
        """Add one chunk, as `rounds.read_payload` returned it.

        Raises:
            UpstreamBroken: The answer is over `MAX_ANSWER_BYTES`, or has more than `MAX_CALLS` calls.
        """
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            made = self._choices.get(index) or self._choices.setdefault(index, _Choice(index))
            self._size += made.feed(choice)
        if self._size > MAX_ANSWER_BYTES:
            raise UpstreamBroken(f"The answer is larger than {MAX_ANSWER_BYTES} bytes.")
        self._head |= {
            name: value for name, value in chunk.items() if name != "choices" and value is not None
        }

    def build(self) -> dict[str, Any]:
        """Return the whole answer as a ``chat.completion`` document."""
        choices = [self._choices[index].build() for index in sorted(self._choices)]
        return self._head | {"object": "chat.completion", "choices": choices}


def add_usage(total: dict[str, Any], usage: Any) -> dict[str, Any]:
    """Return the sum of two usage objects, field by field and into nested details.

    Some gateways send an empty list for an empty object: what is no object adds nothing.
    """
    summed = dict(total)
    for name, value in usage.items() if isinstance(usage, dict) else ():
        before = summed.get(name)
        if isinstance(value, dict):
            summed[name] = add_usage(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, int | float) and isinstance(before, int | float):
            summed[name] = before + value
        elif value is not None:
            summed[name] = value
    return summed


def total_tokens(usage: Any) -> int:
    """Return how many tokens a usage object counts; 0: it does not say."""
    found = usage if isinstance(usage, dict) else {}
    total = _count(found.get("total_tokens"))
    return total or _count(found.get("prompt_tokens")) + _count(found.get("completion_tokens"))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
