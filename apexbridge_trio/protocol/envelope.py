"""A WebSocket frame of any channel: one object ``{"type", "data"}``."""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

T = TypeVar("T")


class Envelope(Struct):
    """Any frame: what it is, and the rest unread."""

    type: str
    data: Raw = Raw(b"{}")


_read_envelope: Final = msgspec.json.Decoder(Envelope).decode
_encode: Final = msgspec.json.Encoder().encode


class FrameInvalid(Exception):
    """A frame that is none; `type` is what it said it is, as far as it could be read."""

    def __init__(self, message: str, type_: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.type = type_


def read_envelope(text: str | bytes) -> Envelope:
    """Read what a frame is.

    Raises:
        FrameInvalid: It is not one JSON object with a type, or no UTF-8; what is kept unread is, too.
    """
    try:
        if not isinstance(text, str):
            text = text.decode()
        return _read_envelope(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise FrameInvalid(f"A frame is one JSON object with type and data: {fault}"[:300]) from None


def read_data(kind: type[T], data: Raw) -> T:
    """Read a frame's ``data``.

    Raises:
        FrameInvalid: Each fault with its field, joined by "; ".
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise FrameInvalid("; ".join(_faults(kind, data)) or str(fault)[:300]) from None


def _faults(kind: type[Any], data: Raw) -> list[str]:
    """Look at each field by itself: a decoder stops at the first fault."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        return [str(fault)[:300]]
    found = []
    for field in msgspec.structs.fields(kind):
        if (value := fields.get(field.encode_name)) is None:
            if field.required:
                found.append(f"{field.encode_name} is missing")
            continue
        try:
            msgspec.json.decode(value, type=field.type)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
            found.append(f"{field.encode_name}: {fault}"[:300])
    return found


def frame(value: Any) -> bytes:
    """Write a frame as UTF-8, never ASCII-escaped."""
    return _encode({"type": value.frame, "data": value})
