"""A task whose end is waited for within one request, and that Ctrl-C stops."""

from collections.abc import Mapping
from typing import Any

import httpx

from apexbridge_trio.cli.hub import document_of, reaching
from apexbridge_trio.cli.stopping import ANSWER_TIMEOUT, Stoppable


class Awaiting(Stoppable):
    """One task.

    Attributes:
        task: How it has ended, as the hub tells it.

    Args:
        path: Where it is asked for.
        body: What is asked for; it says that the result is waited for.
    """

    def __init__(self, path: str, body: Mapping[str, Any]) -> None:
        super().__init__()
        self._path = path
        self._body = body
        self.task: dict[str, Any] = {}

    async def ask(self) -> None:
        """Have the task run until its end, or until it was stopped.

        Raises:
            Failure: The hub can not be reached, or it refused.
        """
        await self.run(self._receive)

    async def _receive(self, client: httpx.AsyncClient) -> None:
        named = {"X-Request-Id": self.request_id}
        with reaching():
            reply = await client.post(self._path, json=self._body, headers=named, timeout=ANSWER_TIMEOUT)
        self.task = document_of(reply.status_code, reply.content)
