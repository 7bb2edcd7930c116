"""A comparison from the windows of devices to what their shards are told, on the local runner and on shards in pieces (R25)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from headwater_cloud import past_evidence
from headwater_cloud.book import Book, Compare
from headwater_cloud.history import History
from headwater_cloud.matching import Index
from headwater_cloud.pipeline import Output
from headwater_cloud.rollup import topic_of
from headwater_cloud.shard import PIECE_LIMIT, Shard
from headwater_cloud.write import write_found
from headwater_shared import peers, records
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from headwater_shared.peers import Finding, Peers
from headwater_shared.records import RegistryChange
from headwater_shared.topics import BY_COHORT, DEAD_LETTERS, IN
from tests.cloud.made import T0, Agent, Row, S, row, without
from tests.cloud.side import FILE, Side
from tests.cloud.test_rollups import SHARDS, pass_time, registered, settle

RULE = Compare(
    "apart", "temp", cohort="pump-*", level="1m", peers=3, severity="critical", text="{device} is odd"
)
DEVICES = [f"s{1 + n % 2}/d{n}" for n in range(8)]


def rules(side: Side, *some: Compare) -> None:
    """Give the rules to every shard that the tests use."""
    for number in SHARDS:
        shard = side.runner._shards.setdefault(number, Shard(number))
        shard.book = Book(compare=some, time_us=T0)


@pytest.fixture
def settled(side: Side) -> Side:
    """A cloud side with a rule, whose shards know of eight pumps on two sites, and of a pump that is not their peer."""
    side.clock.wall_us = T0
    rules(side, RULE)
    side.take(*(registered(device, "pump-a") for device in DEVICES), registered("s1/fan", "fan"))
    settle(side)
    return side


def minute(at: int, values: dict[str, float], **more: int) -> list[Row]:
    """A window of a minute of each device."""
    return [
        row(60 * at, value, value, series=f"{device}/temp", level="1m", opened=("a1", 1, 100 + at), **more)
        for device, value in values.items()
    ]


def put(side: Side, agent: Agent, rows: list[Row]) -> None:
    for site in ("s1", "s2"):
        some = [one for one in rows if one.series.startswith(f"{site}/")]
        if some:
            side.put(agent.frame(*some))


def compared(side: Side) -> list[Peers]:
    return [
        peers.decode(one.body) for one in side.topic(BY_COHORT) if records.kind_of(one.headers) == peers.PEERS
    ]


def said(side: Side) -> list[Finding]:
    """What the shards were told, in its order."""
    found = [one for one in side.topic(IN) if records.kind_of(one.headers) == peers.FINDING]
    return sorted((peers.decode_finding(one.body) for one in found), key=lambda one: one.made_us)


def usual(**other: float) -> dict[str, float]:
    means = {device: 12.0 + 0.1 * n for n, device in enumerate(DEVICES)}
    return means | {f"s1/{name}": value for name, value in other.items()}


def test_r25_a_device_is_compared_with_its_peers_on_all_sites(settled: Side) -> None:
    """Its own site has four of them; what is found goes to the device's shard, with how far and against how many."""
    agent = Agent()
    put(settled, agent, minute(0, usual(d0=40.0, fan=99.0)))
    settled.run()
    pass_time(settled, 3)
    settled.run()
    assert {(one.head.shard, len(one.devices)) for one in compared(settled)} == {
        (shard, 4) for shard in SHARDS
    }
    (found,) = said(settled)
    assert (found.device, found.series, found.rule, found.cohort) == (
        "s1/d0",
        "s1/d0/temp",
        "apart",
        "pump-a",
    )
    assert (found.shard, found.agent, found.severity, found.outlier) == (
        shard_of("s1"),
        "a1",
        "critical",
        True,
    )
    assert (found.start_us, found.length_us, found.value, found.peers) == (T0, 60 * S, 40.0, 7)
    assert found.text == "s1/d0 is odd: 40.0, where 7 peers have 12.4 give or take 1.0: 28.8 spreads away"
    assert settled.count("outliers_total") == 1
    assert settled.topic(DEAD_LETTERS) == []


