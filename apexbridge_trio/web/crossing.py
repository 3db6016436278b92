"""Pages of another site that bring a key: browsers ask first whether they may, and whether they may read.

Chat front-ends in browsers are such pages. A key is no cookie, so who has it may use it from anywhere,
and of CORS (Fetch, 3.2) nothing but the plain form is needed: any origin, and no credentials of the
browser's own. A page without a key is refused by `guards`, and can not even read that.

The server's own replies (`serving.refusal`) say the same, by the same function. Where it has not read
the whole head it does not know who asks, and nobody is shown what it says: any page can bring about such
a reply (431 to a long address), and would know by it that a hub is here.
"""

from typing import Any, Final

Headers = list[tuple[bytes, bytes]]

_ANYBODY: Final = (b"access-control-allow-origin", b"*")
# What a page may read besides the body.
_SHOWN: Final = (
    b"access-control-expose-headers",
    (
        b"X-Request-Id, X-Should-Retry, Retry-After, ETag, "
        b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
    ),
)
ALLOWED: Final[Headers] = [
    _ANYBODY,
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    # The star does not stand for Authorization (Fetch, 3.2.5).
    (b"access-control-allow-headers", b"Authorization, *"),
    # As long as any browser keeps it.
    (b"access-control-max-age", b"7200"),
]


def is_preflight(scope: dict[str, Any]) -> bool:
    """Tell whether a browser only asks whether a page may make a request; it brings no key for that."""
    return scope["method"] == "OPTIONS" and _has(
        scope["headers"], b"origin", b"access-control-request-method"
    )


def shown_to(request: Headers) -> Headers:
    """Return the headers of a reply that let a page of another site read it: only one that brings a key.

    Args:
        request: The headers of what is replied to.
    """
    return [_ANYBODY, _SHOWN] if _has(request, b"origin", b"authorization") else []


def _has(headers: Headers, *names: bytes) -> bool:
    return all(any(key == name for key, _ in headers) for name in names)
