"""`headwater-cloud topics`: Kafka's topics, as they are and as they are declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headwater_cloud.commands import SettingsFile
from headwater_cloud.settings import CloudSettings
from headwater_shared.errors import SettingsError
from headwater_shared.extras import load as load_extra
from headwater_shared.kafka_settings import KafkaSettings, connection, is_kafka
from headwater_shared.settings import load
from headwater_shared.topics import TOPICS, Topic

if TYPE_CHECKING:
    from headwater_cloud.kafka_topics import Difference

_WORDS = {
    "made": ("is missing: --apply makes it", "made"),
    "set": ("--apply sets it", "set"),
    "kept": ("more than declared: it stays", "more than declared: it stays"),
    "refused": ("cannot be put right: --apply says why", ""),
}


def topics(
    settings: SettingsFile = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make what is missing, and set what is less than declared.")
    ] = False,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Of new topics; 3, or as many as there are brokers, without it.")
    ] = None,
) -> None:
    """Show how Kafka's topics differ from what Headwater declares; with --apply, put that right. Nothing is ever shrunk."""
    cloud = load(settings, "cloud", CloudSettings)
    if not is_kafka(cloud.bus):
        raise SettingsError(
            f"the bus of the cloud side is the file {cloud.bus}, which makes its topics by itself",
            hint='set bus = "kafka://host:9092" in [cloud] and [edge]',
        )
    kafka = load(settings, "kafka", KafkaSettings)
    client = connection(cloud.bus, kafka)
    load_extra("confluent_kafka", "kafka")
    from headwater_cloud.kafka_topics import Topics

    cluster = Topics(client, kafka.prefix, replicas)
    found = cluster.apply() if apply else cluster.differences()
    for topic in TOPICS.values():
        print(_shown(kafka.prefix, topic))
        for one in found:
            if one.topic == topic.name:
                print(_told(one, applied=apply))
    if apply and kafka.registry:
        from headwater_cloud.schema_registry import register

        for schema in register(kafka):
            print(
                f"{schema.subject}, version {schema.version}: number {schema.number} in the schema registry"
            )


def _shown(prefix: str, topic: Topic) -> str:
    kept = "the latest of each key" if topic.compacted else f"{topic.days:g} days"
    return f"{prefix}{topic.name}: {topic.partitions} partitions, keeps {kept}"


def _told(one: Difference, *, applied: bool) -> str:
    return f"  {one.what}: {one.has}, declared {one.declared}; {_WORDS[one.act][applied]}"
