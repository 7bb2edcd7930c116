"""Appending to Kafka: an idempotent producer, and one whose transactions skip what they hold already."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headwater_shared.bus import Record
from headwater_shared.errors import BusUnavailable
from headwater_shared.kafka_client import ANSWER_MS, MESSAGE_BYTES, Config, Troubles, answer_s, config
from headwater_shared.kafka_reading import everything
from headwater_shared.topics import PRODUCERS

_QUEUE = 2_000
"""Records in the library's hands at most: what waits, waits in SQLite."""


class Appending:
    """An idempotent producer with `acks=all`; it holds records only while `append` runs."""

    def __init__(self, client: Config, troubles: Troubles, prefix: str, **more: Any) -> None:
        self._troubles = troubles
        self.answer_s = answer_s(client)
        self._prefix = prefix
        self.producer = Producer(
            config(
                client,
                troubles,
                enable_idempotence=True,
                acks="all",
                linger_ms=2,
                compression_type="zstd",
                queue_buffering_max_messages=_QUEUE,
                message_max_bytes=MESSAGE_BYTES,
                request_timeout_ms=ANSWER_MS // 2,
                message_timeout_ms=ANSWER_MS,
                **more,
            )
        )

    def append(self, records: Sequence[Record]) -> None:
        """Give records out and wait for the delivery report of each.

        Raises:
            BusUnavailable: one is missing; the others may be there.
        """
        failed: list[KafkaError] = []
        self.give(records, failed)
        left = self.producer.flush(2 * self.answer_s)  # each report comes within `message.timeout.ms`
        if failed or left:
            raise self._troubles.unavailable(
                "appending", failed[0] if failed else KafkaError(KafkaError._TIMED_OUT)
            )

    def give(self, records: Sequence[Record], failed: list[KafkaError]) -> None:
        """Hand records to the library; what cannot be delivered will be added to `failed`."""

        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)

        deadline = time.monotonic() + self.answer_s
        for record in records:
            while True:
                try:
                    self.producer.produce(
                        self._prefix + record.topic,
                        record.body,
                        record.key.encode(),
                        record.partition,
                        report,
                        headers=[(name, value.encode()) for name, value in record.headers.items()],
                    )
                    break
                except BufferError:
                    if time.monotonic() >= deadline:
                        failed.append(KafkaError(KafkaError._QUEUE_FULL))
                        return
                    self.producer.poll(0.1)
                except KafkaException as error:
                    failed.append(error.args[0])
                    return

    def close(self) -> None:
        """Give up what is still in the library's hands, so that nothing comes later than what is appended again."""
        with suppress(KafkaException):
            self.producer.purge()
            self.producer.flush(0.0)


class OnceAppending:
    """The transactions of one named producer: each appends records with ids, and notes the last id in the same commit."""

    def __init__(
        self,
        client: Config,
        troubles: Troubles,
        prefix: str,
        name: str,
    ) -> None:
        """Take the name over from whoever had it, whose open transaction ends with that; then see how far it came.

        Raises:
            BusUnavailable: try again.
        """
        self._troubles, self._name = troubles, name
        self._appending = Appending(
            client,
            troubles,
            prefix,
            transactional_id=f"{prefix}{name}",
            transaction_timeout_ms=ANSWER_MS,
        )
        try:
            self._appending.producer.init_transactions(self._appending.answer_s)
            notes = everything(client, troubles, prefix + PRODUCERS.name)
        except KafkaException as error:
            self.close()
            raise troubles.unavailable(f"taking over the producer {name}", error) from error
        self.last_id = max((int(found.body) for found in notes if found.key == name), default=0)

    def append(self, first_id: int, records: Sequence[Record]) -> None:
        """Append those records that are not there.

        Raises:
            Fenced: another one has taken the name over.
            BusUnavailable: whether they are there is not known. This object is of no more use in both cases.
        """
        fresh = records[max(0, self.last_id + 1 - first_id) :]
        if not fresh:
            return
        last_id = first_id + len(records) - 1
        failed: list[KafkaError] = []
        producer = self._appending.producer
        try:
            producer.begin_transaction()
            note = Record(PRODUCERS.name, 0, self._name, {}, str(last_id).encode())
            self._appending.give([*fresh, note], failed)
            if not failed:
                producer.commit_transaction(self._appending.answer_s)
        except KafkaException as error:
            failed.append(error.args[0])
        if failed:
            kind = Fenced if any(error.code() in _FENCED for error in failed) else BusUnavailable
            found = self._troubles.unavailable(f"appending as {self._name}", failed[0])
            raise kind(found.message, hint=found.hint)
        self.last_id = last_id

    def close(self) -> None:
        self._appending.close()


class Fenced(BusUnavailable):
    """Another process, or another object of this one, appends under the same name."""


_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
