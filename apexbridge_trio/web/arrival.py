"""One request as the edge knows it, from its first byte to its line in the log."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any, Final

import trio
from msgspec import Struct, field

from apexbridge_trio.errors import ApexError, CutShort, InternalFault, MethodNotAllowed
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import is_sane, new_id
from apexbridge_trio.log import get_logger
from apexbridge_trio.openings import Opening, Openings
from apexbridge_trio.origin import doing
from apexbridge_trio.peer import PEER, Peer
from apexbridge_trio.protocol.openai import encode_error
from apexbridge_trio.web.crossing import shown_to

# What a proxy adds that says anything of itself; a program of this machine has no reason to.
_OF_PROXIES: Final = frozenset(
    {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded", b"via", b"x-real-ip"}
    | {b"cf-connecting-ip", b"true-client-ip", b"x-client-ip", b"tailscale-user-login"}
)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CHAT_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/chatvcp/completions"})

log = get_logger("request")


class Arrival(Struct):
    """A request under way.

    Attributes:
        request_id: On every reply and log line; a chat may choose its own in the body.
        is_local: The peer is on this machine, with no proxy between.
        opening: Around all that is done for it; holds who asks, and how it is ended when their key is.
        notes: What the log line says beside the common fields.
        outcome: How it ended, in one word, where the status does not say it.
        limited: Headers that say how it stands with its limits.
        first_event: Trio time of the first event of a stream that was no sign of life.
    """

    scope: Scope
    request_id: str
    is_local: bool
    asgi_send: Send
    opening: Opening
    started: float = field(default_factory=trio.current_time)
    status: int = 0
    bytes_sent: int = 0
    outcome: str = ""
    first_byte: float | None = None
    first_event: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    limited: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def principal(self) -> Principal | None:
        """Who asks; none on the open paths without a key."""
        return self.opening.principal

    @principal.setter
    def principal(self, who: Principal | None) -> None:
        self.opening.principal = who

    @classmethod
    def of(cls, scope: Scope, send: Send, openings: Openings) -> "Arrival":
        """Read who comes, and with which id."""
        asked = header(scope, b"x-request-id")
        request_id = asked if asked and is_sane(asked) else new_id("req")
        return cls(scope, request_id, _is_local(scope), send, openings.new())

    @property
    def peer(self) -> Peer:
        """Who asks, as the server knows it."""
        found: Peer = self.scope["extensions"][PEER]
        return found

    @property
    def whose(self) -> Principal | None:
        """Whose the lines about it are; an administrator's path may name what is another tenant's."""
        who = self.principal
        is_own = who is not None and ("admin" not in who.scopes or self.scope["path"] in CHAT_PATHS)
        return who if is_own else None

    @property
    def address(self) -> str:
        """Where the peer is; that of a proxy, if there is one between."""
        return str((self.scope.get("client") or ("unknown",))[0])

    async def send(self, message: dict[str, Any]) -> None:
        """Send as ASGI does, with the request's id on the reply."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = (b"x-request-id", self.request_id.encode())
            crossing = shown_to(self.scope["headers"])
            message["headers"] = [*message.get("headers", ()), named, *self.limited, *crossing]
        elif message["type"] == "http.response.body":
            self.bytes_sent += len(message.get("body", b""))
            self.first_byte = self.first_byte or trio.current_time()
        await self.asgi_send(message)

    def note_end(self, left: str) -> None:
        """Note how it ended, if its client has not taken all of the reply.

        Args:
            left: What it is called if the client has hung up. Why it was cut goes over what the work came to.
        """
        if (cut := self.peer.cut) is not None:
            self.outcome = cut.code
            if not isinstance(cut, CutShort):  # the server has said it in place of the app
                self.status = self.status or cut.status
        elif self.peer.is_gone:
            self.outcome = self.outcome or left

    async def reply(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Send a whole JSON reply."""
        common = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.send(
            {"type": "http.response.start", "status": status, "headers": common + (headers or [])}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def say(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send a reply without a body."""
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self.send({"type": "http.response.body", "body": b""})

    async def refuse(self, error: ApexError) -> None:
        """Send an error in the one envelope."""
        self.notes["error"] = error.code
        await self.reply(error.status, encode_error(error, self.request_id), error_headers(error))


@contextmanager
def boundary(arrival: Arrival) -> Iterator[None]:
    """Turn a defect inside a request into one answer and one line in the log.

    Raises:
        InternalFault: In place of whatever is no fault a peer can be told about.
    """
    try:
        yield
    except ApexError:
        raise
    except Exception as defect:
        with doing(arrival.whose, arrival.request_id):
            log.error("request failed", request_id=arrival.request_id, exc_info=defect)
        raise InternalFault("The hub failed at this; its log says how.") from None


@contextmanager
def ended_with_client(arrival: Arrival, outcome: str) -> Iterator[None]:
    """End the whole request as soon as its client is gone, and name that as its outcome.

    To be entered when the body has been read: a client that leaves before that is met there.

    Args:
        arrival: The request.
        outcome: What it is called if the client has hung up.
    """
    arrival.peer.cut_when_gone()
    try:
        yield
    finally:
        arrival.note_end(outcome)


def error_headers(error: ApexError) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell a client library what to do about an error."""
    headers = []
    # Up to the next second: who comes a moment too early is refused again.
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
    if not error.should_retry:
        headers.append((b"x-should-retry", b"false"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return headers


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value as text, the first if there are several."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def _is_local(scope: Scope) -> bool:
    host = (scope.get("client") or ("",))[0]
    is_loopback = host.startswith("127.") or host in {"::1", "::ffff:127.0.0.1"}
    # A proxy on this machine brings the whole world; its peers are not local.
    return is_loopback and not any(key in _OF_PROXIES for key, _ in scope["headers"])
