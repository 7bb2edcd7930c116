"""Kafka's topics as Headwater declares them, in this one place: made where they are missing, drift found, never shrunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from headwater_shared.errors import Refused
from headwater_shared.kafka_client import MESSAGE_BYTES, Config, Troubles, answer_s, config
from headwater_shared.topics import IN, TOPICS, Topic

Act = Literal["made", "set", "kept", "refused"]
"""What `apply` does about a difference: makes, sets, leaves what is more than declared, or refuses."""

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_REPLICAS = 3
_NUMBERS = ("retention.ms", "max.message.bytes", "min.insync.replicas")
"""Of these the cluster may have more than declared."""
_UNLIMITED = -1.0


class Difference(NamedTuple):
    """Between what the cluster has and what is declared."""

    topic: str
    what: str
    has: str
    declared: str
    act: Act


def declared(topic: Topic, replicas: int) -> dict[str, str]:
    """Return a topic's settings.

    `LogAppendTime`: clock records are believed by the time at which they were appended (R24). With a replica less than there
    are, an append is durable, and one broker may be away.
    """
    found = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MESSAGE_BYTES),
        "min.insync.replicas": str(max(1, replicas - 1)),
    }
    if topic.compacted:  # only closed segments are compacted
        return found | {"segment.ms": str(_HOUR_MS), "min.cleanable.dirty.ratio": "0.1"}
    return found | {"retention.ms": str(round(topic.days * _DAY_MS))}


class Topics:
    """The topics of one cluster."""

    def __init__(self, client: Config, prefix: str = "", replicas: int | None = None) -> None:
        """Connect with what `kafka_settings.connection` made.

        Args:
            client: who we are, and where the brokers are.
            prefix: stands before each topic's name.
            replicas: of new topics; None: 3, or as many as there are brokers.
        """
        self._troubles = Troubles()
        self._answer_s = answer_s(client)
        self._admin = AdminClient(config(client, self._troubles))
        self._prefix = prefix
        self._replicas = replicas

    def differences(self) -> list[Difference]:
        """Compare the cluster with what is declared; nothing is changed.

        Raises:
            BusUnavailable: there is no answer.
        """
        try:
            return [found for topic in TOPICS.values() for found in self._of(topic)]
        except KafkaException as error:
            raise self._failed("looking at the topics", error) from error

    def apply(self) -> list[Difference]:
        """Make and set what is missing or less than declared; return what differed.

        Raises:
            Refused: a partition count cannot be put right; nothing was changed.
            BusUnavailable: there is no answer; do it again.
        """
        found = self.differences()
        for one in found:
            if one.act == "refused":
                raise Refused(
                    f"{self._prefix}{one.topic} has {one.has} partitions instead of {one.declared}: a partition is a shard, crc32(site) % 64 "
                    "names it, and with another count the records of a site would lie where nobody looks for them",
                    hint="nothing was changed; make the topic anew (agents send again what the cloud side does not have), or set a prefix in [kafka]",
                )
        try:
            self._make([TOPICS[one.topic] for one in found if one.act == "made"])
            self._widen({one.topic: int(one.declared) for one in found if one[1::3] == ("partitions", "set")})
            self._set([one for one in found if one.act == "set" and one.what != "partitions"])
        except KafkaException as error:
            raise self._failed("applying the topics", error) from error
        return found

    def _of(self, topic: Topic) -> list[Difference]:
        name = self._prefix + topic.name
        about = self._about(name)
        if about is None:
            shown = f"{topic.partitions} partitions, {self._wanted_replicas()} replicas"
            return [Difference(topic.name, "topic", "-", shown, "made")]
        partitions, replicas = about
        found = []
        if partitions != topic.partitions:
            act: Act = "refused" if topic == IN else "set" if partitions < topic.partitions else "kept"
            found.append(Difference(topic.name, "partitions", str(partitions), str(topic.partitions), act))
        resource = ConfigResource(ResourceType.TOPIC, name)
        has = self._admin.describe_configs([resource], request_timeout=self._answer_s)[resource].result()
        for what, wanted in declared(topic, replicas).items():
            value = has[what].value
            if value != wanted:
                more = what in _NUMBERS and _more(value, wanted)
                found.append(Difference(topic.name, what, value, wanted, "kept" if more else "set"))
        return found

    def _about(self, name: str) -> tuple[int, int] | None:
        """Return partitions and replicas of a topic; None: there is none."""
        asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=self._answer_s)
        try:
            about = asked[name].result()
        except KafkaException as error:
            if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
                return None
            raise
        return len(about.partitions), min(len(partition.replicas) for partition in about.partitions)

    def _wanted_replicas(self) -> int:
        if self._replicas is None:
            brokers = len(self._admin.describe_cluster(request_timeout=self._answer_s).result().nodes)
            self._replicas = min(_REPLICAS, brokers)
        return self._replicas

    def _make(self, topics: Sequence[Topic]) -> None:
        if topics:
            replicas = self._wanted_replicas()
            new = [
                NewTopic(self._prefix + t.name, t.partitions, replicas, config=declared(t, replicas))
                for t in topics
            ]
            for future in self._admin.create_topics(new, request_timeout=self._answer_s).values():
                try:
                    future.result()
                except KafkaException as error:
                    if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another one may have been quicker
                        raise

    def _widen(self, topics: Mapping[str, int]) -> None:
        if topics:
            new = [NewPartitions(self._prefix + name, count) for name, count in topics.items()]
            _done(self._admin.create_partitions(new, request_timeout=self._answer_s))

    def _set(self, differences: Sequence[Difference]) -> None:
        for one in differences:
            entry = ConfigEntry(one.what, one.declared, incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(
                ResourceType.TOPIC, self._prefix + one.topic, incremental_configs=[entry]
            )
            _done(self._admin.incremental_alter_configs([resource], request_timeout=self._answer_s))

    def _failed(self, what: str, error: KafkaException) -> Exception:
        self._admin.poll(0)
        return self._troubles.unavailable(what, error)


def _done(asked: Mapping[Any, Any]) -> None:
    for future in asked.values():
        future.result()


def _more(has: str, wanted: str) -> bool:
    return float(has) == _UNLIMITED or float(has) > float(wanted)
