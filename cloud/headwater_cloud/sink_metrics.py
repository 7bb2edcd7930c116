"""What the sink says of itself, in `/health` and in `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headwater_cloud.metric_names import SINK
from headwater_shared.metric import shown

_SHOWN = {
    "points_total": "points",
    "requests_total": "requests",
    "requests_failed_total": "failed",
    "splits_total": "split",
    "points_beyond_retention_total": "beyond_retention",
    "points_left_out_total": "left_out",
    "dead_letters": "dead_letters",
    "tag_sets": "tag_sets",
    "changes_behind": "behind",
    "behind_seconds": "behind_s",
    "catching_up": "catching_up",
    "failing": "failing",
}
"""By the end of the metric's name, the key of the status."""


class SinkMetrics(Collector):
    """Counters and gauges, as they are when they are asked for."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Make the families."""
        status = self._status()
        for name, key in _SHOWN.items():
            yield shown(SINK[f"headwater_sink_{name}"], float(status[key]))
