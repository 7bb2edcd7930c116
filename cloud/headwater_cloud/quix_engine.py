"""How Quix Streams is set: exactly-once, static members, small transactions; the settings that KAFKA.md found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headwater_cloud.quix_imports import lean
from headwater_shared.kafka_client import MESSAGE_BYTES

with lean():
    from quixstreams import Application
    from quixstreams.kafka.configuration import ConnectionConfig
    from quixstreams.state.rocksdb import RocksDBOptions


class Engine(NamedTuple):
    """How Quix is set. Times in seconds."""

    group: str
    slot: int
    state: str
    """A folder of this slot's own."""
    commit_s: float = 0.2
    commit_every: int = 500
    session_s: float = 6.0
    cache_bytes: int = 64 << 20


def application(client: Mapping[str, str | int], engine: Engine) -> Application:
    """Return Quix as it runs in a slot of a group; `client`: how to connect, in librdkafka's names."""
    slot = f"{engine.group}-{engine.slot}"
    return Application(
        ConnectionConfig.from_librdkafka_dict(dict(client), ignore_extras=True),
        consumer_group=engine.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=engine.commit_s,
        commit_every=engine.commit_every,
        consumer_poll_timeout=0.05,
        state_dir=engine.state,
        rocksdb_options=RocksDBOptions(
            write_buffer_size=8 << 20, block_cache_size=engine.cache_bytes, on_corrupted_recreate=True
        ),
        auto_create_topics=True,  # the changelog, which is Quix's own; ours are made by `headwater-cloud topics`
        auto_recover_from_source_offset_out_of_range=False,
        broker_availability_timeout=0,
        loglevel=None,
        producer_extra_config={
            "transactional.id": slot,
            "transaction.timeout.ms": 5_000,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.max.bytes": MESSAGE_BYTES,
        },
        consumer_extra_config={
            "group.instance.id": slot,
            "session.timeout.ms": round(engine.session_s * 1000),
            "heartbeat.interval.ms": 500,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": MESSAGE_BYTES,
        },
    )
