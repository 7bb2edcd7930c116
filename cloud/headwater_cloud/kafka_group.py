"""The workers' consumer group, as Kafka knows it: who is in it with which shards, and how far it has committed."""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from headwater_shared.kafka_client import Config, Troubles, answer_s, config

_AGAIN_S = 0.2
_SOON = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


class Member(NamedTuple):
    """One process of the group."""

    name: str
    host: str
    shards: list[int]


def look(client: Config, group: str, topic: str) -> tuple[list[Member], dict[int, int]]:
    """Return the members of a group, and the offsets of a topic that it has committed.

    Raises:
        BusUnavailable: there is no answer, or the user may not ask.
    """
    troubles = Troubles()
    admin = AdminClient(config(client, troubles))
    deadline = time.monotonic() + answer_s(client)
    while True:
        try:
            return _looked(admin, group, topic, answer_s(client))
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return [], {}
            admin.poll(_AGAIN_S)
            # A cluster that has just begun makes the groups' coordinator when it is first asked for it.
            if code not in _SOON or time.monotonic() > deadline:
                raise troubles.unavailable(f"asking for the group {group}", error) from error


def _looked(
    admin: AdminClient, group: str, topic: str, timeout_s: float
) -> tuple[list[Member], dict[int, int]]:
    about = admin.describe_consumer_groups([group], request_timeout=timeout_s)[group].result()
    asked = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=timeout_s
    )
    members = [
        Member(
            one.group_instance_id or one.client_id,
            one.host.lstrip("/"),
            sorted(at.partition for at in one.assignment.topic_partitions if at.topic == topic),
        )
        for one in about.members
    ]
    committed = asked[group].result().topic_partitions
    return sorted(members), {
        at.partition: at.offset for at in committed if at.topic == topic and at.offset >= 0
    }
