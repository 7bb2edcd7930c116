"""Time is data: the operators' only clock is what clock records say (R24)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headwater_cloud import completeness, dedupe
from headwater_cloud.consume import Arrived
from headwater_cloud.outputs import DeadLetter
from headwater_cloud.runner import Runner
from headwater_cloud.shard import PIECE_LIMIT, Shard, load
from headwater_cloud.store import Store
from headwater_shared import records
from headwater_shared.bus import Stored
from headwater_shared.clock import HELD, ScaledClock
from headwater_shared.identity import shard_of
from headwater_shared.records import Heartbeat
from headwater_shared.sqlite_log import SqliteLog, wall_us
from headwater_shared.topics import IN
from tests.cloud.made import SHARD, Agent, S, clock_record, row
from tests.cloud.side import FILE, LOG, Side, alerts_of, all_of, on_bus

OTHER = shard_of("s2")
EPOCH = 2**64 - 1


def clocks(side: Side) -> dict[int, int]:
    """What each shard takes the time to be, as committed."""
    return {number: shard.clock_us for number, shard in side.store.load_shards().items()}


def test_r24_the_largest_record_of_the_shard_is_the_time(side: Side) -> None:
    """Each shard has its own; a smaller one that comes later, or after a start, sets nothing back."""
    now = side.clock.wall_us
    side.take(clock_record(SHARD, now + 2 * S), clock_record(SHARD, now), clock_record(OTHER, now + S))
    assert clocks(side) == {SHARD: now + 2 * S, OTHER: now + S}
    side.reopen()
    side.take(clock_record(SHARD, now + S), clock_record(OTHER, now + S))
    assert clocks(side) == {SHARD: now + 2 * S, OTHER: now + S}


@pytest.mark.parametrize("off", [-6, -5, 5, 6])
def test_r24_a_record_more_than_5_s_off_its_append_time_is_ignored(side: Side, off: int) -> None:
    """In either direction: a producer whose clock is wrong, or a record that was kept back, moves nobody's time."""
    now = side.clock.wall_us
    side.take(clock_record(SHARD, now + off * S))
    believed = abs(off) <= 5
    assert clocks(side)[SHARD] == (now + off * S if believed else 0)
    assert side.count("clock_records_ignored_total") == (not believed)


@pytest.mark.parametrize("factor", [60.0, 0.5])
def test_r24_a_scaled_clock_is_mapped_before_it_is_compared(folder: Path, factor: float) -> None:
    """Under `clock = "scaled:60"` the records' times run away from the log's append times, and are believed."""
    clock = ScaledClock(factor, wall_us() - 3600 * S)
    log, store = SqliteLog(folder / LOG), Store(folder / FILE)
    runner = Runner(log, store, clock)
    log.append([Agent().frame(row(0, 1.0))])
    before = clock.now().wall_us
    runner.append_clock()
    log.append([clock_record(SHARD, wall_us())])  # an unscaled one is half an hour off or more
    runner.step()
    runner.close()
    (shard,) = store.load_shards().values()
    assert before <= shard.clock_us <= clock.now().wall_us
    assert abs(shard.clock_us - wall_us()) > 1000 * S
    assert runner.metrics.registry.get_sample_value("headwater_cloud_clock_records_ignored_total") == 1
    log.close()
    store.close()


def test_r24_records_go_to_each_shard_that_has_had_input(side: Side) -> None:
    """One a shard, to the shard's own partition; none for shards that nobody writes to."""
    side.put_clock()
    assert side.topic(IN) == []
    side.put(Agent().frame(row(0, 1.0)), Agent().frame(row(0, 1.0, series="s2/d1/temp")))
    side.put_clock()
    found = [stored for stored in side.topic(IN) if records.kind_of(stored.headers) == records.CLOCK]
    assert sorted(stored.partition for stored in found) == sorted([SHARD, OTHER])
    side.run()
    assert clocks(side) == dict.fromkeys((SHARD, OTHER), side.clock.wall_us)


def test_no_record_is_made_while_the_clock_is_not_believed(side: Side) -> None:
    """A Pi that has not heard a time server yet tells the operators nothing."""
    side.take(Agent().frame(row(0, 1.0)))
    side.clock.quality = HELD
    side.put_clock()
    assert len(side.topic(IN)) == 1