def test_r25_what_is_late_takes_a_finding_back_or_makes_one(settled: Side) -> None:
    """A revision of the device, or of its peers, hours later and after starts."""
    agent = Agent()
    put(settled, agent, minute(0, usual(d0=40.0)))
    settle(settled)
    settled.reopen()
    rules(settled, RULE)
    pass_time(settled, 3 * 3600)
    put(settled, agent, minute(0, {"s1/d0": 12.1}, revision=1))
    settle(settled)
    assert [(one.device, one.outlier) for one in said(settled)] == [("s1/d0", True), ("s1/d0", False)]
    settled.reopen()
    rules(settled, RULE)
    put(settled, agent, minute(0, {"s2/d7": 60.0}, revision=1))
    settle(settled)
    assert [(one.device, one.outlier) for one in said(settled)[2:]] == [("s2/d7", True)]
    before, after, _ = said(settled)
    assert before.id == after.id
    assert before.made_us < after.made_us


def test_what_was_found_is_stored_whatever_came_first(settled: Side) -> None:
    """Of each device and window the latest word, so that people see what an alert was made of; an older word again changes nothing."""
    agent = Agent()
    put(settled, agent, minute(0, usual(d0=40.0)))
    settle(settled)
    stored = "SELECT device, outlier, value FROM finding"
    assert settled.rows(stored) == [("s1/d0", 1, 40.0)]
    history = History(settled.folder / FILE)
    index = Index(Book(compare=(RULE,)))
    past, looked = past_evidence.collected(history, index, T0, T0 + 60 * S)
    history.close()
    assert looked["findings"] == 1
    (evidence,) = past.evidence["s1/d0"].evidence.values()
    assert (evidence.kind, evidence.subject, evidence.value) == ("peer", "s1/d0/temp", 40.0)
    assert evidence.id in settled.rows("SELECT evidence FROM alert WHERE rule = 'apart'")[0][0]
    put(settled, agent, minute(0, {"s1/d0": 12.1}, revision=1))
    settle(settled)
    assert settled.rows(stored) == [("s1/d0", 0, 12.1)]
    first = min(said(settled), key=lambda one: one.made_us)
    write_found(settled.store.connection, Output(findings=[first]))
    assert settled.rows(stored) == [("s1/d0", 0, 12.1)]


def test_r25_a_window_that_is_taken_away_is_compared_no_longer(settled: Side) -> None:
    """Of a device (R7), and of all that a shard has of the cohort."""
    agent = Agent()
    first = minute(0, usual(d0=40.0))
    put(settled, agent, first)
    settle(settled)
    for gone in first:
        if gone.series.startswith("s1/"):
            settled.put(agent.frame(without(gone, 1)))
            settled.run()
            settle(settled)
    assert [(one.device, one.outlier) for one in said(settled)] == [("s1/d0", True), ("s1/d0", False)]
    last = [one for one in compared(settled) if one.head.shard == shard_of("s1")][-1]
    assert last.devices == []


