"""Durations, times, receipts and the text of others, as a terminal shows them."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# What a model writes must not move the cursor, retitle the window or turn text around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Leave out of a text what would command the terminal; line ends and tabs stay."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Put a text of somebody else into one line that commands nothing."""
    return printable(" ".join(text.split()))


def local_time(ms: int) -> str:
    """Write a time since the epoch as the clock on the wall shows it."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def local_stamp(iso: str) -> str:
    """Write a time that came as ISO 8601 the same way, to the millisecond; what is none stays as it is."""
    try:
        at = datetime.fromisoformat(iso)
    except ValueError:
        return one_line(iso)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def since(ms: int | None) -> str:
    """Write how long ago that was; the hub's clock may be a little ahead of this machine's."""
    return "" if ms is None else age(max(0.0, time.time() - ms / 1000))


def age(seconds: float) -> str:
    """Write seconds for a table: in one unit, in which there are at least two of them."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def duration(ms: float) -> str:
    """Write milliseconds as people say them."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def receipt_words(receipt: Mapping[str, Any]) -> str:
    """Say what an interrupt has stopped, how long each part took, and what it has not."""
    branches = [
        f"  {branch['kind']} {branch['path']}: {branch['state']}, {duration(branch['ms'])}"
        for branch in receipt["branches"]
    ]
    left = [f"  not stopped yet: {path}" for path in receipt["notStopped"]]
    return printable("\n".join([_head(receipt), *branches, *left]))


def _head(receipt: Mapping[str, Any]) -> str:
    took = duration(receipt["tookMs"])
    if receipt["notStopped"]:
        return f"{receipt['requestId']} is still stopping after {took}"
    if not receipt["interrupted"]:
        return f"{receipt['requestId']} had come to its own end"
    return f"{receipt['requestId']} stopped in {took}"
