"""`bus-kafka`: CPU of a frame of 22 KB through the bus on Kafka, appended and read, beside confluent-kafka used by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from tests.bench.results import Result
from tests.kafka import KafkaServer, MadeTopics

FRAMES, BATCH = 4_096, 64
"""A batch is what the forwarder appends at once; it waits for the delivery reports of each."""


def run(folder: Path) -> Iterator[Result]:
    """Append and read the same frames both ways, on topics of their own; twice each, the better one counts."""
    server = KafkaServer(folder)
    server.start()
    try:
        ours = [_ours(server) for _ in range(2)]
        plain = [_plain(server) for _ in range(2)]
    finally:
        server.stop()
    (append, append_s), (read, read_s) = (min(run[n] for run in ours) for n in (0, 1))
    (bare_append, _), (bare_read, _) = (min(run[n] for run in plain) for n in (0, 1))
    yield Result(
        "bus-kafka",
        append + read,
        "us of CPU a frame of 22 KB, appended and read",
        bare_append + bare_read,
        "confluent-kafka by hand: the same frames, batches, headers and settings, no keys of ours, no records made",
        "acks=all, idempotent, one broker",
        {
            "append, us": append,
            "read, us": read,
            "append by hand, us": bare_append,
            "read by hand, us": bare_read,
            "frames/s appended": FRAMES / append_s,
            "frames/s read": FRAMES / read_s,
        },
    )


def _frames() -> list[Record]:
    """Columns compress by half: half of each body is noise."""
    noise = random.Random(9)
    bodies = [noise.randbytes(11_000) + bytes(11_000) for _ in range(BATCH)]
    return [
        Record(
            "hw-in",
            n % 8,
            "agent",
            records.headers("frame", f"agent/{n}", "headwater-edge/agent", n),
            bodies[n % BATCH],
        )
        for n in range(FRAMES)
    ]


def _measured(act: Callable[[], None]) -> tuple[float, float]:
    """Return CPU a frame in microseconds, of all threads, and the seconds that it took."""
    cpu, began = time.process_time(), time.monotonic()
    act()
    return (time.process_time() - cpu) / FRAMES * 1e6, time.monotonic() - began


def _ours(server: KafkaServer) -> tuple[tuple[float, float], tuple[float, float]]:
    topics = MadeTopics(server)
    bus, frames = KafkaBus(topics.client, topics.prefix), _frames()
    bus.ends("hw-in")

    def append() -> None:
        for at in range(0, FRAMES, BATCH):
            bus.append(frames[at : at + BATCH])

    def read() -> None:
        offsets, left = dict.fromkeys(range(SHARDS), 0), FRAMES
        while left:
            for stored in bus.read("hw-in", offsets, 200):
                offsets[stored.partition] = stored.offset + 1
                left -= 1

    found = _measured(append), _measured(read)
    bus.close()
    topics.delete()
    return found


def _plain(server: KafkaServer) -> tuple[tuple[float, float], tuple[float, float]]:
    from confluent_kafka import Consumer, Producer, TopicPartition

    topics, frames = MadeTopics(server), _frames()
    name = f"{topics.prefix}hw-in"
    producer = Producer(
        {
            **topics.client,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 2,
            "compression.type": "zstd",
        }
    )
    headers = [(key, value.encode()) for key, value in frames[0].headers.items()]
    consumer = Consumer(
        {**topics.client, "group.id": "bare", "isolation.level": "read_committed", "fetch.wait.max.ms": 100}
    )

    def append() -> None:
        for at in range(0, FRAMES, BATCH):
            for record in frames[at : at + BATCH]:
                producer.produce(name, record.body, b"agent", record.partition, headers=headers)
            producer.flush()

    def read() -> None:
        consumer.assign([TopicPartition(name, partition, 0) for partition in range(SHARDS)])
        left = FRAMES
        while left:
            left -= len(consumer.consume(200, 0.05))

    found = _measured(append), _measured(read)
    consumer.close()
    topics.delete()
    return found
