"""The process's counters and gauges; names and texts stand in `metric_names`."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from headwater_cloud.metric_names import cloud
from headwater_cloud.skew import Skew


class Metrics:
    """What `/metrics` shows; one registry of its own, so that tests may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.records = self._counter("records")
        self.commits = self._counter("commits")
        self.dead = self._counter("dead_letters")
        self.reports = self._counter("reports")
        self.alerts = self._counter("alert_changes")
        self._shard_parts = self._counter("shard_parts")
        self._counted = {key: self._counter(name) for key, name in _COUNTED.items()}
        self._skew = Skew()
        self._gauge("shard_skew_ratio").set_function(self._skew.value)
        self.lag = self._gauge("lag_records")
        self.outputs = self._gauge("outputs_waiting")

    def _counter(self, name: str) -> Counter:
        metric = cloud(f"{name}_total")
        return Counter(metric.family, metric.text, metric.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        metric = cloud(name)
        return Gauge(metric.name, metric.text, metric.labels, registry=self.registry)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add what a batch counted; "dead REASON" goes by reason, "shard N" are rows."""
        for name, number in counts.items():
            if name.startswith("dead "):
                self.dead.labels(name.removeprefix("dead ")).inc(number)
            elif name.startswith("shard "):
                shard = name.removeprefix("shard ")
                self._shard_parts.labels(shard).inc(number)
                self._skew.add(int(shard), number)
            elif name != "dead":
                self._counted[name].inc(number)


_COUNTED = {
    "frames": "frames",
    "rows": "parts",
    "windows": "windows_written",
    "rollups": "rollups",
    "compared": "compared_windows",
    "compared_late": "compared_late_windows",
    "found": "outliers",
    "anomalies": "anomalies",
    "commands": "commands",
    "repeats": "repeated_rows",
    "clocks_ignored": "clock_records_ignored",
    "evidence_forgotten": "evidence_forgotten",
    "statuses": "status_frames",
    "statuses_unknown": "status_values_unknown",
}
"""By what the operators count, the metric."""
