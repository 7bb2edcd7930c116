"""Agents, a real Kafka and two workers against one box with a SQLite log: the same fleet comes to the same windows (R31)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from headwater_appliance.audit import audit
from headwater_appliance.audit_findings import Findings
from headwater_appliance.audit_stored import read
from headwater_shared import ledger as ledgers
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system import result
from tests.system.box import EDGE, WORKER, Box, box
from tests.system.kafka_box import kafka_box
from tests.system.load import Load, load
from tests.system.test_up import place_of, up
from tests.system.workers import offsets

SITES = ("north", "east", "south", "west")
_READY_S = 60.0
"""Six processes start at once, on two cores that others use too."""
WORKERS = (WORKER.format(1), WORKER.format(2))


@dataclass
class Cluster:
    """Boxes with an agent each. In the first one are the workers, too, and all of it is kept by `headwater up`: on a machine that
    stands still for seconds a worker loses its transaction, and ends.
    """

    boxes: list[Box]

    @contextmanager
    def runs(self) -> Iterator[None]:
        first, *others = self.boxes
        for here in others:
            here.start(EDGE)
        with up(first, parts=(EDGE, *WORKERS)) as running:
            for here in others:
                here.ready(EDGE, _READY_S)
            yield
            running.send_signal(SIGTERM)
            assert running.wait(60) == 0
        for here in others:
            here.end(EDGE)

    def kill(self, here: Box, part: str) -> None:
        """End a part as a power cut of its process would, and wait until it is back."""
        if here is not self.boxes[0]:
            here.kill(part)
            here.start(part)
            here.ready(part, _READY_S)
            return
        pid = place_of(here, part)["pid"]
        os.kill(pid, SIGKILL)
        place_of(here, part, before=pid)

    def ports(self) -> list[str]:
        """What tells a fleet which site goes to which agent."""
        return [f"--port-of={site}={self.boxes[n % len(self.boxes)].port}" for n, site in enumerate(SITES)]

    def audited(self, ledger: Path) -> Findings:
        agents = [here.data / "edge.db" for here in self.boxes]
        return audit(ledgers.read(ledger), read(self.boxes[0].data / "cloud.db", agents))


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    made = MadeTopics(kafka)
    yield made
    made.delete()


def same_as_one_box(
    folder: Path, topics: MadeTopics, agents: int, seconds: float, meanwhile: Callable[[Cluster, Load], None], options: Sequence[str] = (),
) -> None:  # fmt: skip
    """Send one plan to a cluster, with what happens `meanwhile`, and to one box; compare what they store."""
    with ExitStack() as ends:
        boxes = [ends.enter_context(kafka_box(folder / f"agent-{n}", topics)) for n in range(agents)]
        for n, here in enumerate(boxes):
            text = here.settings.read_text().replace('name = "box"', f'name = "box-{n}"')
            here.settings.write_text(text.replace("[cloud]\n", "[cloud]\nworkers = 2\n"))
        cluster = Cluster(boxes)
        with cluster.runs(), load(boxes[0], seconds, *options, *cluster.ports()) as fleet:
            meanwhile(cluster, fleet)
            fleet.finished(300)
            for here in boxes:
                here.closed()
        found = cluster.audited(fleet.ledger)
        assert found.good, found.line()
        assert found.acknowledged > 1_000
        many = result.read(boxes[0].data / "cloud.db")
        series = result.timed_series(fleet.ledger)
    with box(folder / "one", edge=_rules(boxes[0])) as alone:
        alone.up()
        with load(alone, seconds, *options) as fleet:
            fleet.finished(300)
        alone.closed()
        result.assert_same(many, result.read(alone.data / "cloud.db"), series)


def _rules(here: Box) -> str:
    """The tables of an agent of the cluster, for one that stands alone."""
    text = here.settings.read_text()
    return text[text.index("[[edge.limit]]") : text.index("[edge.listener]")]


@pytest.mark.covers("R31")
def test_r31_agents_on_kafka_come_to_the_windows_of_one_box(topics: MadeTopics, tmp_path: Path) -> None:
    """Two agents, Kafka and two workers: the audit finds all, and every window is the one that a box makes of the same plan."""

    def meanwhile(cluster: Cluster, fleet: Load) -> None:
        """Nothing."""

    same_as_one_box(tmp_path, topics, 2, 12.0, meanwhile, ("--devices", "40"))


@pytest.mark.fault
@pytest.mark.covers("R31")
def test_r31_also_when_agents_workers_and_kafka_are_killed(topics: MadeTopics, tmp_path: Path) -> None:
    """Four agents under a longer load; each of them, each worker and Kafka are killed once, and come back."""

    def meanwhile(cluster: Cluster, fleet: Load) -> None:
        first = cluster.boxes[0]
        parts = [(first, WORKERS[0]), (first, WORKERS[1]), *((here, EDGE) for here in cluster.boxes)]
        for here, part in parts:
            before = sum(offsets(first).values())
            until(lambda done=before: sum(offsets(first).values()) > done + 20, 90, "the workers get on")  # type: ignore[misc]
            cluster.kill(here, part)
        topics.server.kill()
        topics.server.start()

    same_as_one_box(tmp_path, topics, 4, 120.0, meanwhile, ("--in-flight", "5"))
