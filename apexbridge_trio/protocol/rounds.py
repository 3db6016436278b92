"""One model call's answer, whole: whose calls it makes, and what it adds to the conversation."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.protocol.assembly import MAX_CALLS, Assembly
from apexbridge_trio.protocol.openai import MAX_CHOICES, Call

# What a provider says about its error; whoever tells it on takes secrets out and cuts again.
MAX_WORDS_CHARS: Final = 2000


class _Function(Struct):
    name: str | None = None


class _ToolCall(Struct):
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    tool_calls: list[_ToolCall] | None = None


class _Logprobs(Struct):
    content: list[Any] | None = None


class _Choice(Struct):
    index: Annotated[int, Meta(ge=0, lt=MAX_CHOICES)] | None = None
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(Struct):
    """What must be so in a chunk or a document for it to be read; all else is taken as it comes."""

    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Round(Struct, frozen=True):
    """What came of one round.

    Attributes:
        document: The answer as a ``chat.completion``, with the repairs of `assembly`.
        hub_calls: The calls the hub shall run; empty when the round is the last one.
        is_cut: Calls of the hub were taken out of the document.
    """

    document: dict[str, Any]
    hub_calls: tuple[Call, ...] = ()
    is_cut: bool = False

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message, for the next round's conversation.

        Without nulls, which a provider may send and not take back; but for `content`, which may be one.
        """
        message = self.document["choices"][0]["message"]
        return {name: value for name, value in message.items() if value is not None or name == "content"}


def judge(document: dict[str, Any], hub_tools: frozenset[str]) -> Round:
    """Decide what a whole answer means: run the hub's calls, or hand it to the client.

    A round that calls tools of both goes to the client with the client's calls alone: the hub's
    have not run, and the model will ask again.
    """
    if not hub_tools or not document["choices"]:
        return Round(document)
    message = document["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    ours = [call for call in calls if _name_of(call) in hub_tools]
    if not ours:
        return Round(document)
    if len(ours) == len(calls):
        return Round(document, tuple(msgspec.convert(ours, list[Call])))
    message["tool_calls"] = [call for call in calls if call not in ours]
    return Round(document, is_cut=True)


def _name_of(call: dict[str, Any]) -> Any:
    return (call.get("function") or {}).get("name")


def without_calls(document: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with its calls taken away: the rounds are used up."""
    for choice in document["choices"]:
        choice["message"].pop("tool_calls", None)
        choice["message"]["content"] = choice["message"].get("content") or ""
        choice["finish_reason"] = "length"
    return document


def read_payload(payload: bytes) -> dict[str, Any]:
    """Decode one event or document of a provider.

    Raises:
        UpstreamBroken: It is no JSON object, not in OpenAI's form, or the provider's own error.
    """
    try:
        value = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamBroken("The provider sent something that is not JSON.") from None
    if fault := value.get("error"):
        said = fault.get("message") if isinstance(fault, dict) else fault
        raise UpstreamBroken(f"The provider reported an error: {str(said)[:MAX_WORDS_CHARS]}")
    try:
        msgspec.convert(value, _Answer)
    except msgspec.ValidationError as wrong:
        raise UpstreamBroken(f"The provider's answer is not in OpenAI's form: {wrong}") from None
    return value


def read_document(body: bytes) -> tuple[dict[str, Any], bool]:
    """Decode a provider's whole answer, with tool calls repaired.

    Returns:
        The document, and whether it was repaired: else it is what was sent.

    Raises:
        UpstreamBroken: It is no chat completion.
    """
    document = read_payload(body)
    chunk = as_chunk(document)
    calls = [call for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or ()]
    if len(calls) <= MAX_CALLS and all(map(_is_in_order, calls)):
        return document, False
    assembly = Assembly()
    assembly.feed(chunk)
    return assembly.build(), True


def _is_in_order(call: dict[str, Any]) -> bool:
    """Tell whether a call has what a client, or the hub, needs to run it; other kinds are not looked into."""
    if not (call.get("id") and isinstance(call.get("type"), str)):
        return False
    function = call.get("function")
    if function is None:
        return bool(call["type"] != "function")
    arguments = function.get("arguments")
    return isinstance(function.get("name"), str) and isinstance(arguments, str) and bool(arguments)


def as_chunk(document: dict[str, Any]) -> dict[str, Any]:
    """Turn a whole answer into the one chunk that says the same.

    Raises:
        UpstreamBroken: It is no chat completion.
    """
    choices = document.get("choices")
    if not choices:
        raise UpstreamBroken("The provider's answer has no choices.")
    made = []
    for number, choice in enumerate(choices):
        message = choice.get("message")
        if message is None:
            raise UpstreamBroken("The provider's answer has a choice without a message.")
        delta = {name: value for name, value in message.items() if value is not None}
        rest = {name: value for name, value in choice.items() if name != "message"}
        index = choice.get("index")
        made.append(rest | {"index": number if index is None else index, "delta": delta})
    return document | {"object": "chat.completion.chunk", "choices": made}
