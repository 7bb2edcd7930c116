"""The process's counters and gauges; names and texts stand in `metric_names`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from headwater_cloud.metric_names import cloud
from headwater_cloud.outputs import ReportKind
from headwater_cloud.skew import Skew
from headwater_shared.trace import trace_of


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
        for kind in get_args(ReportKind):
            self.reports.labels(kind)  # from 0 on: a rate does not see the first of what was not there
        for reason in _REASONS:
            self.dead.labels(reason)
        self._skew = Skew()
        self._gauge("shard_skew_ratio").set_function(self._skew.value)
        self.lag = self._gauge("lag_records")
        self.outputs = self._gauge("outputs_waiting")
        self.commit_seconds = self._histogram("commit_seconds", _COMMIT_S)
        self._commit_latency = self._histogram("commit_latency_seconds", _LATENCY_S)
        self._send_seconds = self._histogram("notification_send_seconds", _COMMIT_S)
        self._told_latency = self._histogram("notification_latency_seconds", _LATENCY_S)

    def _counter(self, name: str) -> Counter:
        metric = cloud(f"{name}_total")
        return Counter(metric.family, metric.text, metric.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        metric = cloud(name)
        return Gauge(metric.name, metric.text, metric.labels, registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        metric = cloud(name)
        return Histogram(metric.name, metric.text, metric.labels, registry=self.registry, buckets=buckets)

    def committed(self, made: Iterable[tuple[int, str]], now_us: int) -> None:
        """Rows are committed: when each was made, and its `traceparent`; all in the machine's wall time."""
        for made_us, traceparent in made:
            self._commit_latency.observe(max(0, now_us - made_us) / 1e6, _exemplar(traceparent))

    def took(self, route: str, took_s: float) -> None:
        """The receiver of a route took a message."""
        self._send_seconds.labels(route).observe(took_s)

    def delivered(self, route: str, began_us: int, now_us: int, traceparent: str) -> None:
        """A route took the first message of an incident: since when there was something to tell, and when that was; as `committed`."""
        took_s = max(0, now_us - began_us) / 1e6
        self._told_latency.labels(route).observe(took_s, _exemplar(traceparent))

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


def _exemplar(traceparent: str) -> dict[str, str] | None:
    return {"trace_id": trace_of(traceparent)} if traceparent else None


_REASONS = ("damaged", "unknown-version", "unknown-kind", "wrong-shard", "poison", "late")
_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LATENCY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
"""Upper ends of buckets, in seconds."""

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
