"""Quix's start, and its rebalances, without their waits: a worker that was killed goes on seconds earlier (bench `cloud-kill`).

Quix asks the broker for the ends of partitions one after the other, and waits for a second in which nothing comes before it looks
whether its state is read. Here the ends of all that is assigned are asked for at once, anew at each assignment, for another worker may
have written until then; and it looks after a twentieth of a second. What librdkafka looks for before it has a connection, it looks for
again after half a second, or after three: so producer and admin client are connected first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headwater_cloud.quix_imports import lean
from headwater_shared.kafka_client import Troubles, answer_s, config

with lean():
    from quixstreams import Application

_LOOK_S = 0.05
_STUCK = 1200
"""So many looks without a position are too many: a minute, as with Quix's own looks."""
_TURN_S = 1.0
"""So long librdkafka waits at a time while Kafka is away: a signal is heard in between."""

Place = tuple[str, int]
Ends = tuple[int, int]


def hasten(app: Application, client: Mapping[str, str | int]) -> Callable[[], None]:
    """Take the waits out of an application that does not run yet; `client`: how to connect, in librdkafka's names.

    What it returns must be called right before the application runs: it has what the slot's last process left open aborted.
    """
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
    return _connected(app, answer_s(client))


def _connected(app: Application, within_s: float) -> Callable[[], None]:
    """Make the producer, which connects while the topics are looked at; return what begins its transactions, as Quix does at its start."""
    owner: Any = app._producer._producer  # noqa: SLF001 - the engine is pinned to the patch
    producer = Producer(owner._producer_config)  # noqa: SLF001

    def begin() -> None:
        with suppress(KafkaException):  # the next call waits until it answers
            producer.list_topics(timeout=min(within_s, _TURN_S))
        while True:
            try:
                producer.init_transactions(_TURN_S)
                break
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
        owner._inner_producer = producer  # noqa: SLF001

    return begin


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
        admin, within_s = AdminClient(config(self._client, Troubles())), answer_s(self._client)
        admin.list_topics(timeout=within_s)  # or one time in four it looks for the leaders for three seconds
        places = [TopicPartition(one.topic, one.partition) for one in self._consumer.assignment()]
        asked = [
            # To the end of what is written: a commit whose offsets are known already may lack its mark in a changelog yet.
            admin.list_offsets(
                dict.fromkeys(places, spec),
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=within_s,
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
