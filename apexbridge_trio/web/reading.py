"""Read what a request brings, and refuse what it must not bring."""

from copy import copy
from typing import Final

from apexbridge_trio.errors import ApexError, BadRequest, BodyTooLarge, UnsupportedMedia
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import is_sane
from apexbridge_trio.web.arrival import Arrival, Receive, header

_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


def require_json(arrival: Arrival) -> None:
    """Refuse a body that says it is not JSON in UTF-8; one that says nothing is taken at its word.

    Raises:
        UnsupportedMedia: It is compressed, of another type, or in another character set.
    """
    coding = header(arrival.scope, b"content-encoding") or "identity"
    if coding.strip().lower() != "identity":
        raise UnsupportedMedia(f"The body must come plain, not with Content-Encoding: {coding[:50]}.")
    kind, _, rest = (header(arrival.scope, b"content-type") or "application/json").partition(";")
    name = kind.strip().lower()
    if name != "application/json" and not name.endswith("+json"):
        raise UnsupportedMedia(f"The body must be JSON (Content-Type: application/json), not {kind[:50]!r}.")
    charset = rest.lower().partition("charset=")[2].split(";")[0].strip(" \t\"'")
    if charset and charset not in _UTF8:
        raise UnsupportedMedia(f"The body must be in UTF-8, not {charset[:50]!r}.")


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        BodyTooLarge: It is over the limit.
        BadRequest: The client left before it had sent all.
        ApexError: What the server has told the client in place of the app.
    """
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _left(message.get("fault"))
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
        if not message.get("more_body", False):
            return b"".join(parts)


def _left(fault: ApexError | None) -> ApexError:
    """Return why the body did not come; a copy, as the server's own would keep these frames."""
    if fault is None:
        return BadRequest("The connection ended before the body did.", code="body_incomplete")
    return copy(fault)


def narrowed(
    principal: Principal, arrival: Arrival, tenant_id: str | None, family_id: str | None
) -> Principal:
    """Return the principal within the tenant and family a request names.

    Raises:
        Forbidden: The request names one the key has no part in.
        BadRequest: A header's value is no id.
    """
    for name, tenant in ((b"x-tenant-id", True), (b"x-family-id", False)):
        value = header(arrival.scope, name)
        if value is not None and not is_sane(value):
            raise BadRequest(f"The header {name.decode()} is not an id.", param=name.decode())
        principal = principal.narrowed(
            tenant_id=value if tenant else None, family_id=None if tenant else value
        )
    return principal.narrowed(tenant_id=tenant_id, family_id=family_id)
