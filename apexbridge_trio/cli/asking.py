"""One question to the hub, and the stop of it by Ctrl-C.

::

    asking
    ├─ the answer      reads and writes as it comes; its end is the end
    └─ the stop        waits for Ctrl-C, asks the hub to interrupt, brings back the receipt

The connection of the answer stays open until the receipt is there: hanging up first would stop the
request too, but then nobody could say what has stopped.
"""

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import httpx
import msgspec
import trio

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.hub import client_options, document_of, reaching, refusal
from apexbridge_trio.cli.words import printable
from apexbridge_trio.errors import ApexError
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.sse import Blocks, payloads

# How long the hub may take for the receipt; after that it says what has not stopped yet.
_WAIT_S = 5.0
_ANSWER_TIMEOUT = httpx.Timeout(None, connect=5.0)  # the hub's deadline rules, and Ctrl-C


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


class Asking:
    """One chat request.

    Attributes:
        text: The answer so far.
        document: The whole reply, when it was not streamed.
        is_stopping: Ctrl-C was pressed.
        receipt: What the interrupt has stopped; None if it was not pressed, or not answered.
        untold: Why there is no receipt.

    Args:
        body: The request but for its id.
        write: Called with each piece of the answer's text.
    """

    def __init__(self, body: dict[str, Any], *, write: Callable[[str], None]) -> None:
        self.request_id = new_id("req")
        self._body = {**body, "requestId": self.request_id}
        self._write = write
        self.text = ""
        self.document: Any = None
        self.is_stopping = False
        self.receipt: dict[str, Any] | None = None
        self.untold = "the second Ctrl-C"

    async def run(self) -> None:
        """Ask and write the answer until its end, or until it was stopped.

        Raises:
            Failure: The hub can not be reached, it refused, or the answer is not whole.
        """
        fault: Exception | None = None
        with trio.open_signal_receiver(signal.SIGINT) as presses:
            async with httpx.AsyncClient(**client_options()) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_told, client, presses, nursery.cancel_scope, name="stop")
                try:
                    await self._receive(client)
                except (Failure, ApexError, OSError) as wrong:
                    fault = wrong
                if not self.is_stopping:
                    nursery.cancel_scope.cancel(reason="answered")
        if self.text and not self.text.endswith("\n"):
            self._write("\n")
        if fault is not None and not self.is_stopping:
            raise fault

    async def _receive(self, client: httpx.AsyncClient) -> None:
        with reaching():
            async with client.stream(
                "POST", "/v1/chat/completions", json=self._body, timeout=_ANSWER_TIMEOUT
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

    async def _stop_when_told(
        self, client: httpx.AsyncClient, presses: AsyncIterator[int], answer: trio.CancelScope
    ) -> None:
        """Wait for Ctrl-C, interrupt the request, and end the answer when the receipt is there."""
        await anext(presses)
        self.is_stopping = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hurry, presses, answer, name="second Ctrl-C")
            try:
                self.receipt = await self._interrupt(client)
            except Failure as fault:
                self.untold = str(fault)
            nursery.cancel_scope.cancel(reason="the receipt is there")
        answer.cancel(reason="stopped")

    async def _interrupt(self, client: httpx.AsyncClient) -> dict[str, Any]:
        body = {"requestId": self.request_id, "reason": "Ctrl-C", "waitS": _WAIT_S}
        with reaching():
            reply = await client.post("/v1/interrupt", json=body)
        receipt: dict[str, Any] = document_of(reply.status_code, reply.content)
        return receipt


async def _hurry(presses: AsyncIterator[int], answer: trio.CancelScope) -> None:
    await anext(presses)
    answer.cancel(reason="Ctrl-C again")


def _part_of(document: bytes) -> Part:
    try:
        return msgspec.json.decode(document, type=Part)
    except msgspec.DecodeError:
        raise Failure("the answer is none of a chat", Exit.FAILED) from None
