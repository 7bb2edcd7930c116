"""A trace on a real Kafka: each record at the time at which the bus of the recorded run took it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater_cloud import kafka_group
from headwater_shared.bus import Bus, Stored
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.kafka_client import Troubles, config
from headwater_shared.topics import IN, SECOND, Topic
from tests.golden.trace import Act
from tests.kafka import MadeTopics

_TIMES = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}
"""Those of a trace are years ahead, or behind."""


def keep_times(topics: MadeTopics) -> None:
    """Let `hw-in` take the times that its producer says: clock records are believed by them (R24)."""
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    admin = AdminClient({**topics.client, "log_level": 0})
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in _TIMES.items()
    ]
    change = ConfigResource(ResourceType.TOPIC, topics.prefix + IN.name, incremental_configs=entries)
    for done in admin.incremental_alter_configs([change]).values():
        done.result(20)


def append(topics: MadeTopics, act: Act) -> None:
    """Append an act in its order. Times of Kafka are in milliseconds."""
    from confluent_kafka import Producer

    producer = Producer(config(topics.client, Troubles(), enable_idempotence=True, acks="all"))
    failed: list[object] = []
    for one in act:
        producer.produce(
            topics.prefix + IN.name, one.body, one.key.encode(), one.partition, lambda error, _: failed.append(error) if error else None,
            timestamp=one.time_us // 1000, headers=[(name, value.encode()) for name, value in one.headers.items()],
        )  # fmt: skip
    assert producer.flush(20) == 0
    assert not failed, failed


def topic(bus: Bus, which: Topic) -> Sequence[Stored]:
    """Return all that is on a topic, for `outcome.read`."""
    return bus.read(which.name, dict.fromkeys(range(which.partitions), 0), 1_000_000)


def ends(bus: Bus, which: Topic) -> dict[int, int]:
    """Where what can be read of a topic ends; marks of transactions behind it are left out."""
    return {one.partition: one.offset + 1 for one in topic(bus, which)}


def committed(topics: MadeTopics, which: Topic, wanted: Mapping[int, int]) -> bool:
    """Tell whether workers have taken a topic up to these offsets, and what came of it is there."""
    done = kafka_group.look(topics.client, f"{topics.prefix}cloud", topics.prefix + which.name)[1]
    return all(offset <= done.get(partition, 0) for partition, offset in wanted.items())


ALL_STAGES = (IN, *SECOND, IN)
"""What comes of the input is on second stages' topics once that is committed, and findings of these are input again."""


def opened(topics: MadeTopics) -> KafkaBus:
    return KafkaBus(topics.client, topics.prefix)
