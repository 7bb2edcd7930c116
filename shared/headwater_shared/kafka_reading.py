"""Reading a topic of Kafka from offsets of one's own: no consumer group, no commits, only what is committed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headwater_shared.bus import Stored
from headwater_shared.kafka_client import Config, Troubles, answer_s, config

_POLL_S = 0.5
_AT_ONCE = 10_000
_QUEUE_KB = 16_384
"""What is fetched ahead, at most."""


class Reading:
    """One run of reading: a consumer that goes on where its last `take` ended.

    For other offsets than those another one is made: librdkafka may hand out what it had fetched before a seek, and a record
    that is taken for the next one would hide those between.
    """

    def __init__(self, client: Config, troubles: Troubles, topic: str, offsets: Mapping[int, int]) -> None:
        """Begin at `offsets`; `topic` is its name in Kafka."""
        self._troubles = troubles
        self._answer_s = answer_s(client)
        self._topic = topic
        self.offsets = dict(offsets)
        """Of each partition, the offset behind the record that was taken last, as whoever reads knows it ..."""
        self.at = dict(offsets)
        """... and where reading is: transactions leave marks in a partition, which are no records."""
        self._consumer = Consumer(
            config(
                client,
                troubles,
                group_id="headwater-reading",  # the library wants one; nothing is committed under it
                isolation_level="read_committed",
                auto_offset_reset="earliest",  # retention went past: the oldest that is kept
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                enable_partition_eof=True,
                fetch_wait_max_ms=100,
                fetch_queue_backoff_ms=10,
                queued_max_messages_kbytes=_QUEUE_KB,
            )
        )
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in offsets.items()])

    def take(self, ends: Mapping[int, int], limit: int) -> list[Stored]:
        """Return records up to `ends`, or somewhat beyond, at most `limit`.

        Raises:
            BusUnavailable: this run is of no more use.
        """
        found: list[Stored] = []
        deadline = time.monotonic() + self._answer_s
        while len(found) < limit and any(self.at[p] < end for p, end in ends.items()):
            first = self._consumer.poll(_POLL_S)
            if first is not None:
                deadline = time.monotonic() + self._answer_s
                rest = self._consumer.consume(min(limit - len(found) - 1, _AT_ONCE), 0.0)
                for message in (first, *rest):
                    self._took(message, found)
            elif time.monotonic() >= deadline:
                raise self._troubles.unavailable(f"reading {self._topic}", KafkaError(KafkaError._TIMED_OUT))
        return found

    def close(self) -> None:
        self._consumer.close()

    def _took(self, message: Message, found: list[Stored]) -> None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is None:
            if offset < self.at[partition]:  # the topic was made anew, and shorter: not what was asked for
                return
            self.at[partition] = self.offsets[partition] = offset + 1
            found.append(_stored(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            self.at[partition] = max(self.at[partition], offset)
        else:
            raise self._troubles.unavailable(f"reading {self._topic}", error)


def everything(client: Config, troubles: Troubles, topic: str) -> list[Stored]:
    """Read partition 0 of a topic from its beginning, up to all that anyone has appended until now.

    What others' transactions have not committed is waited for: behind it may lie what is.

    Raises:
        BusUnavailable, KafkaException: try again.
    """
    asker = Consumer(
        config(client, troubles, group_id="headwater-asking", isolation_level="read_uncommitted")
    )
    try:
        ends = ends_of(asker, topic, [0], answer_s(client))
    finally:
        asker.close()
    if not ends[0]:
        return []
    reading = Reading(client, troubles, topic, {0: 0})
    try:
        return reading.take(ends, 2**30)
    finally:
        reading.close()


def ends_of(asker: Consumer, topic: str, partitions: list[int], timeout_s: float) -> dict[int, int]:
    """Ask for the offsets behind what is committed, of all partitions in one request.

    Raises:
        KafkaException: there is no answer.
    """
    latest = [TopicPartition(topic, partition, -1) for partition in partitions]  # -1: as a time, the end
    found = {}
    for end in asker.offsets_for_times(latest, timeout=timeout_s) if latest else ():
        if end.error is not None:
            raise KafkaException(end.error)
        found[end.partition] = end.offset
    return found


def _stored(message: Message) -> Stored:
    key, (_, time_ms) = message.key() or b"", message.timestamp()
    return Stored(
        message.topic() or "",
        message.partition(),
        message.offset(),
        time_ms * 1000,
        key.decode(errors="replace"),
        {name: (value or b"").decode(errors="replace") for name, value in message.headers() or ()},
        message.value() or b"",
    )
