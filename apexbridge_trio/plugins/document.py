"""Finds the one JSON document in what a process writes, as it comes.

An object that begins a line is recognised with its last brace, so nobody waits for a process that
goes on, or for one that holds the pipe. Lines that are no such object are passed over. Any other JSON
(a list, a number, a text) has no end of its own: it is the answer if it is all that was written.
"""

import re
from typing import Final

import msgspec

from apexbridge_trio.plugins.output import Output

_SPACE: Final = re.compile(rb"\s*")
_OUTSIDE_TEXT: Final = re.compile(rb'["{}\[\]]')
_IN_TEXT: Final = re.compile(rb'["\\]')


class Document:
    """The search in one output.

    Args:
        limit: Bytes that are kept of an object, and again of what is beside it. The rest of an
            object is followed to its end and counted: it is known for too long, and not held.

    Attributes:
        is_complete: Whether an object was found; what comes after it is not looked at.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._object = bytearray()
        self._object_size = 0
        self._beside = bytearray()
        self._beside_size = 0
        self._depth = 0
        self._is_inside = self._in_line = self._in_text = self._is_escaped = False
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        """Take what was read next."""
        at = 0
        while at < len(data) and not self.is_complete:
            at = self._inside(data, at) if self._is_inside else self._outside(data, at)

    def output(self) -> Output | None:
        """Return what was found, at the latest when the output has ended; None: it is no JSON."""
        if self.is_complete:
            return Output(bytes(self._object), self._object_size)
        text = bytes(self._beside).strip()
        is_cut = self._beside_size > self._limit
        if is_cut and text.startswith((b"[", b'"')):
            return Output(text, self._beside_size)
        return Output(text, len(text)) if _is_json(text) and not is_cut and not self._is_inside else None

    @property
    def beginning(self) -> str:
        """The first words of an output that is no JSON."""
        return bytes(self._beside[:200] or self._object[:200]).decode("utf-8", "replace").strip()

    def _outside(self, data: bytes, at: int) -> int:
        """Go on to where an object begins a line."""
        if self._in_line:
            end = data.find(b"\n", at) + 1 or len(data)
            self._in_line = data[end - 1 : end] != b"\n"
        else:
            space = _SPACE.match(data, at)
            assert space is not None  # the pattern takes nothing too
            end = space.end()
            self._is_inside = data[end : end + 1] == b"{"
            self._in_line = not self._is_inside and end < len(data)
        self._beside += data[at:end][: max(0, self._limit - len(self._beside))]
        self._beside_size += end - at
        return end

    def _inside(self, data: bytes, at: int) -> int:
        """Go on to the object's last brace."""
        end = self._brace(data, at)
        self._object += data[at:end][: max(0, self._limit - len(self._object))]
        self._object_size += end - at
        if self._depth == 0:
            self._close()
        return end

    def _brace(self, data: bytes, at: int) -> int:
        while at < len(data):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = (_IN_TEXT if self._in_text else _OUTSIDE_TEXT).search(data, at)
            if found is None:
                return len(data)
            at = found.end()
            self._mark(found[0])
            if self._depth == 0:
                break
        return at

    def _mark(self, sign: bytes) -> None:
        if sign == b'"':
            self._in_text = not self._in_text
        elif sign == b"\\":
            self._is_escaped = True
        else:
            self._depth += 1 if sign in b"{[" else -1

    def _close(self) -> None:
        self._is_inside = False
        if self._object_size > self._limit or _is_json(bytes(self._object)):
            self.is_complete = True
            return
        self._beside += self._object[: max(0, self._limit - len(self._beside))]
        self._beside_size += self._object_size
        self._object.clear()
        self._object_size = 0
        self._in_line = True


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # or none that can be read
        return False
    return True
