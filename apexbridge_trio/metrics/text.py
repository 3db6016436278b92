"""The page: what the rooms hold is read at this moment, and put in order by the library.

The library is imported by the first scrape (70 ms, once); a hub that nobody watches never does.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from apexbridge_trio.hub import Hub
from apexbridge_trio.metrics.families import Family
from apexbridge_trio.metrics.process import process_families
from apexbridge_trio.metrics.rooms import room_families
from apexbridge_trio.metrics.traffic import traffic_families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# What every Prometheus reads, whichever version the library would like better.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    """What the library asks for the families; made for one page."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        for family in self._families:
            yield family.metric()


def metrics_text(hub: Hub) -> bytes:
    """Write the whole page; it blocks for about 1 ms, and 10 with 200 nodes."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    families = [*traffic_families(hub), *room_families(hub), *process_families()]
    registry.register(_Collector(families))
    return generate_latest(registry)
