"""The page: what the rooms hold is read at this moment, and put in order by the library.

The library is imported by the first scrape, in a thread (0.1 s); in a hub that nobody watches it never is.
"""

import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import trio

from apexbridge_trio.hub import Hub
from apexbridge_trio.metrics.families import Family
from apexbridge_trio.metrics.process import process_families
from apexbridge_trio.metrics.rooms import room_families
from apexbridge_trio.metrics.traffic import traffic_families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LIBRARY: Final = "prometheus_client"

# What every Prometheus reads, whichever version the library would like better.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    """What the library asks for the families; made for one page."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        for family in self._families:
            yield family.metric()


async def metrics_text(hub: Hub) -> bytes:
    """Write the whole page; what is on it was so in one moment, which takes 2 ms, and 10 with 200 nodes."""
    if LIBRARY not in sys.modules:
        await trio.to_thread.run_sync(importlib.import_module, LIBRARY)
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    families = [*traffic_families(hub), *room_families(hub), *process_families()]
    registry.register(_Collector(families))
    return generate_latest(registry)
