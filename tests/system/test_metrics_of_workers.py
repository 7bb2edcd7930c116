"""Workers on a real Kafka: each agent is shown by exactly one of them, also after the one that showed it was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_shared.bus import Record
from headwater_shared.kafka_bus import KafkaBus
from tests.cloud.test_agent_status import frame_of
from tests.kafka import MadeTopics
from tests.support import until
from tests.system.box import WORKER, Box
from tests.system.kafka_box import kafka_box
from tests.system.test_prometheus import page_of

WORKERS = (WORKER.format(1), WORKER.format(2))
AGENTS = 12


def _shown(here: Box) -> dict[str, set[str]]:
    """The agents whose values each running worker shows."""
    return {
        worker: {
            line.partition('agent="')[2].partition('"')[0]
            for line in page_of(here.ready(worker)["health"], "/metrics").splitlines()
            if line.startswith("headwater_agent_series{")
        }
        for worker in here.running
    }


@pytest.mark.fault
def test_each_agent_is_shown_by_one_worker_and_by_another_after_a_kill(
    kafka_topics: MadeTopics, tmp_path: Path
) -> None:
    """No frame comes after the kill: who takes the shards over knows from the file what was told."""
    everyone = {f"agent-{number}" for number in range(AGENTS)}
    frames: list[Record] = [frame_of(agent, ("headwater_edge_series", {}, 1.0)) for agent in everyone]
    with kafka_box(tmp_path, kafka_topics) as here:
        for worker in WORKERS:
            here.start(worker)
            here.ready(worker, 60)
        bus = KafkaBus(kafka_topics.client, kafka_topics.prefix)
        bus.append(frames)
        bus.close()

        def shared() -> bool:
            of_each = list(_shown(here).values())
            return sum(map(len, of_each)) == AGENTS and set.union(*of_each) == everyone and all(of_each)

        until(shared, 60, "each agent is shown by one of two")
        here.kill(WORKERS[0])
        until(lambda: _shown(here)[WORKERS[1]] == everyone, 60, "the other one shows all")
        assert "headwater_cloud_status_frames_total" in page_of(here.ready(WORKERS[1])["health"], "/metrics")
