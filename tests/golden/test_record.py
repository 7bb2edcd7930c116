"""The recorder: what lies on a bus and what was made of it becomes a trace, of either bus."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_cloud.runner import Runner
from headwater_cloud.store import Store
from headwater_shared.bus import Bus
from headwater_shared.clock import SetClock
from headwater_shared.errors import Refused
from headwater_shared.identity import shard_of
from headwater_shared.topics import IN, SECOND
from tests.cloud.made import SHARD, Agent, row
from tests.cloud.side import FILE, Side
from tests.golden import local, on_kafka, outcome, record, trace
from tests.kafka import KafkaServer, MadeTopics
from tests.support import ROOT, until


def test_a_run_becomes_a_trace(folder: Path) -> None:
    """Records, and what was made of them: played again it comes to the same; the command says how large it is."""
    data = folder / "data"
    side = Side(data)
    agent = Agent()
    side.put_clock(SHARD)
    side.take(agent.frame(row(0, 1.0, 2.0)), agent.anomaly("begin", 5), agent.heartbeat(20))
    side.close()
    settings = folder / "headwater.toml"
    settings.write_text(f'[common]\ndata = "{data}"\n')
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden.record", str(folder / "x.trace"), "--settings", str(settings), "--about", "a test"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert re.search(r"x\.trace: 4 records, 1 windows, [\d,]+ bytes", done.stdout)
    found = trace.read(folder / "x.trace")
    assert found.about == "a test"
    assert [one.headers["ce_type"].rpartition(".")[2] for one in found.records()] == ["clock", "frame", "anomaly", "heartbeat"]  # fmt: skip
    assert outcome.difference(local.play(found, folder, 7), found.outcome) == ""


def test_a_run_that_is_not_over_is_refused(folder: Path) -> None:
    """Records that the cloud side has not taken in would be a trace with a wrong outcome."""
    side = Side(folder / "data")
    side.take(Agent().frame(row(0, 1.0)))
    side.put(Agent("a2").frame(row(0, 2.0)))
    with pytest.raises(Refused, match="1 of 2 records are not taken in yet"):
        record.recorded(side.log, side.folder / FILE, "")
    side.close()


def _behind(bus: Bus, runner: Runner) -> bool:
    """Whether there are records to read; marks of transactions are none."""
    return any(
        one.offset >= offsets.get(one.partition, 0)
        for topic, offsets in (
            (IN, runner._offsets),
            *((which, runner._second[which.name]) for which in SECOND),
        )
        for one in on_kafka.topic(bus, topic)
    )


def test_a_trace_is_played_and_recorded_on_kafka(kafka: KafkaServer, folder: Path) -> None:
    """On Kafka a trace lies as it did where it was recorded, clocks are believed, and the same comes out; recorded again it holds
    the same records.
    """
    wanted = trace.read(trace.FOLDER / "streams.trace")
    topics = MadeTopics(kafka)
    on_kafka.keep_times(topics)
    bus, store = on_kafka.opened(topics), Store(folder / FILE)
    try:
        runner = Runner(bus, store, SetClock(), batch=200, monotonic=lambda: 0.0)
        for act in wanted.acts:
            on_kafka.append(topics, act)
            until(lambda: not runner.step() and not _behind(bus, runner), 60, "all is taken")
        runner.close()
        store.close()
        found = outcome.read(folder / FILE, lambda topic: on_kafka.topic(bus, topic), patient=True)
        assert outcome.difference(found, wanted.outcome) == ""
        again = record.recorded(bus, folder / FILE, "")
    finally:
        bus.close()
        topics.delete()
    assert {one.partition for one in again.acts[0]} == {SHARD, shard_of("s2")}
    for shard in (SHARD, shard_of("s2")):
        lay, lies = (
            [one.body for one in some if one.partition == shard] for some in (wanted.records(), again.acts[0])
        )
        assert lay == lies
