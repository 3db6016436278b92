"""Replies that the server gives by itself, before or instead of the app's."""

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from apexbridge_trio.errors import (
    ApexError,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    HeadTooLarge,
    HubFull,
    InternalFault,
    RequestStalled,
    SocketVersionUnsupported,
    VersionUnsupported,
)
from apexbridge_trio.ids import is_sane, new_id
from apexbridge_trio.protocol.openai import encode_error

Headers = list[tuple[bytes, bytes]]

_REQUEST_ID: Final = b"x-request-id"
# RFC 6455; there has been no other since.
SOCKET_VERSION: Final = b"13"
# What Hypercorn and h11 say by status alone.
_BY_STATUS: Final[dict[int, tuple[type[ApexError], str]]] = {
    403: (Forbidden, "The WebSocket was refused."),
    408: (RequestStalled, "The request did not arrive in time."),
    413: (BodyTooLarge, "The body is over the limit."),
    431: (HeadTooLarge, "The head of the request is over 16 KiB."),
    500: (InternalFault, "The hub failed to answer; its log says why."),
    505: (VersionUnsupported, "Only HTTP/1.1 and HTTP/1.0 are served."),
}


def of_status(status: int) -> ApexError:
    """Put into words what a library says by a status; any other status is a malformed request.

    Each time anew: the app may raise it, and an error keeps the frames it was raised through.
    """
    if (found := _BY_STATUS.get(status)) is None:
        return BadRequest("The request is not valid HTTP/1.1.", code="malformed_request")
    kind, message = found
    return kind(message)


def full() -> HubFull:
    """Say that there is no room for another connection."""
    return HubFull("The hub serves as many connections as it may; try again soon.", retry_after_s=1)


def refusal(error: ApexError, request_id: str) -> tuple[Headers, bytes]:
    """Write the reply for `error`: the error envelope, its headers, and the end of the connection.

    Args:
        error: What to tell; its status is the reply's.
        request_id: The request's.
    """
    body = encode_error(error, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (_REQUEST_ID, request_id.encode()),
    ]
    if not error.should_retry:
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, SocketVersionUnsupported):
        headers += [(b"upgrade", b"websocket"), (b"sec-websocket-version", SOCKET_VERSION)]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return headers, body


def named(headers: Headers) -> tuple[str, Headers]:
    """Return a request's id, the one that its peer chose if it is sane, and its headers with it.

    So the app's lines and replies are of the same id as what the server says in its place.
    """
    asked = next((value.decode("latin1") for name, value in headers if name == _REQUEST_ID), "")
    if is_sane(asked):
        return asked, headers
    made = new_id("req")
    others = [one for one in headers if one[0] != _REQUEST_ID] if asked else headers
    return made, [*others, (_REQUEST_ID, made.encode())]


def date_header() -> tuple[bytes, bytes]:
    """Return the ``Date`` of now; it is written once a second, not once a reply."""
    return b"date", _date_at(int(time.time()))


@lru_cache(maxsize=1)
def _date_at(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
