"""What the cloud side cannot take is a dead letter with its bytes, and the rest goes on."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from headwater_shared.topics import DEAD_LETTERS
from tests.cloud.made import SHARD, Agent, heartbeat_record, row
from tests.cloud.side import Side, windows_of

OTHER = shard_of("s2")


def dead(side: Side) -> list[tuple[str, bytes]]:
    """Reason and bytes of each dead letter."""
    return [(stored.headers["reason"], stored.body) for stored in side.topic(DEAD_LETTERS)]


def with_body(record: Record, body: bytes) -> Record:
    return msgspec.structs.replace(record, body=body)


def with_kind(record: Record, kind: str) -> Record:
    headers = {**record.headers, "ce_type": records.CE_TYPE + kind}
    return msgspec.structs.replace(record, headers=headers)


def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes_and_takes_its_seq(side: Side) -> None:
    """A damaged frame, one of a newer version, a kind that nobody knows: kept whole, had, and what follows counts."""
    agent = Agent()
    sent = [agent.frame(row(10 * n, 1.0)) for n in range(5)]
    damaged = with_body(sent[1], sent[1].body[:-3])
    newer = with_body(sent[2], sent[2].body[:2] + b"\x00" * 8 + sent[2].body[10:])
    unknown = with_kind(sent[3], "lease")
    side.take(sent[0], damaged, newer, unknown, sent[4])
    assert dead(side) == [
        ("damaged", damaged.body), ("unknown-version", newer.body), ("unknown-kind", unknown.body),
    ]  # fmt: skip
    assert len(windows_of(side)) == 2
    assert side.haves() == {("a1", 1, SHARD): [1, 5]}, "they are safe: the agent may let them go"
    assert side.count("dead_letters_total", reason="damaged") == 1


def test_a_dead_letter_says_where_it_came_from(side: Side) -> None:
    """Topic, partition and offset, what it was, its own headers, and the reason in words."""
    agent = Agent()
    sent = [agent.frame(row(0, 1.0)), agent.frame(row(10, 1.0))]
    side.take(sent[0], with_body(sent[1], b"\xc3\x01nothing"))
    (letter,) = side.topic(DEAD_LETTERS)
    assert letter.key == letter.headers["ce_id"] == f"hw-in/{SHARD}/1"
    assert letter.headers["was"] == "io.headwater.frame"
    assert letter.headers["ce_type"] == "io.headwater.dead-letter"
    assert "unknown schema fingerprint" in letter.headers["text"]


def test_a_dead_letter_that_comes_again_is_kept_once(side: Side) -> None:
    """The agent sends a row again whose delivery it did not hear of: its seq is known, whatever its bytes are worth."""
    broken = with_body(Agent().frame(row(0, 1.0)), b"\xc3\x01nothing")
    side.take(broken)
    side.take(broken)
    assert len(dead(side)) == 1
    assert side.count("repeated_rows_total") == 1


def test_bytes_without_an_identity_are_kept_too(side: Side) -> None:
    """Nothing says whose they are, so nothing is had by them."""
    sent = Agent().frame(row(0, 1.0))
    bare = msgspec.structs.replace(sent, headers={}, body=b"\x00bare")
    beat = with_body(Agent().heartbeat(0), b"\xc3\x01beat")
    clock = with_kind(beat, records.CLOCK)
    side.take(bare, beat, clock)
    assert [body for _, body in dead(side)] == [b"\x00bare", b"\xc3\x01beat", b"\xc3\x01beat"]
    assert side.haves() == {}


def test_what_says_another_shard_than_its_partition_s_is_not_taken(side: Side) -> None:
    """State is by shard: a frame, an anomaly, a heartbeat in the wrong partition are dead letters."""
    agent = Agent()
    frame, anomaly, beat = agent.frame(row(0, 1.0)), agent.anomaly("begin", 0), agent.heartbeat(10)
    side.take(*(msgspec.structs.replace(one, partition=OTHER) for one in (frame, anomaly, beat)))
    assert [reason for reason, _ in dead(side)] == ["wrong-shard"] * 3
    assert windows_of(side) == []
    assert side.rows("SELECT * FROM alert") == side.rows("SELECT * FROM progress") == []
    side.take(frame, anomaly)
    assert len(windows_of(side)) == 1
    assert side.haves() == {("a1", 1, SHARD): [1, 2]}


def test_a_seq_that_is_none_is_not_taken(side: Side) -> None:
    """Seqs begin at 1, and a heartbeat's last one at 0."""
    agent = Agent(seqs={SHARD: -1})
    side.take(agent.frame(row(0, 1.0)), heartbeat_record(_beat(-1)), heartbeat_record(_beat(0)))
    assert [reason for reason, _ in dead(side)] == ["damaged", "damaged"]
    assert side.rows("SELECT complete_us FROM progress") == [(10,)]


def _beat(last_seq: int) -> records.Heartbeat:
    return records.Heartbeat("a1", 1, SHARD, last_seq, None, 10, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_anomaly_whose_value_is_no_number_stops_nothing(side: Side, value: float) -> None:
    """No reading is NaN or infinite (R20), so no agent of ours finds one: it is a dead letter, in both of its phases."""
    agent = Agent()
    for _ in range(2):
        side.take(agent.anomaly("begin", 0, value), agent.anomaly("end", 5, value, begin=0))
        side.reopen()
    side.take(agent.anomaly("begin", 10))
    assert [reason for reason, _ in dead(side)] == ["damaged"] * 4
    assert side.rows("SELECT state FROM alert") == [("firing",)]


def test_damage_anywhere_in_a_record_stops_nothing(side: Side) -> None:
    """Of 300 records with a few bytes changed or cut off, each is taken or a dead letter; the next good one is taken."""
    chance, agent = random.Random(1), Agent()
    broken = []
    for n in range(300):
        one = (agent.frame(row(10 * n, 1.0, 2.0)), agent.anomaly("begin", n), agent.heartbeat(n))[n % 3]
        body = bytearray(one.body)
        for _ in range(chance.choice((1, 1, 2, 8))):
            body[chance.randrange(10, len(body))] = chance.randrange(256)
        broken.append(with_body(one, bytes(body[: chance.choice((len(body), len(body), 40))])))
    side.take(*broken)
    good = Agent("good")
    side.take(good.frame(row(0, 1.0, series="s1/good/temp")), good.anomaly("begin", 0))
    side.reopen()
    assert side.haves()["good", 1, SHARD] == [1, 2]
    assert side.runner.lag() == 0
    bodies = {stored.body for stored in side.topic(DEAD_LETTERS)}
    assert bodies <= {one.body for one in broken}
    assert len(bodies) > 100
    with side.history() as history:
        for level in history.levels():
            assert all(len(history.windows(name, level)) >= 0 for name in history.series())
        assert len(history.alerts()) == len(
            side.rows("SELECT id FROM alert WHERE state IN ('firing', 'resolved')")
        )
        assert history.anomalies()
        assert history.progress()
