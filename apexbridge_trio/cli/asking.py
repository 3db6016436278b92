"""One question to the hub, and its answer as it comes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

import httpx
import msgspec

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.hub import document_of, reaching, refusal
from apexbridge_trio.cli.stopping import ANSWER_TIMEOUT, Stoppable
from apexbridge_trio.cli.words import printable
from apexbridge_trio.protocol.sse import Blocks, payloads


class Said(msgspec.Struct):
    """A message or a delta."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One of the answers; a document has a message, a chunk a delta."""

    message: Said = msgspec.field(default_factory=Said)
    delta: Said = msgspec.field(default_factory=Said)


class Part(msgspec.Struct):
    """A whole reply, or one chunk of a stream."""

    choices: list[Choice] = []
    error: dict[str, Any] | None = None
    apex: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """What it adds to the answer."""
        return "".join((one.message.content or "") + (one.delta.content or "") for one in self.choices)


class Asking(Stoppable):
    """One chat request.

    Attributes:
        text: The answer so far.
        document: The whole reply, when it was not streamed.

    Args:
        body: The request but for its id.
        write: Called with each piece of the answer's text.
    """

    def __init__(self, body: dict[str, Any], *, write: Callable[[str], None]) -> None:
        super().__init__()
        self._body = {**body, "requestId": self.request_id}
        self._write = write
        self.text = ""
        self.document: Any = None

    async def ask(self) -> None:
        """Ask and write the answer until its end, or until it was stopped.

        Raises:
            Failure: The hub can not be reached, it refused, or the answer is not whole.
        """
        try:
            await self.run(self._receive)
        finally:
            if self.text and not self.text.endswith("\n"):
                self._write("\n")

    async def _receive(self, client: httpx.AsyncClient) -> None:
        with reaching():
            async with client.stream(
                "POST", "/v1/chat/completions", json=self._body, timeout=ANSWER_TIMEOUT
            ) as reply:
                if reply.headers.get("content-type", "").startswith("text/event-stream"):
                    await self._read_stream(reply)
                else:
                    self._read_document(reply.status_code, await reply.aread())

    def _read_document(self, status: int, content: bytes) -> None:
        self.document = document_of(status, content)
        self._say(_part_of(content).text)

    async def _read_stream(self, reply: httpx.Response) -> None:
        blocks = Blocks()
        is_done = False
        # httpx 0.28.1 leaves its generator to the collector when a fault ends the loop.
        async with aclosing(cast("AsyncGenerator[bytes, None]", reply.aiter_bytes())) as received:
            async for data in received:
                for payload in payloads(blocks.feed(data)):
                    is_done = payload == b"[DONE]"
                    if not is_done:
                        self._read_chunk(payload)
        if not is_done:
            raise Failure("the answer ended in the middle", Exit.FAILED)

    def _read_chunk(self, payload: bytes) -> None:
        chunk = _part_of(payload)
        if chunk.error is not None:
            raise refusal({"error": chunk.error, "request_id": self.request_id})
        self._say(chunk.text)
        if chunk.apex.get("interrupted"):
            raise Failure(f"{self.request_id} was interrupted", Exit.FAILED)

    def _say(self, text: str) -> None:
        self.text += text
        self._write(printable(text))


def _part_of(document: bytes) -> Part:
    try:
        return msgspec.json.decode(document, type=Part)
    except msgspec.DecodeError:
        raise Failure("the answer is none of a chat", Exit.FAILED) from None