def test_r24_a_rerun_makes_none_and_comes_to_the_same(side: Side, folder: Path) -> None:
    """The same log from its beginning, days later, into a new file: the same rows, reports and outputs, and not a record
    more in `hw-in`. Another cut into batches changes no window and no alert.
    """
    agent = Agent()
    sent = [agent.frame(row(10 * n, 1.0, 2.0)) for n in range(6)]
    for at in (0, 1, 4, 5):
        side.put(sent[at], agent.anomaly("begin", 10 * at), agent.heartbeat(10 * at, last_seq=1))
        side.put_clock(seconds=35)
    side.batch = 5
    side.reopen()
    side.run()
    assert [kind for kind, _ in side.reports()] == ["gap"]
    rows, outputs, input_before = all_of(side), on_bus(side), side.topic(IN)
    for batch in (5, 3, 200):
        again = Side(folder / f"again-{batch}", batch=batch, log=str(side.folder / LOG))
        again.clock.advance(10 * 86_400)
        again.run()
        assert side.topic(IN) == input_before
        if batch == 5:
            assert all_of(again) == rows
            assert on_bus(side) == {name: some + some for name, some in outputs.items()}
        for table in ("window", "part", "anomaly"):
            assert all_of(again)[table] == rows[table]
        assert alerts_of(again) == alerts_of(side)
        again.close()


def test_r24_pieces_of_state_stay_below_256_kb_with_many_agents(side: Side) -> None:
    """A piece an agent and epoch: 300 agents of three epochs each, in one shard, and what changed is all that is written."""
    agents = [Agent(f"agent-{n:03}", epoch=3 * n + 1) for n in range(300)]
    for _ in range(3):
        side.put(*(agent.frame() for agent in agents), *(agent.heartbeat(0) for agent in agents))
        for agent in agents:
            agent.restart(agent.epoch + 1)
    side.put_clock()
    side.run()
    sizes = dict(side.rows("SELECT name, length(body) FROM state"))
    assert len(sizes) == 1 + 300 + 900
    assert max(sizes.values()) < 1_000
    before = dict(side.rows("SELECT name, body FROM state"))
    side.take(agents[7].frame())
    after = dict(side.rows("SELECT name, body FROM state"))
    assert {name for name in after if after[name] != before.get(name)} == {
        f"epoch/{21 + 4:016x}/agent-007", f"epoch/{21 + 3:016x}/agent-007",
    }  # fmt: skip


def test_r24_the_piece_of_one_epoch_stays_below_256_kb_whatever_is_missing_of_it() -> None:
    """An agent was away for hours: 30,000 anomalies have overtaken the frames between them, and heartbeats wait."""
    shard = Shard(SHARD)
    arrived = [_arrived(70_000 + 2 * n) for n in range(30_000)]
    found = dedupe.step(shard.epochs, SHARD, arrived, [], 0, 60 * S)
    beats = [Heartbeat("a1", EPOCH, SHARD, 10**6 + n, None, 2**61 + n, 0) for n in range(500)]
    heard = completeness.step(shard.agents, shard.epochs, ["a1"], beats, 2**61, 300 * S)
    pieces = shard.pieces(found.changed, heard)
    assert len(pieces) == 3
    assert max(map(len, pieces.values())) < PIECE_LIMIT
    assert load(SHARD, pieces.items()).epochs == shard.epochs
    (have,) = found.haves
    assert len(records.encode(have)) < PIECE_LIMIT / 10, "an agent lets go of its oldest rows first"


def _arrived(seq: int) -> Arrived:
    stored = Stored("hw-in", SHARD, 0, 0, "", {}, b"")
    return Arrived("a1", EPOCH, seq, seq * 7919 % 2**32, DeadLetter("damaged", "", stored), None)


def test_a_piece_of_before_is_still_read() -> None:
    """Version 0.1 wrote the bounds of the intervals themselves."""
    old = msgspec.msgpack.encode([[1, 5, 9, 70_000], b"\x01\x02\x03\x04", [7, 3], 12, {6: 5}, True])
    shard = load(SHARD, [(f"epoch/{EPOCH:016x}/a/1", old)])
    (read,) = shard.epochs.values()
    assert (read.intervals, read.predecessor, read.last, read.gaps) == ([1, 5, 9, 70_000], (7, 3), 12, {6: 5})
    again = load(SHARD, shard.pieces(shard.epochs, ()).items())
    assert again.epochs == shard.epochs == {("a/1", EPOCH): read}
