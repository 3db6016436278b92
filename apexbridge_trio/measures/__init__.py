"""What the hub counts while it works, as plain numbers; `metrics` writes them for Prometheus.

Nothing here knows how it is shown, so a chat pays for a few additions and nobody waits. The names
of a series come from the config, the plugins, the nodes or this code; what a client writes never does.
"""

from apexbridge_trio.histogram import Histogram
from apexbridge_trio.measures.count import Counts, Histograms, Labels
from apexbridge_trio.measures.lag import Lag
from apexbridge_trio.measures.measures import Measures, usage_facts

__all__ = ["Counts", "Histogram", "Histograms", "Labels", "Lag", "Measures", "usage_facts"]
