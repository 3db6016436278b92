"""One name of a metric with all its series."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from apexbridge_trio.histogram import Histogram
from apexbridge_trio.measures import Counts, Histograms

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Kind = Literal["counter", "gauge", "histogram"]


class Family(Struct):
    """What is written below one ``# HELP`` line.

    Args:
        name: Of Prometheus; of a counter without ``_total``.
        says: What it is, for people.
        labels: Names of its labels.
        kind: What its numbers are.
        numbers: By values of the labels.
        histograms: The same, for one that has those.
        values: Values that some labels have in all of its series.
    """

    name: str
    says: str
    labels: Sequence[str] = ()
    kind: Kind = "gauge"
    numbers: Iterable[tuple[Sequence[str], float]] = ()
    histograms: Iterable[tuple[Sequence[str], Histogram]] = ()
    values: dict[str, str] = field(default_factory=dict)

    def metric(self) -> "Metric":
        """Return it as the library's own."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        names, fixed = [*self.values, *self.labels], tuple(self.values.values())
        if self.kind == "histogram":
            family = HistogramMetricFamily(self.name, self.says, labels=names)
            for labels, found in self.histograms:
                family.add_metric((*fixed, *labels), found.buckets(), found.total)
            return family
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        simple = made(self.name, self.says, labels=names)
        for labels, number in self.numbers:
            simple.add_metric((*fixed, *labels), number)
        return simple


def counter(
    name: str, says: str, labels: Sequence[str], numbers: Iterable[tuple[Sequence[str], float]]
) -> Family:
    """Return a family whose numbers only grow."""
    return Family(name, says, labels, "counter", list(numbers))


def gauge(
    name: str, says: str, labels: Sequence[str], numbers: Iterable[tuple[Sequence[str], float]]
) -> Family:
    """Return a family of numbers as they are now."""
    return Family(name, says, labels, "gauge", list(numbers))


def one(name: str, says: str, number: float, kind: Kind = "gauge") -> Family:
    """Return a family of a single number."""
    return Family(name, says, kind=kind, numbers=[((), number)])


def counts(name: str, says: str, found: Counts, kind: Kind = "counter") -> Family:
    """Return what was counted as a family."""
    return Family(name, says, found.names, kind, list(found))


def histograms(name: str, says: str, found: Histograms, **values: str) -> Family:
    """Return histograms as a family; `values` are labels that all of them have."""
    return Family(name, says, found.names, "histogram", histograms=list(found), values=values)


def histogram(name: str, says: str, found: Histogram) -> Family:
    """Return a single histogram as a family."""
    return Family(name, says, kind="histogram", histograms=[((), found)])
