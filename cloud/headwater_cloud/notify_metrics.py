"""What `/metrics` shows of notifications, by route, as it is when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class NotifyMetrics(Collector):
    """Of the process that sends; another one of the same file shows nothing."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Make the families."""
        routes = self._status().get("routes", {})
        for kind, name, text, key in (
            (CounterMetricFamily, "sent", "Notifications delivered.", "sent"),
            (CounterMetricFamily, "failed", "Tries that did not deliver.", "failed"),
            (GaugeMetricFamily, "waiting", "Notifications that wait.", "waiting"),
            (GaugeMetricFamily, "refused", "Notifications that were refused, and that nobody had tried again.", "refused"),
            (GaugeMetricFamily, "oldest_seconds", "How long the oldest waits.", "oldest_s"),
        ):  # fmt: skip
            family = kind(f"headwater_cloud_notifications_{name}", text, labels=["route"])
            for route, of in routes.items():
                family.add_metric([route], of[key])
            yield family
