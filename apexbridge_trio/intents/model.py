"""The embedded model: it answers a chat as a provider does, from sentences alone.

One question is two calls, as with any model. In the first the user's sentence becomes a tool call,
in the second the tool's result becomes an answer; between them nothing is remembered, all of it is
in the messages.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio
from msgspec import Struct

from apexbridge_trio.config import EMBEDDED
from apexbridge_trio.intents import wording
from apexbridge_trio.intents.reply import IntentAnswer, Reply, document, events
from apexbridge_trio.protocol.answer import Asked, unasked
from apexbridge_trio.protocol.openai import FunctionName, OfferedTool, StreamOptions, encode, read_json
from apexbridge_trio.protocol.sentences import Sentences

if TYPE_CHECKING:
    from apexbridge_trio.intents.matcher import Matcher


class Declared(Protocol):
    """Who knows the sentences."""

    @property
    def sentences(self) -> Mapping[str, Mapping[str, Sentences]]:
        """By plugin, then by language."""
        ...


class Call(Struct):
    """A tool call of an earlier round."""

    id: str
    function: FunctionName


class Message(Struct):
    """What of a message is read here."""

    role: str
    content: Any = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content, or the text parts of it."""
        if isinstance(self.content, list):
            parts = [part.get("text") for part in self.content if isinstance(part, dict)]
            return " ".join(part for part in parts if isinstance(part, str))
        return self.content if isinstance(self.content, str) else ""


class Request(Struct):
    """What of a chat request is read here."""

    messages: list[Message]
    model: str = EMBEDDED
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Any = None

    @property
    def usable(self) -> frozenset[str]:
        """Names of the tools that are offered and that `tool_choice` allows."""
        offered = frozenset(tool.function.name for tool in self.tools or () if tool.function)
        match self.tool_choice:
            case "none":
                return frozenset()
            case {"type": "function"}:
                return offered & {_named(self.tool_choice)}
            case {"allowed_tools": {"tools": list(allowed)}}:
                return offered & {_named(one) for one in allowed}
        return offered


def _named(choice: Any) -> str:
    match choice:
        case {"function": {"name": str(name)}}:
            return name
    return ""


_decode: Final = msgspec.json.Decoder(Request).decode


class IntentModel:
    """A `Source` that needs no provider.

    Args:
        plugins: Whose sentences it knows; they are compiled on first use, or by `warm` and `warm_aside`.
    """

    name = EMBEDDED

    def __init__(self, plugins: Declared) -> None:
        self._plugins = plugins
        # The sentences and what was made of them, in one: threads and the loop replace it whole.
        self._compiled: tuple[object, Matcher] | None = None
        self._warmed: trio.Event | None = None

    def warm(self) -> list[str]:
        """Compile sentences and answers, so that the first question is answered at once.

        It takes some tenths of a second and may be called in a thread.

        Returns:
            Templates that can not be read; the rest work.
        """
        self._known.match("?", ())
        unreadable = [wording.fault_of(language, answer) for language, answer in self._known.answers()]
        return self._known.faults + [fault for fault in unreadable if fault]

    async def warm_aside(self) -> list[str]:
        """Do `warm` in a thread; a question that comes meanwhile waits for it, and the loop does not."""
        self._warmed = warmed = trio.Event()
        try:
            return await trio.to_thread.run_sync(self.warm)
        finally:
            warmed.set()

    @property
    def _known(self) -> "Matcher":
        from apexbridge_trio.intents.matcher import Matcher

        sentences, compiled = self._plugins.sentences, self._compiled
        if compiled is None or compiled[0] is not sentences:
            self._compiled = compiled = (sentences, Matcher(sentences))
        return compiled[1]

    @asynccontextmanager
    async def open_answer(
        self,
        body: bytes,
        model: str = "",  # noqa: ARG002  # see Source
        asked: Asked = unasked,  # noqa: ARG002  # it costs nothing
    ) -> AsyncIterator["IntentAnswer"]:
        """Answer a chat; the answer is complete when the block is entered.

        Args:
            body: Whole.
            model: There is only one; see `protocol.answer.Source`.
            asked: Told nothing.

        Raises:
            BadRequest: The body is no chat request; nothing was done.
        """
        request = read_json(body, _decode)
        if self._warmed is not None:
            await self._warmed.wait()
        reply = self._reply(request)
        if request.stream:
            options = request.stream_options
            with_usage = bool(options and options.include_usage)
            yield IntentAnswer(events(reply, request.model, with_usage=with_usage), is_stream=True)
        else:
            yield IntentAnswer(document(reply, request.model), is_stream=False)

    def _reply(self, request: Request) -> Reply:
        said = next((one.text for one in reversed(request.messages) if one.role == "user"), "")
        if results := _results(request.messages):
            return Reply("\n".join(self._told(said, tool, text) for tool, text in results))
        if found := self._known.match(said, request.usable):
            return Reply(tool=found.phrase.tool, arguments=encode(found.arguments).decode())
        return Reply(self._not_understood(said, request.usable))

    def _not_understood(self, said: str, usable: frozenset[str]) -> str:
        if found := self._known.match(said):
            return wording.not_offered(found.language, found.phrase.tool)
        language = _language(said)
        return wording.lost(language, said, self._known.examples(language, usable))

    def _told(self, said: str, tool: str, text: str) -> str:
        found = self._known.match(said, {tool})
        language = found.language if found else _language(said)
        try:
            result = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return wording.plain(tool, text)
        match result:
            case {"error": {"code": _} as error}:
                return wording.failed(language, error)
        answer = wording.worded(found, result) if found else None
        return answer or wording.plain(tool, result)


def _results(messages: list[Message]) -> list[tuple[str, str]]:
    """Return tool and text of each result that the messages end with; none if they end otherwise."""
    names = {call.id: call.function.name for one in messages for call in one.tool_calls or ()}
    results: list[tuple[str, str]] = []
    for one in reversed(messages):
        if one.role != "tool":
            break
        results.insert(0, (names.get(one.tool_call_id or "", "?"), one.text))
    return results


def _language(said: str) -> str:
    return "zh" if wording.is_chinese(said) else "en"
