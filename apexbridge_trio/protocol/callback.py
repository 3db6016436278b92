"""What a plugin says of its task: the body of ``POST /plugin-callback/{plugin}/{taskId}``."""

from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.protocol.openai import encode, read_json

Status = Literal["success", "failed", "progress"]

# The contract's words first, then those of older plugins; compared without case.
STATUS_WORDS: Final[dict[str, Status]] = {
    "success": "success",
    "failed": "failed",
    "progress": "progress",
    "succeed": "success",
    "succeeded": "success",
    "completed": "success",
    "error": "failed",
    "pollingtimeout": "failed",
}
_LONGEST_MESSAGE: Final = 2000

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_in_order: Final = msgspec.json.Encoder(order="sorted").encode


class Callback(Struct, frozen=True):
    """One callback, read.

    Attributes:
        body: As it came.
        digest: The same for bodies that say the same, in whatever order and spacing.
        value: The result of a success: ``output``, else ``result``, else all but the status.
        message: For people: of a failure why, of progress what is done now; it may be empty.
        progress: From 0 to 1, if it was said.
    """

    status: Status
    body: bytes
    digest: bytes
    value: Any
    message: str
    progress: float | None


def read_callback(body: bytes) -> Callback:
    """Read a callback's body.

    Raises:
        BadRequest: It is no JSON object, or its status is none.
    """
    fields = read_json(body, _decode)
    status = _status(fields.get("status"))
    return Callback(
        status,
        body,
        sha256(_in_order(fields)).digest(),
        _value(fields),
        _message(fields, status),
        _progress(fields.get("progress")),
    )


def _status(said: object) -> Status:
    known = STATUS_WORDS.get(said.strip().lower()) if isinstance(said, str) else None
    if known is None:
        raise BadRequest("status: expected success, failed or progress.", param="status")
    return known


def _value(fields: dict[str, Any]) -> Any:
    for name in ("output", "result"):
        if name in fields:
            return fields[name]
    return {name: value for name, value in fields.items() if name != "status"}


def _message(fields: dict[str, Any], status: Status) -> str:
    said = fields.get("message")
    if status == "failed":
        said = fields.get("error") or said or fields.get("result") or "The plugin did not say why."
    if isinstance(said, dict):
        said = said.get("message") or said
    text = said if isinstance(said, str) else encode(said).decode() if said is not None else ""
    return text[:_LONGEST_MESSAGE]


def _progress(said: object) -> float | None:
    if said is None:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= 1:
        raise BadRequest("progress: expected a number from 0 to 1.", param="progress")
    return float(said)
