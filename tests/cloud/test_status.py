"""`headwater-cloud status`: lag, who holds what, what is had of each agent, gaps, skew, dead letters; on both buses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from headwater_cloud.cli import app
from headwater_cloud.outputs import have_record
from headwater_cloud.rule_records import home_of
from headwater_cloud.runner import GROUP
from headwater_cloud.skew import Skew, ratio
from headwater_cloud.status_command import ALONE
from headwater_shared.identity import shard_of
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.records import Have
from headwater_shared.topics import IN
from tests.cloud.made import SHARD, T0, Agent, row
from tests.cloud.side import Side
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until

OTHER = shard_of("s2")


def status(settings: Path) -> tuple[dict[str, Any], str]:
    """What the command says to programs, and to people."""
    said = []
    for words in (["--json"], []):
        done = CliRunner().invoke(app, ["status", "--settings", str(settings), *words])
        assert done.exit_code == 0, (done.output, done.exception)
        said.append(done.output)
    return json.loads(said[0]), said[1]


def settings_of(side: Side) -> Path:
    path = side.folder / "headwater.toml"
    path.write_text(f'[common]\ndata = "{side.folder}"\n')
    return path


def test_the_state_of_one_box(side: Side) -> None:
    """Agents with what is had and missing of them, silence, reports, dead letters, lag, and who works: nobody, or this process."""
    one, two = Agent(), Agent("a2", epoch=7)
    sent = [one.frame(row(10 * n, 1.0)) for n in range(6)]
    side.put_clock(SHARD, OTHER)
    side.take(
        sent[0], sent[1], sent[4], one.heartbeat(10, last_seq=2), msgspec.structs.replace(sent[5], body=b"?")
    )
    side.take(two.frame(*(row(0, 1.0, series=f"s2/d{n}/x", opened=("a2", 7, 1)) for n in range(5))))
    side.put_clock(SHARD, OTHER, seconds=400)
    side.run()
    heard = T0
    side.put(*(two.frame(shard=OTHER) for _ in range(3)))
    found, shown = status(settings_of(side))
    assert found["lag"] == 3
    assert found["holders"] == []
    homes = [(home_of(f"agent:{name}"), 1, 0) for name in ("a1", "a2")]  # where it is told that it is silent
    assert [(s["shard"], s["end"], s["lag"]) for s in found["shards"]] == sorted(
        [(OTHER, 6, 3), (SHARD, 7, 0), *homes]
    )
    assert [(a["agent"], a["last_seq"], a["missing"], a["silent_us"] > 0) for a in found["agents"]] == [
        ("a1", 6, 2, True), ("a2", 1, 0, True),
    ]  # fmt: skip
    assert found["agents"][0]["complete_us"] == T0 + 10_000_000
    assert found["agents"][0]["silent_us"] >= heard
    assert found["dead"] == {"damaged": 1}
    assert found["reports"] == {"gap": 1}
    assert (found["busiest"], round(found["skew"], 3)) == (OTHER, round(5 / ((5 + 3) / 2), 3))
    assert "nobody works on it" in shown
    assert f"shard {OTHER}: 3 of 6 records, held by nobody" in shown
    assert "dead letters damaged 1" in shown
    assert f"skew         shard {OTHER} has 1.2 times the mean" in shown
    (side.folder / "cloud.json").write_bytes(msgspec.json.encode({"health": 1, "pid": os.getpid()}))
    found, shown = status(settings_of(side))
    assert {s["holder"] for s in found["shards"]} == {"cloud"}
    assert f"works on it  cloud (pid {os.getpid()}): 0-63" in shown


def test_where_nothing_is_yet(side: Side) -> None:
    """A log without a record, and no cloud side's file: said, not guessed."""
    side.drop()
    (side.folder / "cloud.db").unlink()
    found, shown = status(settings_of(side))
    assert (found["lag"], found["agents"], found["skew"], found["busiest"]) == (0, [], None, None)
    assert "reports      none" in shown
    side.open()


def test_the_state_on_kafka(kafka: KafkaServer, tmp_path: Path) -> None:
    """Who is in the workers' group with which shards, and how far it has committed; of each agent what `hw-have` says."""
    from confluent_kafka import Consumer, TopicPartition

    topics = MadeTopics(kafka)
    path = tmp_path / "headwater.toml"
    path.write_text(
        f'[common]\ndata = "{tmp_path}"\n[cloud]\nbus = "{kafka.address}"\n[kafka]\nprefix = "{topics.prefix}"\n'
    )
    bus = KafkaBus(topics.client, topics.prefix)
    worker = Consumer({
        **topics.client, "group.id": topics.prefix + "workers", "group.instance.id": f"{topics.prefix}workers-1",
        "log_level": 0,
    })  # fmt: skip
    try:
        found, shown = status(path)
        assert (found["lag"], found["holders"], found["skew"]) == (0, [], None)
        agent = Agent()
        bus.append([agent.frame(row(10 * n, 1.0)) for n in range(5)])
        bus.append_once("test", 1, [have_record(Have("a1", 1, SHARD, [1, 2, 4, 4]), 0)])
        worker.subscribe([topics.prefix + IN.name])
        until(lambda: worker.poll(0.05) is not None or worker.assignment(), 20, "the worker has its shards")
        worker.commit(offsets=[TopicPartition(topics.prefix + IN.name, SHARD, 3)], asynchronous=False)
        until(lambda: status(path)[0]["agents"], 10, "what is had can be read")
        found, shown = status(path)
        (holder,) = found["holders"]
        assert (holder["name"], holder["shards"]) == (f"{topics.prefix}workers-1", list(range(64)))
        assert found["shards"] == [{"shard": SHARD, "end": 5, "done": 3, "lag": 2, "holder": holder["name"]}]
        assert [(a["last_seq"], a["missing"]) for a in found["agents"]] == [(4, 1)]
        assert f"{topics.prefix}workers-1 (127.0.0.1): 0-63" in shown
    finally:
        worker.close()
        bus.close()
        topics.delete()


def test_the_group_of_one_process_is_its_own() -> None:
    """`headwater-cloud status` knows its name without importing the runner."""
    assert ALONE == GROUP


def test_skew_is_a_metric(side: Side) -> None:
    """The busiest shard against the mean of those that had rows, as a gauge; rows by shard as counters, for a whole group."""
    agent = Agent()
    side.take(
        agent.frame(*(row(0, 1.0, series=f"s1/d{n}/x") for n in range(9))),
        agent.frame(row(0, 1.0, series="s2/d/x"), *(row(10 * n, 1.0, series="s2/d/y") for n in range(2))),
    )
    assert side.count("shard_parts_total", shard=str(SHARD)) == 9
    assert side.count("shard_parts_total", shard=str(OTHER)) == 3
    assert side.count("shard_skew_ratio") == 1.5


def test_skew_forgets() -> None:
    """Of the minute before, and this one; what is longer ago does not count, however long nothing came."""
    now = 0.0
    skew = Skew(lambda: now)
    assert skew.value() == 0
    skew.add(1, 30)
    skew.add(2, 10)
    assert skew.value() == ratio({1: 30, 2: 10}) == 1.5
    now = 61
    skew.add(2, 20)
    assert skew.value() == 1.0
    now = 130
    assert skew.value() == 1.0  # only shard 2 had any
    now = 1000
    assert skew.value() == 0
