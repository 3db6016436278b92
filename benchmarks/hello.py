"""The least an ASGI application can do: the same JSON chat to every request, with no provider behind it."""

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.answers import CHAT

_BODY = CHAT.partition(b"\r\n\r\n")[2]
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Read the request and answer it."""
    if scope["type"] != "http":  # lifespan: Hypercorn takes the refusal as "not supported"
        raise NotImplementedError(scope["type"])
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
