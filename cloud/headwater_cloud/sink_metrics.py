"""What the sink says of itself, in `/health` and in `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SHOWN = (
    (CounterMetricFamily, "points", "Points that the store took.", "points"),
    (CounterMetricFamily, "requests", "Requests to the store.", "requests"),
    (CounterMetricFamily, "requests_failed", "Requests that the store did not take, and that are tried again.", "failed"),
    (CounterMetricFamily, "splits", "Requests that were cut in halves, for a line of it was refused.", "split"),
    (CounterMetricFamily, "points_beyond_retention", "Points that the store dropped: older than it keeps them.", "beyond_retention"),
    (CounterMetricFamily, "points_left_out", "Points that were not written: beyond max_series.", "left_out"),
    (GaugeMetricFamily, "dead_letters", "Points that the store refused for ever.", "dead_letters"),
    (GaugeMetricFamily, "tag_sets", "Distinct sets of tags that were written.", "tag_sets"),
    (GaugeMetricFamily, "changes_behind", "Commits of the cloud side that are not in the store yet.", "behind"),
    (GaugeMetricFamily, "behind_seconds", "How long ago the oldest of these was made.", "behind_s"),
    (GaugeMetricFamily, "catching_up", "Whether older rows are being written beside.", "catching_up"),
    (GaugeMetricFamily, "failing", "Whether the store takes nothing now.", "failing"),
)  # fmt: skip


class SinkMetrics(Collector):
    """Counters and gauges, as they are when they are asked for."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Make the families."""
        status = self._status()
        for kind, name, text, key in _SHOWN:
            family = kind(f"headwater_sink_{name}", text)
            family.add_metric([], float(status[key]))
            yield family
