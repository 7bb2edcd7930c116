"""Quix's start, and its rebalances, without their waits: a worker that was killed goes on seconds earlier (bench `cloud-kill`).

Quix asks the broker for the ends of partitions one after the other, and waits for a second in which nothing comes before it looks
whether its state is read. Here the ends of all that is assigned are asked for at once, anew at each assignment, for another worker may
have written until then; and it looks after a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headwater_cloud.quix_imports import lean
from headwater_shared.kafka_client import Troubles, answer_s, config

with lean():
    from quixstreams import Application

_LOOK_S = 0.2
_STUCK = 300
"""So many looks without a position are too many: a minute, as with Quix's own looks."""

Place = tuple[str, int]
Ends = tuple[int, int]


def hasten(app: Application, client: Mapping[str, str | int]) -> None:
    """Take the waits out of an application that does not run yet; `client`: how to connect, in librdkafka's names."""
    consumer: Any = app._consumer  # noqa: SLF001 - the engine is pinned to the patch
    recovery: Any = app._state_manager._recovery_manager  # noqa: SLF001
    assigned = app._on_assign  # noqa: SLF001
    hasty = _Hasty(consumer, client)

    def on_assign(*what: Any) -> None:
        hasty.ends.clear()
        assigned(*what)

    app._on_assign = on_assign  # type: ignore[method-assign, assignment]  # noqa: SLF001
    consumer.get_watermark_offsets = hasty.get_watermark_offsets
    recovery._consumer = hasty  # noqa: SLF001
    recovery._position_cache = _NotKept()  # noqa: SLF001
    recovery.MAX_INVALID_OFFSET_ATTEMPTS = _STUCK


class _Hasty:
    """Quix's consumer as its recovery uses it."""

    def __init__(self, consumer: Any, client: Mapping[str, str | int]) -> None:
        self._consumer, self._client = consumer, dict(client)
        self._alone = consumer.get_watermark_offsets
        self.ends: dict[Place, Ends] = {}
        """Of partitions that were assigned last, by topic and number: oldest and next offset."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def poll(self, timeout: float) -> Any:
        return self._consumer.poll(min(timeout, _LOOK_S))

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float | None = None, cached: bool = False
    ) -> Ends:
        """Return oldest and next offset of a partition, of all that are assigned at once."""
        place = partition.topic, partition.partition
        if not cached and place not in self.ends:
            self.ends = self._ends_of_all()
        if cached or place not in self.ends:
            alone: Ends = self._alone(partition, timeout=timeout, cached=cached)
            return alone
        return self.ends[place]

    def _ends_of_all(self) -> dict[Place, Ends]:
        admin = AdminClient(config(self._client, Troubles()))
        places = [TopicPartition(one.topic, one.partition) for one in self._consumer.assignment()]
        asked = [
            admin.list_offsets(
                dict.fromkeys(places, spec),
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=answer_s(self._client),
            )
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        ]
        first, last = (
            {(at.topic, at.partition): told.result().offset for at, told in some.items()} for some in asked
        )
        return {place: (offset, last[place]) for place, offset in first.items()}


class _NotKept(dict[str, Any]):
    """What Quix keeps of positions for a second; they are asked of the client, which knows them."""

    def __contains__(self, _: object) -> bool:
        return False
