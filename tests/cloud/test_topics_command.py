"""`headwater-cloud topics` on a real Kafka: what is missing is made, drift is shown, nothing is shrunk."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater_cloud.cli import app
from headwater_cloud.kafka_topics import Topics
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.topics import TOPICS
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system.box import command


class Cluster:
    """Topics under a prefix of the test's own, which only the command makes."""

    def __init__(self, kafka: KafkaServer, folder: Path) -> None:
        self.prefix = f"t{secrets.token_hex(3)}-"
        self.client = connection(kafka.address, KafkaSettings())
        self.settings = folder / "headwater.toml"
        self.settings.write_text(f'[cloud]\nbus = "{kafka.address}"\n[kafka]\nprefix = "{self.prefix}"\n')

    def topics(self, *words: str) -> list[str]:
        done = CliRunner().invoke(app, ["topics", "--settings", str(self.settings), *words])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output.splitlines()

    def make(self, name: str, partitions: int) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({**self.client, "log_level": 0})
        admin.create_topics([NewTopic(self.prefix + name, partitions, 1)])[self.prefix + name].result(30)

    def set(self, name: str, values: Mapping[str, str]) -> None:
        from confluent_kafka.admin import (
            AdminClient,
            AlterConfigOpType,
            ConfigEntry,
            ConfigResource,
            ResourceType,
        )

        admin = AdminClient({**self.client, "log_level": 0})
        entries = [
            ConfigEntry(what, value, incremental_operation=AlterConfigOpType.SET)
            for what, value in values.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self.prefix + name, incremental_configs=entries)
        admin.incremental_alter_configs([resource])[resource].result(30)

    def there(self) -> dict[str, int]:
        from confluent_kafka.admin import AdminClient

        found = AdminClient({**self.client, "log_level": 0}).list_topics(timeout=30).topics
        return {
            name.removeprefix(self.prefix): len(topic.partitions)
            for name, topic in found.items()
            if name.startswith(self.prefix)
        }


def test_topics_are_made_and_then_as_declared(kafka: KafkaServer, tmp_path: Path) -> None:
    """Without --apply the missing ones are shown and none is made; with it all are; then nothing differs."""
    cluster = Cluster(kafka, tmp_path)
    shown = cluster.topics()
    assert sum("is missing: --apply makes it" in line for line in shown) == len(TOPICS)
    assert cluster.there() == {}
    assert sum(line.endswith("; made") for line in cluster.topics("--apply")) == len(TOPICS)
    wanted = {name: topic.partitions for name, topic in TOPICS.items()}
    until(lambda: cluster.there() == wanted, 20, "the topics are there")
    until(lambda: len(cluster.topics()) == len(TOPICS), 20, "nothing differs")
    assert "hw-in: 64 partitions, keeps 7 days" in cluster.topics()[0]


def test_drift_is_shown_and_nothing_is_shrunk(kafka: KafkaServer, tmp_path: Path) -> None:
    """What is less than declared is set; what is more stays, and both are said."""
    cluster = Cluster(kafka, tmp_path)
    cluster.make("hw-have", 2)
    cluster.make("hw-alerts", 12)
    until(lambda: cluster.there() == {"hw-have": 2, "hw-alerts": 12})
    cluster.topics("--apply")
    until(lambda: len(cluster.there()) == len(TOPICS))
    cluster.set("hw-in", {"retention.ms": "1000"})
    cluster.set("hw-dead-letters", {"retention.ms": "-1"})

    def shown_all() -> str:
        shown = "\n".join(cluster.topics())
        assert "retention.ms: -1" in shown, "the broker shows it a moment later"
        assert "retention.ms: 1000" in shown
        return shown

    shown = until(shown_all)
    assert "retention.ms: 1000, declared 604800000; --apply sets it" in shown
    assert "retention.ms: -1, declared 31536000000; more than declared: it stays" in shown
    assert "partitions: 12, declared 8; more than declared: it stays" in shown
    assert cluster.there()["hw-have"] == 8
    cluster.topics("--apply")

    def left() -> bool:
        differ = Topics(cluster.client, cluster.prefix).differences()
        return {(d.topic, d.what, d.act) for d in differ} == {
            ("hw-alerts", "partitions", "kept"),
            ("hw-dead-letters", "retention.ms", "kept"),
        }

    until(left, 20, "only what is more is left")


@pytest.mark.parametrize("partitions", [16, 128])
def test_r24_another_partition_count_of_the_input_is_refused(
    kafka: KafkaServer, tmp_path: Path, partitions: int
) -> None:
    """A partition is a shard: `hw-in` with another count than 64 is refused with the reason, and nothing is changed."""
    cluster = Cluster(kafka, tmp_path)
    cluster.make("hw-in", partitions)
    until(lambda: cluster.there() == {"hw-in": partitions})
    assert any(f"partitions: {partitions}, declared 64" in line for line in cluster.topics())
    with pytest.raises(Refused, match="a partition is a shard"):
        Topics(cluster.client, cluster.prefix).apply()
    assert cluster.there() == {"hw-in": partitions}
    done = subprocess.run(
        [command("headwater-cloud"), "topics", "--apply", "--settings", str(cluster.settings)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{cluster.prefix}hw-in has {partitions} partitions instead of 64" in done.stderr
    assert "hint: nothing was changed" in done.stderr


def test_a_box_without_kafka_needs_no_topics(tmp_path: Path) -> None:
    """With the SQLite log the command says that there is nothing to make."""
    (tmp_path / "headwater.toml").write_text("")
    done = CliRunner().invoke(app, ["topics", "--settings", str(tmp_path / "headwater.toml")])
    assert isinstance(done.exception, SettingsError)
    assert "makes its topics by itself" in str(done.exception)


def test_made_topics_are_what_the_command_makes(kafka: KafkaServer) -> None:
    """The topics of the other tests differ in nothing from what is declared."""
    made = MadeTopics(kafka)
    assert Topics(made.client, made.prefix).differences() == []
    made.delete()
