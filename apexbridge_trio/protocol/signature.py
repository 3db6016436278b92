"""Signed callbacks: Standard Webhooks 1.0, and the HMAC pair that older plugins send.

What is signed is the raw body. Neither form signs the path, so a signature says that a plugin wrote
this body lately, and not which task it is for: whoever takes it remembers the `Signed.id` together
with the task, and refuses it for another one.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from msgspec import Struct

from apexbridge_trio.errors import SignatureInvalid

# Standard Webhooks 1.0 recommends five minutes to either side.
TOLERANCE_S: Final = 300
# Its secrets are base64 behind this prefix, its symmetric signatures stand behind that version.
_ENCODED: Final = "whsec_"
_VERSION: Final = "v1"
# One while nothing changes, two during a rotation; more would only make us compute.
_MOST_SIGNATURES: Final = 10


class Signed(Struct, frozen=True):
    """A signature that is right.

    Attributes:
        id: What tells this message from others of its sender, for the memory of those seen.
    """

    id: str


def webhook_key(secret: str) -> bytes:
    """Return the HMAC key of a secret: decoded if it is in Standard Webhooks' form, else its bytes."""
    if secret.startswith(_ENCODED):
        try:
            return b64decode(secret.removeprefix(_ENCODED), validate=True)
        except binascii.Error:
            pass  # a secret of somebody's own that only looks like one
    return secret.encode()


def sign_webhook(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` of a body, for a time in seconds since the epoch."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(webhook_key(secret), content, sha256)
    return f"{_VERSION},{b64encode(digest).decode()}"


def sign_legacy(secret: str, authorization: str, timestamp: int, body: bytes) -> str:
    """Return the ``X-Signature`` of a body and of the request's ``Authorization`` value."""
    return _legacy(secret, authorization, str(timestamp), body)


def check_webhook(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, *, now: float) -> Signed:
    """Check ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.

    One of the signatures must fit one of the secrets, so either side can rotate.

    Args:
        secrets: The sender's, in any order.
        headers: By name in lower case.
        body: The bytes as they came.
        now: Seconds since the epoch.

    Raises:
        SignatureInvalid: It is not signed this way, too old, of the future, or wrong.
    """
    message_id = headers.get("webhook-id", "")
    if not message_id:
        raise SignatureInvalid("There is no webhook-id.")
    timestamp = _timely(headers.get("webhook-timestamp", ""), now)
    offered = headers.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
    right = [sign_webhook(secret, message_id, timestamp, body) for secret in secrets]
    _require_a_match(offered, right)
    return Signed(f"id:{message_id}")


def check_legacy(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, *, now: float) -> Signed:
    """Check the pair ``X-Timestamp`` and ``X-Signature``; arguments as in `check_webhook`.

    Raises:
        SignatureInvalid: It is not signed this way, too old, of the future, or wrong.
    """
    timestamp = headers.get("x-timestamp", "")
    _timely(timestamp, now)
    offered = headers.get("x-signature", "").lower()
    authorization = headers.get("authorization", "")
    _require_a_match([offered], [_legacy(secret, authorization, timestamp, body) for secret in secrets])
    return Signed(f"signature:{offered}")


def _legacy(secret: str, authorization: str, timestamp: str, body: bytes) -> str:
    content = authorization.encode("latin-1", "replace") + timestamp.encode() + body
    return hmac.digest(secret.encode(), content, sha256).hex()


def _timely(timestamp: str, now: float) -> int:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise SignatureInvalid("The timestamp is not in seconds since the epoch.")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise SignatureInvalid(f"The timestamp is more than {TOLERANCE_S} s away from the hub's clock.")
    return int(timestamp)


def _require_a_match(offered: Iterable[str], right: Iterable[str]) -> None:
    """Compare each with each, in a time that tells nothing of where they differ."""
    tries = [(one.encode(), other.encode()) for one in offered for other in right]
    if not sum(hmac.compare_digest(one, other) for one, other in tries):
        raise SignatureInvalid("The signature does not fit.")
