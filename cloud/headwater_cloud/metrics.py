"""The process's counters and gauges, under names that stay."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from headwater_cloud.skew import Skew


class Metrics:
    """What `/metrics` shows; one registry of its own, so that tests may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self.records = counter("records", "Records read from the bus.")
        self.frames = counter("frames", "Frames taken in, repeats not counted.")
        self.rows = counter("rows", "Parts taken in.")
        self.windows = counter("windows", "Windows written, each time they changed.")
        self.rollups = counter("rollups", "Rollups of sites, and of all sites, taken in by second stages.")
        self.compared = counter("compared", "Windows of cohorts in shards taken in by comparisons.")
        self.compared_late = counter("compared_late", "Those that came for windows that are no longer kept.")
        self.found = counter("found", "Devices found to be outliers among their peers, or found no longer.")
        self.anomalies = counter("anomalies", "Anomalies taken in.")
        self.commands = counter("commands", "Records of commands to devices taken in.")
        self.repeats = counter("repeats", "Rows that came again and were dropped.")
        self.clocks_ignored = counter("clocks_ignored", "Clock records too far from their append time.")
        self.evidence_forgotten = counter(
            "evidence_forgotten",
            "Evidence of patterns let go, for it was old, or one of too many of its key.",
        )
        self.commits = counter("commits", "Commits of the cloud's file.")
        self.dead = counter("dead_letters", "What was not taken.", "reason")
        self.reports = counter("reports", "Reports about agents' streams.", "kind")
        self.alerts = counter("alert_changes", "Alerts that fired or were resolved.", "state")
        self.shard_rows = counter("shard_rows", "Parts taken in, by shard.", "shard")
        self._skew = Skew()
        skew = gauge(
            "skew", "Rows of the busiest shard against the mean of this process's, over the last minutes."
        )
        skew.set_function(self._skew.value)
        self.lag = gauge("lag_records", "Records appended and not yet read.")
        self.outputs = gauge("outputs_waiting", "Outputs committed and not yet on the bus.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"headwater_cloud_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"headwater_cloud_{name}", text, registry=self.registry)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add what a batch counted; "dead REASON" goes by reason, "shard N" are rows."""
        for name, number in counts.items():
            if name.startswith("dead "):
                self.dead.labels(name.removeprefix("dead ")).inc(number)
            elif name.startswith("shard "):
                shard = name.removeprefix("shard ")
                self.shard_rows.labels(shard).inc(number)
                self._skew.add(int(shard), number)
            elif name != "dead":
                getattr(self, name).inc(number)
