"""Deleting from a topic of Kafka, which is possible from its beginning on only (DeleteRecords)."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headwater_shared.kafka_client import Config, Troubles, answer_s, config


def delete_up_to(client: Config, topic: str, offset: int) -> None:
    """Delete what lies in partition 0 of a topic before an offset.

    Raises:
        BusUnavailable: there is no answer, or the user may not.
    """
    troubles = Troubles()
    admin = AdminClient(config(client, troubles))
    asked = admin.delete_records([TopicPartition(topic, 0, offset)], request_timeout=answer_s(client))
    try:
        for future in asked.values():
            future.result()
    except KafkaException as error:
        raise troubles.unavailable(f"deleting from {topic}", error) from error
