"""Which bus the settings mean: the file of a SQLite log, or "kafka://host:port,..."."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headwater_shared.bus import Bus
from headwater_shared.extras import load
from headwater_shared.kafka_settings import KafkaSettings, connection, is_kafka


def opener(address: str, data: Path, settings: KafkaSettings) -> Callable[[], Bus]:
    """Return what opens the bus; each thread that uses it opens its own.

    Args:
        address: the `bus` of the settings; a file is relative to `data`.

    Raises:
        SettingsError, PartMissing: it can never be opened. Kafka's library is imported only here.
    """
    if not is_kafka(address):
        from headwater_shared.sqlite_log import SqliteLog

        return lambda: SqliteLog(data / address)
    load("confluent_kafka", "kafka")
    from headwater_shared.kafka_bus import KafkaBus

    client = connection(address, settings)
    return lambda: KafkaBus(client, settings.prefix)
