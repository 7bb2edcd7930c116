"""The registry and a worker, each a real process over a real Kafka: what people say of devices reaches the rows, also past a kill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater_cloud.history import History
from headwater_cloud.registry_topic import RegistryTopic
from headwater_shared.errors import StateError
from headwater_shared.registry import Entry, change_of
from tests.contracts.buses import BUSES
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system.box import WORKER, Box, command
from tests.system.kafka_box import kafka_box

ONE = WORKER.format(1)


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    made = MadeTopics(kafka)
    yield made
    made.delete()


def models(here: Box) -> dict[str, str]:
    """What the rows say: model by device, "-" for a removed one."""
    try:
        with closing(History(here.data / "cloud.db")) as history:
            changes = history.registry()
    except StateError:  # the worker makes it
        return {}
    return {device: "-" if one.removed else one.model for device, one in changes.items()}


@pytest.mark.fault
def test_r24_a_worker_knows_the_registry_whatever_was_killed(topics: MadeTopics, tmp_path: Path) -> None:
    """The command's copies; then changes that stand in the topic only, for the command was killed, and the worker with it; and the
    file of its own machine.
    """
    with kafka_box(tmp_path, topics) as here:

        def devices(*words: str, text: str | None = None) -> None:
            line = [command("headwater-cloud"), "devices", *words, "--settings", str(here.settings)]
            subprocess.run(line, input=text, text=True, check=True, timeout=60, stdout=subprocess.DEVNULL)

        here.start(ONE)
        here.ready(ONE)
        devices("import", "-", text="device,model\ns1/d1,P100\ns1/d2,P100\ns2/d1,P100\n")
        until(lambda: models(here) == {"s1/d1": "P100", "s1/d2": "P100", "s2/d1": "P100"}, 60)
        here.kill(ONE)
        with closing(BUSES["kafka"](topics.address)) as bus:
            topic = RegistryTopic(bus)
            topic.read()
            for device, entry in (("s1/d1", Entry("P200")), ("s2/d1", None), ("s3/d1", Entry("P300"))):
                at = topic.latest[device].time_us + 1 if device in topic.latest else 1
                topic.learn(change_of(device, entry, at))
                topic.write([device])
        here.start(ONE)
        here.ready(ONE)
        until(lambda: models(here) == {"s1/d1": "P200", "s1/d2": "P100", "s2/d1": "-", "s3/d1": "P300"}, 60)
        line = [command("headwater"), "registry", "set", "s1/d2", "--model", "P400", "--data", str(here.data)]
        subprocess.run(line, check=True, timeout=60, stdout=subprocess.DEVNULL)
        until(lambda: models(here)["s1/d2"] == "P400", 60)
        here.end(ONE)
        assert not here.troubles()
