"""`headwater up` with workers: the cloud side of a box as several processes on a real Kafka."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_appliance.box import box_of
from headwater_appliance.look import Look, look
from headwater_appliance.up import check
from headwater_shared.errors import SettingsError
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system.box import EDGE, WORKER, Box, box, descendants
from tests.system.kafka_box import commanded, kafka_box
from tests.system.test_up import up

WORKERS = (WORKER.format(1), WORKER.format(2))


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    made = MadeTopics(kafka)
    yield made
    made.delete()


def with_workers(here: Box) -> None:
    """Let `headwater up` run two of them."""
    here.settings.write_text(here.settings.read_text().replace("[cloud]\n", "[cloud]\nworkers = 2\n"))


def test_a_box_with_workers(topics: MadeTopics, tmp_path: Path) -> None:
    """Agent and two workers run, and are looked at as one cloud side; workers that have no input yet are well, a reading of
    one site becomes a window, and SIGTERM ends all with exit code 0.
    """
    with kafka_box(tmp_path, topics) as here:
        with_workers(here)
        with up(here, parts=(EDGE, *WORKERS)) as running:
            began = time.monotonic()
            assert len(descendants([running.pid])) == 4

            def seen() -> Look:
                return look(box_of(here.settings))

            def well_for_a_while() -> bool:
                found = seen().cloud_health
                assert len(found["shards"]) == 64
                return bool(time.monotonic() > began + 4 and found["last_turn_s"] < 2)

            until(well_for_a_while, 30, "workers without input go round")
            now = seen()
            assert set(now.workers) == set(WORKERS)
            assert now.cloud is not None
            assert now.cloud.memory_bytes == sum(
                one.memory_bytes for one in now.workers.values() if one is not None
            )
            assert now.cloud_health["ready"]
            commanded(here, "stove")
            here.closed()
            assert "home/stove/temperature" in here.run("headwater", "query", "*")
            here.run("headwater", "doctor", "--check", "cloud-side", "--check", "ports", "--check", "sqlite")
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        assert not here.troubles()


def test_workers_need_kafka(tmp_path: Path) -> None:
    """On a SQLite log they are a mistake that is told before anything starts."""
    with box(tmp_path) as here:
        with_workers(here)
        with pytest.raises(SettingsError, match="which one process reads") as told:
            check(here.settings)
        assert "workers = 0" in told.value.hint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('mechanism = "SCRAM"', "kafka.mechanism: 'SCRAM' is not among its values"),
        ('user = "u"\npassword = "hunter2"', "kafka.password: expected"),
        ('user = "u"', "has no password"),
        ('user = "u"\npassword = "env:NOT_LOOKED_UP"\nmechanism = "PLAIN"', "PLAIN without TLS"),
        ("colour = 1", "colour"),
    ],
)
def test_what_is_wrong_about_kafka_is_told_before_a_start(tmp_path: Path, wrong: str, said: str) -> None:
    """`headwater config check` and `up` see in [kafka] what agent and cloud side would refuse; secrets are not looked up."""
    file = tmp_path / "headwater.toml"
    buses = 'bus = "kafka://127.0.0.1:1"\n'
    file.write_text(f"[edge]\n{buses}[cloud]\n{buses}[kafka]\n{wrong}\n")
    with pytest.raises(SettingsError, match=said):
        check(file)
