"""What every route of Quart's has in hand: who asks, and JSON to answer with."""

from typing import Any

from quart import Response, request

from apexbridge_trio.audit import Actor
from apexbridge_trio.errors import Forbidden
from apexbridge_trio.identity import Principal
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.web.arrival import Arrival


def current_arrival() -> Arrival:
    """Return the request under way, as `Front` has let it in."""
    arrival: Arrival = request.scope["apex"]  # type: ignore[typeddict-item]  # put there by Front
    return arrival


def current_principal() -> Principal:
    """Return who asks, on a path that nobody may use without being known."""
    principal = current_arrival().principal
    assert principal is not None
    return principal


def current_actor() -> Actor:
    """Return who changes something, as the audit names them."""
    arrival = current_arrival()
    return Actor.of(current_principal(), arrival.address, arrival.request_id)


def require_admin() -> Principal:
    """Return who asks, if it is an administrator.

    Raises:
        Forbidden: It is not.
    """
    principal = current_principal()
    if "admin" not in principal.scopes:
        raise Forbidden("This key may look, and not change that; it needs the scope admin.")
    return principal


def reply(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return reply_bytes(encode(value), status)


def reply_bytes(body: bytes, status: int) -> Response:
    """Answer with JSON that is written already."""
    return Response(body, status, content_type="application/json")
