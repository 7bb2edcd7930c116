"""What `/metrics` shows of notifications, by route, as it is when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headwater_cloud.metric_names import cloud
from headwater_shared.metric import shown


class NotifyMetrics(Collector):
    """Of the process that sends; another one of the same file shows nothing."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Make the families."""
        routes = self._status().get("routes", {})
        for name, key in (
            ("sent_total", "sent"),
            ("failed_total", "failed"),
            ("waiting", "waiting"),
            ("refused", "refused"),
            ("oldest_seconds", "oldest_s"),
        ):
            values = [((route,), float(of[key])) for route, of in routes.items()]
            yield shown(cloud(f"notifications_{name}"), values)
        failing = [((route,), float(bool(of["failing"]))) for route, of in routes.items()]
        yield shown(cloud("notifications_failing"), failing)
