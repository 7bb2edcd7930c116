"""What HTTP push counts, plainly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


@dataclass(slots=True)
class HttpCounts:
    """Plain numbers; `register` shows them to Prometheus."""

    accepted: int = 0
    messages: int = 0
    bytes: int = 0
    repeated: int = 0
    """Requests that came again under their idempotency key."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers by status; 200 is an acknowledgement."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests and connections of which nothing was taken, by reason."""


def register(
    registry: CollectorRegistry,
    counts: HttpCounts,
    connections: Callable[[], int],
    waiting: Callable[[], int],
) -> None:
    """Show the numbers in a registry; they are read when it is scraped, in whatever thread."""
    registry.register(_Collector(counts, connections, waiting))


class _Collector:
    def __init__(
        self, counts: HttpCounts, connections: Callable[[], int], waiting: Callable[[], int]
    ) -> None:
        self._counts = counts
        self._connections = connections
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of this moment."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts, name = self._counts, "headwater_http_"
        yield GaugeMetricFamily(name + "connections", "HTTP connections open now.", self._connections())
        yield GaugeMetricFamily(
            name + "waiting_bytes", "Bytes of bodies on the way in or waiting for the disk.", self._waiting()
        )
        for word, value, text in (
            ("accepted", counts.accepted, "HTTP connections accepted."),
            ("messages", counts.messages, "Messages received by HTTP."),
            ("bytes", counts.bytes, "Bytes received by HTTP."),
            ("repeated", counts.repeated, "HTTP requests that came again under their idempotency key."),
        ):
            yield CounterMetricFamily(name + word, text, value)
        answers = CounterMetricFamily(name + "answers", "HTTP answers by status.", labels=["status"])
        for status, count in counts.answers.copy().items():
            answers.add_metric([str(status)], count)
        yield answers
        refused = CounterMetricFamily(
            name + "refused", "HTTP requests and connections of which nothing was taken.", labels=["reason"]
        )
        for reason, count in counts.refused.copy().items():
            refused.add_metric([reason], count)
        yield refused
