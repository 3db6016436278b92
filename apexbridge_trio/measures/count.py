"""One number, or one histogram, for each combination of labels; how many there are is bounded."""

from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar

from apexbridge_trio.histogram import Histogram

T = TypeVar("T")
Labels = tuple[str, ...]

# Beyond it all that is new goes into one series, named "other": a provider that lists ten thousand
# models costs its models their names here, and nobody any memory.
MOST_SERIES: Final = 500
OTHER: Final = "other"


class _Family(Generic[T]):
    def __init__(self, *names: str) -> None:
        self.names: Final = names
        self._series: dict[Labels, T] = {}

    def __len__(self) -> int:
        return len(self._series)

    def __iter__(self) -> Iterator[tuple[Labels, T]]:
        return iter(self._series.items())

    def _labels(self, labels: Labels) -> Labels:
        is_room = labels in self._series or len(self._series) < MOST_SERIES
        return labels if is_room else (OTHER,) * len(self.names)


class Counts(_Family[float]):
    """Numbers, by labels.

    Args:
        names: Of the labels.
    """

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to the number of these labels."""
        found = self._series.get(labels)
        if found is None:
            labels = self._labels(labels)
            found = self._series.get(labels, 0)
        self._series[labels] = found + amount

    def of(self, *labels: str) -> float:
        """Return the number of these labels."""
        return self._series.get(labels, 0)


class Histograms(_Family[Histogram]):
    """Histograms, by labels.

    Args:
        names: Of the labels.
        bounds: Of each histogram.
    """

    def __init__(self, *names: str, bounds: Sequence[float]) -> None:
        super().__init__(*names)
        self._bounds = bounds

    def add(self, labels: Labels, value: float) -> None:
        """Count a value under these labels."""
        found = self._series.get(labels)
        if found is None:
            found = self._series.setdefault(self._labels(labels), Histogram(self._bounds))
        found.add(value)

    def of(self, *labels: str) -> Histogram:
        """Return the histogram of these labels; an empty one, if nothing was counted."""
        return self._series.get(labels) or Histogram(self._bounds)
