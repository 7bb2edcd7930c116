"""What the listener counts, plainly, and how it says what went wrong without flooding the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headwater_shared.errors import HeadwaterError
from headwater_shared.logs import get_logger

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

log = get_logger()

_LINES, _WINDOW_S = 5, 60.0
"""Lines that one reason may write in each window; the rest is counted, and said with the next line."""


@dataclass(slots=True)
class ListenerCounts:
    """Plain numbers, since the hot path adds to them; `register` shows them to Prometheus."""

    accepted: int = 0
    handshakes: int = 0
    """TLS handshakes that succeeded."""
    messages: int = 0
    bytes: int = 0
    acknowledgements: int = 0
    """PUBACKs and PUBRECs."""
    dropped: int = 0
    """Messages at QoS 0 that came while nothing was taken in (R18)."""
    ended: Counter[str] = field(default_factory=Counter)
    """Connections that had connected, by why they ended."""
    refused: Counter[str] = field(default_factory=Counter)
    """Clients that were not let in, by reason."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Packets that are malformed or not allowed, by reason."""


class Who(Protocol):
    """Whom a line is about."""

    client: str
    address: str


class Complaints:
    """Log lines about clients: a few a reason and minute, however many clients do the same."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, event: str, error: HeadwaterError, reason: str, connection: Who) -> None:
        """Write one line, unless this reason has had its lines for now; `error` says what was wrong."""
        now = self._monotonic()
        begin, count = self._said.get(reason, (now, 0))
        unsaid = 0
        if now - begin >= _WINDOW_S:
            unsaid = max(0, count - _LINES)
            begin, count = now, 0
        self._said[reason] = (begin, count + 1)
        if count >= _LINES:
            return
        more = {"unsaid": unsaid} if unsaid else {}
        if count == _LINES - 1:
            more["silent_s"] = round(begin + _WINDOW_S - now)
        who = {"client": connection.client.rpartition("\0")[2], "address": connection.address}
        user = getattr(connection, "user", "") or getattr(connection, "identity", "")
        if user:  # who posts has said so in a header, and who stands at the door not yet
            who["user"] = user
        log.warning(event, reason=reason, error=error, **who, **more)


def register(
    registry: CollectorRegistry,
    counts: ListenerCounts,
    connections: Callable[[], int],
    at_the_door: Callable[[], int],
    certificate_ends_s: Callable[[], float | None],
) -> None:
    """Show the numbers in a registry; they are read when it is scraped, in whatever thread."""
    registry.register(_Collector(counts, connections, at_the_door, certificate_ends_s))


class _Collector:
    def __init__(
        self,
        counts: ListenerCounts,
        connections: Callable[[], int],
        at_the_door: Callable[[], int],
        certificate_ends_s: Callable[[], float | None],
    ) -> None:
        self._counts = counts
        self._connections = connections
        self._at_the_door = at_the_door
        self._certificate_ends_s = certificate_ends_s

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of this moment."""
        from headwater_shared.agent_metrics import edge
        from headwater_shared.metric import shown

        counts = self._counts
        yield shown(edge("listener_connections"), self._connections())
        yield shown(edge("listener_unidentified_connections"), self._at_the_door())
        ends_s = self._certificate_ends_s()
        if ends_s is not None:
            yield shown(edge("listener_certificate_expiry_timestamp_seconds"), ends_s)
        for name, value in (
            ("connections_accepted", counts.accepted),
            ("handshakes", counts.handshakes),
            ("messages", counts.messages),
            ("received_bytes", counts.bytes),
            ("acknowledgements", counts.acknowledgements),
            ("dropped", counts.dropped),
        ):
            yield shown(edge(f"listener_{name}_total"), value)
        for name, by_reason in (
            ("connections_ended", counts.ended),
            ("refused", counts.refused),
            ("malformed", counts.malformed),
        ):
            values = [((reason,), count) for reason, count in by_reason.copy().items()]
            yield shown(edge(f"listener_{name}_total"), values)