def test_r25_the_same_batch_again_changes_nothing(settled: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit fails on a full disk, the second stage reads the same once more: found once, and not forgotten by what went ahead in memory."""
    put(settled, Agent(), minute(0, usual(d0=40.0)))
    settled.run()
    settled.clock.advance(3)
    settled.runner.append_clock()
    settled.runner._take()
    settled.runner._commit()
    settled.runner._publish()
    real, fails = settled.runner._write, [True]

    def write(*args: Any) -> None:
        if fails and args[0].second:
            fails.clear()
            raise OSError("the disk is full")
        real(*args)

    monkeypatch.setattr(settled.runner, "_write", write)
    with pytest.raises(OSError, match="full"):
        settled.run()
    settled.run()
    assert [(one.device, one.outlier) for one in said(settled)] == [("s1/d0", True)]


def test_r27_the_state_of_a_comparison_is_committed_with_what_was_read(settled: Side) -> None:
    """It stands beside the shards' and is none of them; a log that is read from its beginning finds nothing twice."""
    put(settled, Agent(), minute(0, usual(d0=40.0)))
    settle(settled)
    assert len(settled.rows("SELECT DISTINCT shard FROM state WHERE shard < 0")) == 1
    assert min(settled.store.load_shards()) >= 0
    with settled.store.transaction():
        settled.store.note_log("again", anew=True)
    settled.reopen()
    rules(settled, RULE)
    settle(settled)
    assert [one.device for one in said(settled) if one.outlier] == ["s1/d0"]
    assert len(said(settled)) == 1


def test_r25_a_device_that_changes_its_cohort_has_other_peers(settled: Side) -> None:
    """From the next change of one of its windows on: then it is missing among those, and is among these."""
    agent = Agent()
    put(settled, agent, minute(0, usual(d0=40.0)))
    settle(settled)
    change = records.encode(RegistryChange("s1/d0", T0 + 1, cohort="pump-b"))
    headers = records.headers(records.REGISTRY, "registry/s1/d0", "test", T0)
    settled.take(Record(IN.name, shard_of("s1"), "s1/d0", headers, change))
    put(settled, agent, minute(0, {"s1/d2": 12.3}, revision=1))
    settle(settled)
    assert [(one.device, one.cohort, one.outlier) for one in said(settled)] == [
        ("s1/d0", "pump-a", True), ("s1/d0", "pump-a", False)
    ]  # fmt: skip
    assert {(one.head.cohort, len(one.devices)) for one in compared(settled)[-2:]} == {
        ("pump-a", 3),
        ("pump-b", 1),
    }


@pytest.mark.covers("R24")
def test_r24_a_large_cohort_is_several_records(settled: Side) -> None:
    """Each below what an engine keeps as one value, and together one judgement."""
    names = [f"s1/{n:05}-{'a long name of a device':>90}" for n in range(3000)]
    settled.take(*(registered(name, "pump-c") for name in names))
    values = {name: 12.0 + 0.01 * (n % 100) for n, name in enumerate(names)} | {names[7]: 40.0}
    settled.take(Agent().frame(*minute(0, values)))
    settle(settled)
    sent = [one for one in settled.topic(BY_COHORT) if records.kind_of(one.headers) == peers.PEERS]
    assert [peers.decode(one.body).head.pieces for one in sent] == [len(sent)] * len(sent)
    assert max(len(one.body) for one in sent) < PIECE_LIMIT
    assert [(one.device, one.peers) for one in said(settled)] == [(names[7], 2999)]


def test_a_cohort_of_no_rule_or_level_is_not_compared(settled: Side) -> None:
    """The rule is about pumps, their temperature and minutes: nothing else is put on the bus."""
    agent = Agent()
    fans = [registered(f"s1/f{n}", "fan") for n in range(6)]
    settled.take(*fans)
    odd = {f"s1/f{n}": 10.0 * n for n in range(6)}
    settled.take(agent.frame(*minute(0, odd)))
    settled.take(agent.frame(*(row(0, n, series=f"s1/d{n}/flow", level="1m") for n in (0, 2, 4, 6))))
    settled.take(agent.frame(*(row(0, n, series=f"s1/d{n}/temp") for n in (0, 2, 4, 6))))
    rules(settled, RULE, *(replace(RULE, level=level) for level in ("session-5m", "of a later version")))
    settle(settled)
    assert compared(settled) == []
    assert said(settled) == []


def test_r25_a_record_belongs_where_its_cohorts_rollup_does(settled: Side) -> None:
    """Or is a dead letter, as is one that is damaged; the others count."""
    put(settled, Agent(), minute(0, usual()))
    settle(settled)
    good = next(one for one in settled.topic(BY_COHORT) if records.kind_of(one.headers) == peers.PEERS)
    assert (good.topic, good.partition) == (BY_COHORT.name, topic_of("s1/+pump-a/temp")[1])
    for partition, body in ((good.partition, good.body[:-3]), ((good.partition + 1) % 8, good.body)):
        settled.put(Record(good.topic, partition, good.key, good.headers, body))
    settled.run()
    assert [letter.headers["reason"] for letter in settled.topic(DEAD_LETTERS)] == ["damaged", "damaged"]
