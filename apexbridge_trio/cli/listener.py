"""Takes the callbacks of one task, for a tool that is tried without a hub."""

import secrets
from functools import partial
from typing import Final

import trio

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.plugins import CallbackAddress
from apexbridge_trio.protocol.callback import Callback, read_callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.serving import ServingLimits, serve
from apexbridge_trio.web.arrival import Receive, Scope, Send
from apexbridge_trio.web.reading import read_body

# Callbacks that wait to be shown; a plugin that sends more of them waits for its answer.
_WAITING: Final = 16
_LIMITS: Final = ServingLimits(max_body_bytes=1024 * 1024, max_connections=8)


class Listener:
    """A port of this machine's loopback with one address that is good: the task's own.

    Attributes:
        address: For the plugin, once `run` has started.
        callbacks: What came in, in order.
    """

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._came, self.callbacks = trio.open_memory_channel[tuple[str, Callback]](_WAITING)
        self.address = CallbackAddress("", self._token)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(
                partial(
                    serve,
                    self._answer,
                    binds=["127.0.0.1:0"],
                    limits=_LIMITS,
                    shutdown=trio.sleep_forever,
                    on_fault=_raise,
                )
            )
            url = f"http://127.0.0.1:{addresses[0][1]}/plugin-callback/~{self._token}"
            self.address = CallbackAddress(url, self._token)
            task_status.started()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status = await self._taken(scope, receive)
        word = "success" if status == 200 else "error"
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": encode({"status": word})})

    async def _taken(self, scope: Scope, receive: Receive) -> int:
        address, _, task_id = scope["path"].rpartition("/")
        own = f"/plugin-callback/~{self._token}/"
        if scope["method"] != "POST" or not secrets.compare_digest(
            address[: len(own)].encode(), own.encode()
        ):
            return 404
        try:
            callback = read_callback(await read_body(receive, _LIMITS.max_body_bytes))
        except BadRequest as fault:
            return fault.status
        await self._came.send((task_id, callback))
        return 200


def _raise(_where: str, fault: BaseException) -> None:
    raise fault
