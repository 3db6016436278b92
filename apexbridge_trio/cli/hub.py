"""The hub, as a command sees it: over HTTP, at ``APEXBRIDGE_URL``."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from apexbridge_trio.cli.exits import Exit, Failure

DEFAULT_URL = "http://127.0.0.1:8088"

# The hub answers everything but a chat at once; this is for one that hangs.
_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0
# What the hub's own words do not say: they are for clients of all kinds.
_HINTS = {
    401: "; put it into APEXBRIDGE_KEY",
    403: "; make one that may with: apexbridge keys create",
}
# What was asked is wrong: the command line said so, or the config that it sent.
_EXITS = {400: Exit.USAGE, 422: Exit.USAGE, 401: Exit.AUTH, 403: Exit.AUTH, 404: Exit.NOT_FOUND}


def client_options(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what an httpx client of the hub is made with.

    Raises:
        Failure: ``APEXBRIDGE_URL`` is no address.
    """
    url = env.get("APEXBRIDGE_URL") or DEFAULT_URL
    try:
        host = urlsplit(url).hostname
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        host = None
    if not host or not url.startswith(("http://", "https://")):
        raise Failure(f"APEXBRIDGE_URL is no address like {DEFAULT_URL}", Exit.USAGE)
    key = env.get("APEXBRIDGE_KEY", "").strip()
    if not key.isascii() or not key.isprintable():
        raise Failure("APEXBRIDGE_KEY is no key", Exit.USAGE)
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        # A proxy of the environment can not reach this machine's own loopback.
        "trust_env": host not in {"127.0.0.1", "localhost", "::1"},
    }


@contextmanager
def reaching() -> Iterator[None]:
    """Say in plain words that the hub can not be reached.

    Raises:
        Failure: A request inside the block had no whole answer.
    """
    try:
        yield
    except httpx.ConnectError:
        url = os.environ.get("APEXBRIDGE_URL") or DEFAULT_URL
        raise Failure(f"no hub at {url}; start one with: apexbridge serve", Exit.UNREACHABLE) from None
    except httpx.TransportError as fault:
        what = str(fault) or type(fault).__name__
        raise Failure(f"the connection to the hub failed: {what}", Exit.UNREACHABLE) from None


def call(method: str, path: str, body: object = None, *, at_most_s: float = 0) -> Any:
    """Ask the hub one thing and return its JSON.

    Args:
        method: Of HTTP.
        path: Below the hub's address.
        body: Sent as JSON, if there is one.
        at_most_s: How long the hub was asked to wait before it answers, in seconds.

    Raises:
        Failure: It can not be reached, or it refused.
    """
    return call_with_tag(method, path, body, at_most_s=at_most_s)[0]


def call_known(method: str, path: str, hint: Callable[[], str], *, at_most_s: float = 0) -> Any:
    """Ask the hub one thing about something it should know, as `call` does.

    Args:
        method: Of HTTP.
        path: Names it.
        hint: Says what to do where there is no such thing.
        at_most_s: As for `call`.

    Raises:
        Failure: As `call`; with the hint, if there is no such thing.
    """
    try:
        return call(method, path, at_most_s=at_most_s)
    except Failure as fault:
        if fault.exit_code is not Exit.NOT_FOUND:
            raise
        raise Failure(f"{fault}; {hint()}", Exit.NOT_FOUND) from None


def call_with_tag(
    method: str, path: str, body: object = None, *, if_match: str = "", at_most_s: float = 0
) -> tuple[Any, str]:
    """Ask the hub one thing as `call` does; returns its JSON, and its ETag as it came.

    Raises:
        Stale: It is not what `if_match` says any more.
        Failure: It can not be reached, or it refused.
    """
    headers = {"If-Match": if_match} if if_match else {}
    with reaching(), httpx.Client(**client_options()) as client:
        reply = client.request(method, path, json=body, headers=headers, timeout=_TIMEOUT_S + at_most_s)
    if reply.status_code == 412:
        raise Stale(str(refusal(reply.json(), 412)), Exit.FAILED)
    return document_of(reply.status_code, reply.content), reply.headers.get("etag", "")


class Stale(Failure):
    """What was to be changed is another thing by now."""


def document_of(status: int, content: bytes) -> Any:
    """Return the JSON of a whole reply.

    Raises:
        Failure: It is the error envelope, or not of a hub at all.
    """
    try:
        document = json.loads(content)
    except ValueError:
        raise Failure(f"what answers there is no hub (status {status})", Exit.FAILED) from None
    if isinstance(document, dict) and "error" in document and status >= 400:
        raise refusal(document, status)
    return document


def refusal(envelope: Mapping[str, Any], status: int = 0) -> Failure:
    """Return the failure that an error envelope tells, on one line."""
    error = envelope["error"] if isinstance(envelope["error"], dict) else {}
    told = [error.get("code"), f"request {envelope['request_id']}" if envelope.get("request_id") else None]
    notes = ", ".join(note for note in told if note)
    message = f"{error.get('message', 'refused')}{f' ({notes})' if notes else ''}{_HINTS.get(status, '')}"
    return Failure(" ".join(message.split()), _EXITS.get(status, Exit.FAILED))
