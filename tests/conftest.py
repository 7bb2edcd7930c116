"""Fixtures that every test may ask for, and how hypothesis searches."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings

from tests.fault.recorded import Audited, Recorded, audited, record
from tests.kafka import KafkaServer, MadeTopics
from tests.support import Mosquitto, mosquitto_broker
from tests.turns import turn

# `make test` tries the same examples every time, so that it is green twice or red twice; `make fault` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=100)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# ... and as `same`, but what is found is not made smaller: a mechanism that was switched off need only be noticed.
settings.register_profile(
    "once", settings.get_profile("same"), phases=[Phase.explicit, Phase.generate], print_blob=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Under xdist, let a test marked `alone` run while no other does, its fixtures included."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
    with turn(factory.getbasetemp().parent / "turns", alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Leave the logs of the test run as they were: a process that a test runs inside this one sets its own up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real Mosquitto of this test's own, on a free port of the loopback."""
    with mosquitto_broker(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """The one Kafka of this run: it starts when a test first asks for it. Ended by pid."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def kafka(kafka_server: KafkaServer) -> KafkaServer:
    """A real Kafka that runs, whatever the test before did to it; its topics are those of every test."""
    if not kafka_server.runs:
        kafka_server.start()
    return kafka_server


@pytest.fixture
def kafka_bus(kafka: KafkaServer) -> Iterator[str]:
    """Fresh topics as `headwater-cloud topics --apply` makes them: "kafka://host:port/PREFIX", for `tests.contracts.buses`."""
    made = MadeTopics(kafka)
    yield made.address
    made.delete()


@pytest.fixture
def kafka_topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    """Fresh topics on the one Kafka."""
    made = MadeTopics(kafka)
    yield made
    made.delete()


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """`recorded("kill -9", 30, said)` notes for the report what an audit printed after so many faults, and returns it."""

    def note(fault: str, times: int, said: str | Audited) -> Audited:
        found = audited(said) if isinstance(said, str) else said
        record(request.node.name, fault, times, found)
        return found

    return note
