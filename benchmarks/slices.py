"""A slice: a short time on one side, and the arithmetic of what it found."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from benchmarks.sides import Target

Figures = dict[str, float]
"""What one slice found, by column; a column that could not be measured is not there."""


@dataclass(frozen=True)
class Slice:
    """A short time on one side.

    Attributes:
        target: The side.
        provider: The provider behind it, which is asked what it saw.
        seconds: How long it is measured, when it is ready.
        slow_streams: How many of them are held open at once.
    """

    target: Target
    provider: Target
    seconds: float
    slow_streams: int


def turns(seconds: float) -> Iterator[int]:
    """Count from 0 until the time is over, once at least."""
    end = time.perf_counter() + seconds
    for number in count():
        yield number
        if time.perf_counter() >= end:
            return


def percentile(values: Iterable[float], percent: int) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def spread(values: list[float]) -> Figures:
    """Median and tail of some seconds; nothing of none."""
    return {"p50 ms": percentile(values, 50) * 1e3, "p99 ms": percentile(values, 99) * 1e3} if values else {}
