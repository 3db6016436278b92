"""The stop of one request by Ctrl-C.

::

    stoppable
    ├─ the answer      reads as it comes; its end is the end
    └─ the stop        waits for Ctrl-C, asks the hub to interrupt, brings back the receipt

The connection of the answer stays open until the receipt is there: hanging up first would stop the
request too, but then nobody could say what has stopped.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import httpx
import trio

from apexbridge_trio.cli.exits import Failure
from apexbridge_trio.cli.hub import client_options, document_of, reaching
from apexbridge_trio.cli.words import receipt_words
from apexbridge_trio.errors import ApexError
from apexbridge_trio.ids import new_id

# How long the hub may take for the receipt; after that it says what has not stopped yet.
_WAIT_S = 5.0
ANSWER_TIMEOUT: Final = httpx.Timeout(None, connect=5.0)  # the hub's deadline rules, and Ctrl-C

Receive = Callable[[httpx.AsyncClient], Awaitable[None]]


class Stoppable:
    """One request that Ctrl-C stops.

    Attributes:
        request_id: To be told to the hub with the request: by it the hub is told to stop.
        is_stopping: Ctrl-C was pressed.
        receipt: What the interrupt has stopped; None if it was not pressed, or not answered.
    """

    def __init__(self) -> None:
        self.request_id = new_id("req")
        self.is_stopping = False
        self.receipt: dict[str, Any] | None = None
        self._untold = "the second Ctrl-C"

    @property
    def words(self) -> str:
        """What people are told after the stop."""
        if self.receipt is not None:
            return receipt_words(self.receipt)
        return f"the connection was closed, which stops it: {self._untold}"

    async def run(self, receive: Receive) -> None:
        """Send the request and read its answer by `receive`, until its end, or until it was stopped.

        Raises:
            Failure: The hub can not be reached, or as `receive` says; not of what was stopped.
        """
        fault: Exception | None = None
        with trio.open_signal_receiver(signal.SIGINT) as presses:
            async with httpx.AsyncClient(**client_options()) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_told, client, presses, nursery.cancel_scope, name="stop")
                try:
                    await receive(client)
                except (Failure, ApexError, OSError) as wrong:
                    fault = wrong
                if not self.is_stopping:
                    nursery.cancel_scope.cancel(reason="answered")
        if fault is not None and not self.is_stopping:
            raise fault

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
                self._untold = str(fault)
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
