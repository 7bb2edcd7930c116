"""The topics of the bus: names without dots, partitions, and what each holds; the same on every bus."""

from __future__ import annotations

from typing import NamedTuple

from headwater_shared.identity import SHARDS


class Topic(NamedTuple):
    """One topic: `compacted` keeps the latest record a key, the others keep `days` of history."""

    name: str
    partitions: int
    compacted: bool
    days: float


IN = Topic("hw-in", SHARDS, compacted=False, days=7)
HAVE = Topic("hw-have", 8, compacted=True, days=7)
COMMANDS = Topic("hw-commands", 16, compacted=False, days=7)
"""Orders from the cloud side; an agent reads its own partition (`agent_partition`), from its own offset (R14)."""
ALERTS = Topic("hw-alerts", 8, compacted=True, days=7)
ALERT_EVENTS = Topic("hw-alert-events", 8, compacted=False, days=365)
REGISTRY = Topic("hw-registry", 8, compacted=True, days=7)
"""The latest of each device, by `site/device`; a removed one stays, as removed."""
BY_METRIC = Topic("hw-by-metric", 8, compacted=False, days=7)
BY_COHORT = Topic("hw-by-cohort", 8, compacted=False, days=7)
"""Rollups of sites for second stages (R25): partition = crc32 of `metric`, of `cohort/metric`."""
SECOND = (BY_METRIC, BY_COHORT)
DEAD_LETTERS = Topic("hw-dead-letters", 1, compacted=False, days=365)
PRODUCERS = Topic("hw-producers", 1, compacted=True, days=7)
"""On Kafka: the last id of each named producer (`append_once`), in the same transaction as its records."""

TOPICS: dict[str, Topic] = {
    t.name: t
    for t in (
        IN,
        HAVE,
        COMMANDS,
        ALERTS,
        ALERT_EVENTS,
        REGISTRY,
        BY_METRIC,
        BY_COHORT,
        DEAD_LETTERS,
        PRODUCERS,
    )
}
