"""The buses that the contract suite runs on: a name, and how to open one at an address (a path, or a server and a prefix)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headwater_shared.bus import Bus
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.sqlite_log import SqliteLog


def _kafka(address: str) -> Bus:
    from headwater_shared.kafka_bus import KafkaBus

    server, _, prefix = address.rpartition("/")
    return KafkaBus(connection(server, KafkaSettings()), prefix)


BUSES: dict[str, Callable[[str], Bus]] = {
    "kafka": _kafka,
    "sqlite": lambda address: SqliteLog(Path(address)),
}
