"""The bus of sizes M and L: Apache Kafka behind the interface of `bus`.

What differs from the SQLite log: a process that is killed inside `append` may leave the first records of each partition
(rows have identities, so that changes nothing: R23), while `append_once` is all or none; transactions leave marks between
offsets; what `append_once` appended is seen a moment after it returned; and retention looks at days, not at readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from headwater_shared.bus import Record, Stored
from headwater_shared.errors import BusReplaced, BusUnavailable
from headwater_shared.kafka_appending import Appending, Fenced, OnceAppending
from headwater_shared.kafka_client import Config, Troubles, answer_s, config
from headwater_shared.kafka_reading import Reading, ends_of
from headwater_shared.topics import IN


class KafkaBus:
    """A `Bus` on a cluster. Calls on one object do not overlap; nothing connects before it is asked for something."""

    def __init__(self, client: Config, prefix: str = "") -> None:
        """Take what `kafka_settings.connection` made, and what stands before the names of topics."""
        self._client = client
        self._answer_s = answer_s(client)
        self._prefix = prefix
        self._troubles = Troubles()
        self._identity = ""
        self._asker: Consumer | None = None
        self._partitions: dict[str, list[int]] = {}
        self._readings: dict[str, Reading] = {}
        self._ends: dict[str, dict[int, int]] = {}
        """Of each topic, the ends that were asked for last: true at least."""
        self._appending: Appending | None = None
        self._once: dict[str, OnceAppending] = {}
        self._registering: dict[str, Consumer] = {}

    @property
    def identity(self) -> str:
        """The cluster, and the topic of the input as it was made: made anew, it has other offsets."""
        admin = AdminClient(config(self._client, self._troubles))
        name = self._prefix + IN.name
        try:
            cluster = admin.describe_cluster(request_timeout=self._answer_s).result().cluster_id
            asked = admin.describe_topics(TopicCollection([name]), request_timeout=self._answer_s)
            found = f"{cluster}/{asked[name].result().topic_id}"
        except KafkaException as error:
            admin.poll(0)
            raise self._troubles.unavailable(f"asking for {name}", error) from error
        if self._identity and found != self._identity:
            raise BusReplaced(
                f"Kafka is another cluster, or {name} was made anew",
                hint="it is begun anew: agents send again what the cloud side does not have",
            )
        self._identity = found
        return found

    def append(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if self._appending is None:
            self._appending = Appending(self._client, self._troubles, self._prefix)
        try:
            self._appending.append(records)
        except BusUnavailable:
            self._appending.close()
            self._appending = None
            raise

    def append_once(self, producer: str, first_id: int, records: Sequence[Record]) -> None:
        if not records:
            return
        for attempt in (1, 2):
            try:
                once = self._once.get(producer)
                if once is None:
                    once = self._once[producer] = OnceAppending(
                        self._client, self._troubles, self._prefix, producer
                    )
                once.append(first_id, records)
                return
            except Fenced:
                self._drop_once(producer)
                if attempt > 1:
                    raise
            except BusUnavailable:
                self._drop_once(producer)
                raise

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        """As `Bus.read`.

        Raises:
            BusReplaced: the topic ends before an offset: it was made anew, or lost what it had.
        """
        reading = self._readings.get(topic)
        if reading is not None and reading.offsets != offsets:
            self._drop_reading(topic)
            reading = None
        at = reading.at if reading is not None else offsets
        ends = self._ends.get(topic, {})
        if sum(max(0, ends.get(p, 0) - offset) for p, offset in at.items()) < limit:
            ends = self._ends[topic] = self._ask(topic, list(offsets))
            for partition, offset in at.items():
                if ends[partition] < offset:
                    self._drop_reading(topic)
                    raise BusReplaced(
                        f"Kafka's topic {topic} ends at {ends[partition]} in partition {partition}, and was read to {offset}",
                        hint="it is begun anew: agents send again what the cloud side does not have",
                    )
        if all(ends[partition] <= offset for partition, offset in at.items()):
            return []
        try:
            if reading is None:
                reading = Reading(self._client, self._troubles, self._prefix + topic, offsets)
                self._readings[topic] = reading
            found = reading.take({p: ends[p] for p in offsets}, limit)
        except (BusUnavailable, KafkaException) as error:
            self._drop_reading(topic)
            if isinstance(error, KafkaException):
                raise self._troubles.unavailable(f"reading {topic}", error) from error
            raise
        return [_named(stored, topic) for stored in found] if self._prefix else found

    def ends(self, topic: str) -> dict[int, int]:
        """As `Bus.ends`; a mark of a transaction counts as a record."""
        if topic not in self._partitions:
            name = self._prefix + topic
            try:
                about = self._asking().list_topics(name, self._answer_s).topics[name]
            except KafkaException as error:
                raise self._failed(f"asking for {name}", error) from error
            if about.error is not None:
                raise self._failed(f"asking for {name}", KafkaException(about.error))
            self._partitions[topic] = sorted(about.partitions)
        return {p: end for p, end in self._ask(topic, self._partitions[topic]).items() if end}

    def read_up_to(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit the offsets under the group's name, for those who watch lag; retention does not look at them.

        Raises:
            BusReplaced: see `identity`, which is asked for on this occasion.
        """
        if self._identity:
            _ = self.identity
        try:
            if group not in self._registering:
                more: dict[str, Any] = {"group_id": self._prefix + group, "enable_auto_commit": False}
                self._registering[group] = Consumer(config(self._client, self._troubles, **more))
            at = [TopicPartition(self._prefix + topic, p, offset) for p, offset in offsets.items()]
            self._registering[group].commit(offsets=at, asynchronous=False)
        except KafkaException as error:
            raise self._troubles.unavailable(f"committing offsets of {group}", error) from error

    def retain(self, now_us: int) -> int:
        """Kafka deletes by itself, as its topics say (`headwater-cloud topics`)."""
        return 0

    def close(self) -> None:
        for topic in list(self._readings):
            self._drop_reading(topic)
        for producer in list(self._once):
            self._drop_once(producer)
        if self._appending is not None:
            self._appending.close()
            self._appending = None
        for consumer in (*self._registering.values(), *([self._asker] if self._asker else [])):
            consumer.close()
        self._registering.clear()
        self._asker = None

    def _ask(self, topic: str, partitions: list[int]) -> dict[int, int]:
        try:
            return ends_of(self._asking(), self._prefix + topic, partitions, self._answer_s)
        except KafkaException as error:
            raise self._failed(f"asking for the end of {topic}", error) from error

    def _asking(self) -> Consumer:
        if self._asker is None:
            more = {"group_id": "headwater-asking", "isolation_level": "read_committed"}
            self._asker = Consumer(config(self._client, self._troubles, **more))
        return self._asker

    def _failed(self, what: str, error: KafkaException) -> BusUnavailable:
        with suppress(KafkaException, RuntimeError):
            self._asking().poll(0)  # reports of the connection wait for that
        return self._troubles.unavailable(what, error)

    def _drop_reading(self, topic: str) -> None:
        self._ends.pop(topic, None)
        reading = self._readings.pop(topic, None)
        if reading is not None:
            reading.close()

    def _drop_once(self, producer: str) -> None:
        once = self._once.pop(producer, None)
        if once is not None:
            once.close()


def _named(stored: Stored, topic: str) -> Stored:
    return Stored(
        topic, stored.partition, stored.offset, stored.time_us, stored.key, stored.headers, stored.body
    )
