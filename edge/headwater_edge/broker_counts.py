"""What the connection to a broker counts, plainly; for Prometheus, for `headwater-edge status` and for health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


@dataclass(slots=True)
class BrokerCounts:
    """Plain numbers, since the hot path adds to them."""

    name: str
    connected: bool = False
    since_us: int = 0
    """Wall clock: when it was connected, or lost; 0 if it never was connected."""
    why: str = "not yet connected"
    """Why it is not connected."""
    refused: dict[str, str] = field(default_factory=dict)
    """Filters that the broker refused with this connection, and why."""
    spared: frozenset[str] = frozenset()
    """Filters whose refusal is no trouble: nothing in the settings needs them."""
    connects: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Connections that ended or failed, by reason."""
    sessions_lost: int = 0
    """Connects at which the broker no longer had the session: what it held is lost there."""
    messages: int = 0
    bytes: int = 0
    acknowledgements: int = 0
    retained: int = 0
    """Messages that the broker flagged as retained, which are no readings (R9)."""
    canaries: int = 0
    canary_s: float = 0.0
    """How long the last canary took."""
    left_with_broker: int = 0
    """Bursts of which messages stay with the broker, for they can be neither read nor kept (R20)."""
    held_back: int = 0
    """How often the socket was not read, since too much waited for the disk."""

    def status(self) -> dict[str, Any]:
        """Return what a person is shown."""
        since = (
            datetime.fromtimestamp(self.since_us / 1e6, UTC).isoformat(timespec="seconds")
            if self.since_us
            else ""
        )
        return {
            "connected": self.connected,
            "since": since,
            **({} if self.connected else {"why": self.why}),
            **({"refused": dict(self.refused)} if self.refused else {}),
            "connects": self.connects,
            "sessions_lost": self.sessions_lost,
            "messages": self.messages,
            "retained_skipped": self.retained,
            "canary_ms": round(self.canary_s * 1e3, 1),
            "left_with_broker": self.left_with_broker,
            "held_back": self.held_back,
        }

    def troubles(self) -> list[str]:
        """Return what is wrong, for `/health`."""
        if not self.connected:
            return [f"broker {self.name} is away: {self.why}"]
        refused = {topic: why for topic, why in self.refused.copy().items() if topic not in self.spared}
        return [f"broker {self.name} refuses {topic}: {why}" for topic, why in refused.items()]


def register(registry: CollectorRegistry, brokers: Sequence[BrokerCounts]) -> None:
    """Show the numbers in a registry; they are read when it is scraped, in whatever thread."""
    registry.register(_Collector(brokers))


class _Collector:
    def __init__(self, brokers: Sequence[BrokerCounts]) -> None:
        self._brokers = brokers

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of this moment."""
        from headwater_shared.agent_metrics import edge
        from headwater_shared.metric import shown

        for name, attribute in (
            ("connected", "connected"),
            ("canary_seconds", "canary_s"),
            ("connects_total", "connects"),
            ("sessions_lost_total", "sessions_lost"),
            ("messages_total", "messages"),
            ("received_bytes_total", "bytes"),
            ("acknowledgements_total", "acknowledgements"),
            ("retained_total", "retained"),
            ("canaries_total", "canaries"),
            ("left_with_broker_total", "left_with_broker"),
            ("held_back_total", "held_back"),
        ):
            values = [((counts.name,), float(getattr(counts, attribute))) for counts in self._brokers]
            yield shown(edge(f"broker_{name}"), values)
        lost = [
            ((counts.name, reason), float(count))
            for counts in self._brokers
            for reason, count in counts.lost.copy().items()
        ]
        yield shown(edge("broker_connections_lost_total"), lost)
