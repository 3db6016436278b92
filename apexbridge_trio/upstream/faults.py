"""What a provider's error means for the one who asked."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from apexbridge_trio.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnreachable,
)

MAX_SAID_CHARS: Final = 500  # enough for what OpenAI, vLLM and Ollama say; a page of HTML is cut


# OpenAI's words and paths, `context_length_exceeded` and `messages.[0].content`; anything else is none.
_WORD: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


class Said(Struct, frozen=True):
    """What a provider says of its refusal, without the key; each may be empty."""

    message: str = ""
    code: str = ""
    param: str = ""


def fault_of(name: str, status: int, said: Said, retry_after_s: float | None) -> UpstreamError:
    """Map a provider's status to the error that the hub tells its client.

    Args:
        name: The provider's.
        status: Any but 2xx.
        said: The provider's own words, without secrets. Those about keys are not passed on.
        retry_after_s: As the provider wishes.
    """
    if status in {401, 403}:
        return UpstreamRefused(f"The key of upstream {name} was refused.", upstream_status=status)
    message = f"Upstream {name} answered {status}" + (f": {said.message}" if said.message else ".")
    if status == 429:
        return UpstreamLimited(message, retry_after_s=retry_after_s)
    # 408 is the provider's own timeout; above 504 are what gateways add (520-524, 529).
    if status == 408 or status >= 500:
        return UpstreamError(message, retry_after_s=retry_after_s)
    return UpstreamRefused(message, upstream_status=status, said_code=said.code, said_param=said.param)


def is_worth_repeating(fault: UpstreamError) -> bool:
    """Whether the same request may be answered in a moment, and repeating it does no harm.

    A connection that failed or ended before the first byte, and the statuses by which a provider
    says that it did not answer. What broke later or fell silent may be at work still.
    """
    return isinstance(fault, UpstreamUnreachable | UpstreamBusy) or type(fault) is UpstreamError


def says_it_lives(fault: UpstreamError) -> bool:
    """Whether the provider itself answered, so that its circuit has no reason to open."""
    return isinstance(fault, UpstreamRefused | UpstreamBusy)


def said_in(body: bytes, secret: str) -> Said:
    """Find what an error body says, without the key; the message is cut to `MAX_SAID_CHARS`."""
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = body.decode("utf-8", "replace")
    found = document.get("error") if isinstance(document, dict) else None
    found = found if isinstance(found, dict) else {}
    # {"error": {"message"}} is OpenAI's, {"error": str} Ollama's, {"message"} and {"detail"} others'.
    for key in ("error", "message", "detail"):
        if isinstance(document, dict) and document.get(key):
            document = document[key]
    said = document if isinstance(document, str) else ""
    message = (said.replace(secret, "***") if secret else said)[:MAX_SAID_CHARS]
    return Said(message, _word(found.get("code"), secret), _word(found.get("param"), secret))


def _word(value: Any, secret: str) -> str:
    is_one = isinstance(value, str) and _WORD.fullmatch(value) and not (secret and secret in value)
    return value if is_one else ""


def retry_after_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Read how long the provider wants to be left alone, in seconds; None if it does not say."""
    if (wait_ms := _number(headers.get(b"retry-after-ms"))) is not None:  # OpenAI's, the finer one
        return wait_ms / 1000
    value = headers.get(b"retry-after")
    if value is None or (wait_s := _number(value)) is not None:
        return wait_s if value else None
    try:
        at = parsedate_to_datetime(value.decode("ascii", "replace"))
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
