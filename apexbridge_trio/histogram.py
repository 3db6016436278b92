"""How many were how large: one histogram, cheap to add to."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

# The boundaries that OpenTelemetry's semantic conventions for generative AI advise (version 1.37).
OPERATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
)  # fmt: skip
TOKENS: Final = tuple(float(4**power) for power in range(14))
# Ours: a step of the loop or of the disk, from well to what everybody feels.
SHORT_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Histogram:
    """Counts what it is told by how large it is.

    Args:
        bounds: The largest value of each bucket, ascending; above the last there is one more.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def __len__(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus writes them: up to which value, and how many are not above it."""
        names = [*map(repr, self._bounds), "+Inf"]
        return list(zip(names, accumulate(map(float, self._counts)), strict=True))
