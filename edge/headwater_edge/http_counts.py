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
        from headwater_shared.agent_metrics import edge
        from headwater_shared.metric import shown

        counts = self._counts
        yield shown(edge("http_connections"), self._connections())
        yield shown(edge("http_waiting_bytes"), self._waiting())
        for name, value in (
            ("connections_accepted", counts.accepted),
            ("messages", counts.messages),
            ("received_bytes", counts.bytes),
            ("repeated", counts.repeated),
        ):
            yield shown(edge(f"http_{name}_total"), value)
        answers = [((str(status),), count) for status, count in counts.answers.copy().items()]
        yield shown(edge("http_answers_total"), answers)
        refused = [((reason,), count) for reason, count in counts.refused.copy().items()]
        yield shown(edge("http_refused_total"), refused)
