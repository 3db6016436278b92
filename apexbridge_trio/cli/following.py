"""A stream of the hub's that is followed, over every connection that it takes, until Ctrl-C."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import trio

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.hub import client_options, document_of, reaching
from apexbridge_trio.protocol.sse import Blocks, payloads

# A hub that was restarted is there again in a moment; one question a second hurts nobody.
_COME_AGAIN_S = 1.0
# The hub sends a sign of life each 10 s; one that says nothing for so long is gone.
_SILENCE_S = 60.0


class Following:
    """Reads server-sent events, and goes on where it was when a connection is lost.

    Args:
        path: Below the hub's address.
        query: What of it is wanted; None stands for what is not said.
        take: Called with each frame.
        follows: Whether it stays for what comes.
    """

    def __init__(
        self,
        path: str,
        query: Mapping[str, str | None],
        take: Callable[[dict[str, Any]], None],
        *,
        follows: bool,
    ) -> None:
        said = {name: value for name, value in query.items() if value}
        self._address = f"{path}?{urlencode(said | ({} if follows else {'follow': 'false'}))}"
        self._take = take
        self._follows = follows
        self._position = ""
        self._was_there = False

    async def run(self) -> None:
        """Read until the hub has said all, or until Ctrl-C; a connection that is lost is made anew.

        Raises:
            Failure: The hub can not be reached at first, or it refuses.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        await until_pressed(self._read_on)

    async def _read_on(self) -> None:
        while True:
            try:
                with reaching():
                    await self._read_once()
            except Failure as fault:
                if not self._was_there or not self._follows or fault.exit_code is not Exit.UNREACHABLE:
                    raise
            if not self._follows:
                return
            await trio.sleep(_COME_AGAIN_S)

    async def _read_once(self) -> None:
        timeout = httpx.Timeout(_SILENCE_S, connect=5.0)
        headers = {"Last-Event-ID": self._position} if self._position else {}
        async with (
            httpx.AsyncClient(**client_options() | {"timeout": timeout}) as client,
            client.stream("GET", self._address, headers=headers) as reply,
        ):
            if reply.status_code == 503 and self._was_there:
                return  # it is about to end, and another will be there
            if reply.status_code != 200:
                document_of(reply.status_code, await reply.aread())
            self._was_there = True
            blocks = Blocks()
            async for data in reply.aiter_bytes():
                block = blocks.feed(data)
                for payload in payloads(block):
                    self._take(json.loads(payload))
                self._note_position(block)

    def _note_position(self, block: bytes) -> None:
        for line in block.split(b"\n"):
            if line.startswith(b"id: "):
                self._position = line[4:].decode("latin-1")


async def until_pressed(work: Callable[[], Awaitable[None]]) -> None:
    """Do something until it is done, or until Ctrl-C.

    Raises:
        Failure: Of the work.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    ends: list[BaseException] = []
    # Received, and not raised in the middle of the HTTP client, which would be left in its middle.
    with trio.open_signal_receiver(signal.SIGINT) as presses:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_when_told, presses, nursery.cancel_scope, ends, name="Ctrl-C")
            try:
                await work()
            except Failure as fault:
                ends.append(fault)
            nursery.cancel_scope.cancel(reason="it is done")
    if ends:
        raise ends[0]


async def _end_when_told(
    presses: AsyncIterator[int], scope: trio.CancelScope, ends: list[BaseException]
) -> None:
    await anext(presses)
    ends.append(KeyboardInterrupt())
    scope.cancel(reason="Ctrl-C")
