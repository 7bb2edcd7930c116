"""What the cloud side's process shows: every metric of the list and no other, how far behind time is, and how long the way took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from headwater_cloud.influx_settings import InfluxSettings
from headwater_cloud.metric_names import BY_NAME, SINK
from headwater_cloud.outputs import REPLAY_OF
from headwater_cloud.process import Process
from headwater_cloud.settings import CloudSettings
from headwater_cloud.sink_process import SinkProcess
from headwater_shared import trace
from headwater_shared.bus import Record
from headwater_shared.records import MADE
from headwater_shared.settings import Common
from headwater_shared.sqlite_log import SqliteLog, wall_us
from tests.cloud.made import SHARD, Agent, S, clock_record, row
from tests.cloud.side import LOG, Side
from tests.support import until

LATENCY = "headwater_cloud_commit_latency_seconds"
TOLD = "headwater_cloud_notification_latency_seconds"


@pytest.fixture
def process(folder: Path) -> Iterator[Process]:
    """A process of the cloud side whose loop the test turns; its clocks are the machine's."""
    made = Process(Common(data=str(folder)), CloudSettings(wait="1ms"))
    yield made
    made.close()


def _value(process: Process, name: str, **labels: str) -> float:
    found = process.runner.metrics.registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


def test_the_process_shows_what_the_list_says(process: Process) -> None:
    """By names, kinds, texts and labels; beside them only what Prometheus' client knows of every process."""
    families = [
        one for one in process.runner.metrics.registry.collect() if not one.name.startswith("process_")
    ]
    found = {(one.name, one.type, one.documentation) for one in families}
    assert found == {(metric.family, metric.kind, metric.text) for metric in BY_NAME.values()}
    wanted = {metric.family: set(metric.labels) for metric in BY_NAME.values()}
    for one in families:
        for sample in one.samples:
            assert set(sample.labels) - {"le"} == wanted[one.name]


def test_it_says_how_far_time_and_completeness_are_behind(process: Process, folder: Path) -> None:
    """By the machine's clock: the shard whose clock is oldest, and the agent whose windows are complete up to the earliest time."""
    log, agent, now = SqliteLog(folder / LOG), Agent(), wall_us()
    complete_s = (now - 40 * S - 1_800_000_000 * S) / S
    log.append([agent.frame(row(0, 1.0)), agent.heartbeat(complete_s), clock_record(SHARD, now - 3 * S)])
    process.turn()
    log.close()
    assert 3 <= _value(process, "headwater_cloud_clock_lag_seconds") < 30
    assert 40 <= _value(process, "headwater_cloud_complete_lag_seconds") < 70
    assert _value(process, "headwater_cloud_shards") == 1
    assert _value(process, "headwater_cloud_agents", state="heard") == 1
    assert _value(process, "headwater_cloud_alerts_open", severity="critical") == 0


def test_open_alerts_are_counted_by_severity(process: Process, folder: Path) -> None:
    """While they fire, and no longer once they are over."""
    log, agent = SqliteLog(folder / LOG), Agent()
    log.append([agent.anomaly("begin", 1)])
    process.turn()
    assert _value(process, "headwater_cloud_alerts_open", severity="critical") == 1
    log.append([agent.anomaly("end", 5, begin=1)])
    process.turn()
    log.close()
    assert _value(process, "headwater_cloud_alerts_open", severity="critical") == 0


def _made(record: Record, at_us: int) -> Record:
    """A record as an agent sends it at once."""
    more = {MADE: str(at_us), trace.HEADER: trace.traceparent("row")}
    return msgspec.structs.replace(record, headers={**record.headers, **more})


def test_the_way_from_a_tick_to_the_commit_is_measured(side: Side) -> None:
    """By the time that the agent gives with a row; a backlog has none, a repeat counts once, nonsense and a dead letter that is replayed do not; the bucket's exemplar is its trace."""
    agent = Agent()
    first = _made(agent.frame(row(0, 1.0)), side.clock.wall_us - 2 * S)
    side.take(first, agent.frame(row(10, 1.0)))
    side.take(first)
    side.take(_made(agent.frame(row(20, 1.0)), -5))
    again = _made(agent.frame(row(30, 1.0)), side.clock.wall_us - 99 * S)
    side.take(msgspec.structs.replace(again, headers={**again.headers, REPLAY_OF: "hw-dead-letters/0/1"}))
    registry = side.runner.metrics.registry
    assert registry.get_sample_value(LATENCY + "_count") == 1
    assert registry.get_sample_value(LATENCY + "_sum") == 2
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    (line,) = [one for one in text.splitlines() if one.startswith(LATENCY) and "trace_id" in one]
    assert 'le="2.5"' in line
    assert f'trace_id="{trace.traceparent("row").split("-")[1]}"' in line


def test_the_way_to_a_notification_is_measured_by_route(process: Process, folder: Path) -> None:
    """From the event time of the evidence until the route took the first message of an incident; its end is not measured."""
    log, agent, now = SqliteLog(folder / LOG), Agent(), wall_us()
    begin = (now - 5 * S - 1_800_000_000 * S) / S
    first = agent.anomaly("begin", begin)
    log.append([_made(first, now)])
    process.courier.start()
    process.turn()
    registry = process.runner.metrics.registry
    count = TOLD + "_count"
    until(lambda: registry.get_sample_value(count, {"route": "file"}) == 1, what="it is told")
    log.append([agent.anomaly("end", begin + 1, begin=begin)])
    process.turn()
    until(lambda: process.courier.status()["routes"]["file"]["sent"] == 2, what="its end is told")
    log.close()
    assert registry.get_sample_value(count, {"route": "file"}) == 1
    assert 5 <= _value(process, TOLD + "_sum", route="file") < 60
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    (line,) = [one for one in text.splitlines() if one.startswith(TOLD) and "trace_id" in one]
    assert f'trace_id="{trace.trace_of(trace.traceparent("row"))}"' in line
    took = "headwater_cloud_notification_send_seconds"
    assert _value(process, took + "_count", route="file") == 2
    assert 0 < _value(process, took + "_sum", route="file") < 5


def test_the_sink_shows_what_the_list_says(folder: Path) -> None:
    """The names that rules and dashboards ask for."""
    made = SinkProcess(
        Common(data=str(folder)), CloudSettings(influx=InfluxSettings(url="http://127.0.0.1:1"))
    )
    found = {
        (one.name, one.type, one.documentation)
        for one in made.registry.collect()
        if not one.name.startswith("process_")
    }
    made.close()
    assert found == {(metric.family, metric.kind, metric.text) for metric in SINK.values()}


def test_what_may_be_counted_stands_at_0_before(process: Process) -> None:
    """The first gap and the first dead letter are a rise that a rule sees."""
    assert _value(process, "headwater_cloud_reports_total", kind="gap") == 0
    assert _value(process, "headwater_cloud_dead_letters_total", reason="late") == 0
