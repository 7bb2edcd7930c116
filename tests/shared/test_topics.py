"""The topics of the bus: what they are called and how many partitions they have is for ever."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from headwater_shared.bus import Bus, Record, Stored
from headwater_shared.identity import SHARDS
from headwater_shared.sqlite_log_packing import WORDS
from headwater_shared.topics import TOPICS

FROZEN = {
    "hw-in": (64, False),
    "hw-have": (8, True),
    "hw-commands": (16, False),
    "hw-alerts": (8, True),
    "hw-alert-events": (8, False),
    "hw-registry": (8, True),
    "hw-by-metric": (8, False),
    "hw-by-cohort": (8, False),
    "hw-dead-letters": (1, False),
    "hw-producers": (1, True),
}
"""Partitions, compacted: a topic that has records cannot be given other ones."""


def test_topics_do_not_change() -> None:
    """Each that was released is still there, with its partitions; new ones may come."""
    found = {name: (topic.partitions, topic.compacted) for name, topic in TOPICS.items()}
    assert {name: found.get(name) for name in FROZEN} == FROZEN
    assert TOPICS["hw-in"].partitions == SHARDS


@pytest.mark.parametrize("name", TOPICS)
def test_names_hold_no_dot(name: str) -> None:
    """MirrorMaker 2 reads `a.b` as the topic b of the cluster a; and Kafka confuses dots with underscores."""
    assert name == TOPICS[name].name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz-")
    assert TOPICS[name].days > 0


def test_records_are_values() -> None:
    """They cannot be changed once they are made, so an append that failed is tried again unchanged."""
    record = Record("hw-in", 7, "key", {"ce_id": "1"}, b"body")
    stored = Stored("hw-in", 7, 0, 1, "key", {"ce_id": "1"}, b"body")
    for one in (record, stored):
        with pytest.raises(AttributeError):
            one.body = b""  # type: ignore[misc]
    assert msgspec.structs.replace(record) == record


@pytest.mark.parametrize(
    "kind", ["headwater_shared.sqlite_log:SqliteLog", "headwater_shared.kafka_bus:KafkaBus"]
)
def test_both_buses_have_the_interface(kind: str) -> None:
    """Each has every call of the interface, with the parameters of the interface."""
    import inspect

    module, _, name = kind.partition(":")
    if module.endswith("kafka_bus"):
        pytest.importorskip("confluent_kafka")
    bus = getattr(importlib.import_module(module), name)

    calls = [name for name in vars(Bus) if not name.startswith("_")]
    assert calls == ["identity", "append", "append_once", "read", "ends", "read_up_to", "retain", "close"]
    for name in calls[1:]:
        wanted, found = (list(inspect.signature(getattr(one, name)).parameters) for one in (Bus, bus))
        assert found == wanted, name


def test_the_words_of_stored_headers_keep_their_numbers() -> None:
    """Headers are stored by number: words may only be appended."""
    assert WORDS[:16] == (
        "ce_specversion", "1.0", "ce_id", "ce_type", "ce_source", "ce_time", "content-type", "application/avro",
        "region", "traceparent", "io.headwater.frame", "io.headwater.anomaly", "io.headwater.heartbeat",
        "io.headwater.clock", "io.headwater.have", "io.headwater.alert",
    )  # fmt: skip
