"""``GET /metrics``: the hub's state and counts as Prometheus reads them, written when it asks."""

from apexbridge_trio.metrics.text import CONTENT_TYPE, metrics_text

__all__ = ["CONTENT_TYPE", "metrics_text"]
