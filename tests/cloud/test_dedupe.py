"""Each row of an agent's stream once; files that went back, and what is missing, are reported (R6, R23)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_cloud import dedupe
from headwater_cloud.consume import Arrived
from headwater_cloud.dedupe import REMEMBERED, Epochs
from headwater_cloud.outputs import DeadLetter
from headwater_shared.bus import Record, Stored
from tests.cloud.made import SHARD, Agent, S, row
from tests.cloud.side import Side


def frames(agent: Agent, count: int) -> list[Record]:
    """The agent's next frames, each with a part of a window of its own."""
    return [
        agent.frame(row(10 * n, 1.0 + n, opened=(agent.name, agent.epoch, agent.tick + 1)))
        for n in range(count)
    ]


def kinds(side: Side) -> list[str]:
    return [kind for kind, _ in side.reports()]


def test_what_comes_again_with_the_same_bytes_is_dropped(side: Side) -> None:
    """In the same batch, in a later one, after a start: counted as a repeat, and written no second time."""
    sent = frames(Agent(), 3)
    side.take(*sent, sent[1])
    side.take(sent[0])
    assert (side.count("frames_total"), side.count("repeated_rows_total")) == (3, 2)
    side.reopen()
    side.take(*sent)
    assert (side.count("frames_total"), side.count("repeated_rows_total")) == (0, 3)
    assert side.rows("SELECT count(*), sum(count) FROM window") == [(3, 3)]
    assert kinds(side) == []


def test_r06_the_same_identity_with_another_body_is_kept_and_reported(side: Side) -> None:
    """Two copies of one state file go on under one epoch: both bodies count, a report names the seq, none is dropped."""
    one, twin = Agent(), Agent()
    side.take(one.frame(row(0, 1.0)), one.frame(row(10, 1.0)))
    twin.seqs, twin.tick = {SHARD: 1}, 7
    side.take(twin.frame(row(10, 2.0, 3.0, opened=("a1", 1, 9))))
    assert side.rows("SELECT parts, count FROM window ORDER BY start") == [(1, 1), (2, 3)]
    assert side.reports() == [("another-body", "seq 2 came again with other bytes; both are kept")]
    assert side.haves() == {("a1", 1, SHARD): [1, 2]}


def test_an_old_seq_that_comes_again_is_let_through_and_changes_nothing(side: Side) -> None:
    """Of the newest 1,024 seqs the bytes are known by their hash; an older row is idempotent by itself (R1)."""
    agent = Agent()
    sent = [agent.frame(row(0, 1.0)), *(agent.frame() for _ in range(REMEMBERED)), agent.frame(row(10, 1.0))]
    side.take(*sent)
    rows = side.rows("SELECT * FROM window")
    side.take(sent[0], sent[-1])
    assert side.count("repeated_rows_total") == 1
    assert side.rows("SELECT * FROM window") == rows
    assert kinds(side) == []


def test_a_row_that_comes_very_late_takes_no_newer_ones_place(side: Side) -> None:
    """Its hash would stand where that of the seq 1,024 further on stands: a repeat of that one would seem another body."""
    agent = Agent()
    lost, *sent = (agent.frame(row(10 * n, 1.0, opened=("a1", 1, n))) for n in range(REMEMBERED + 1))
    side.take(*sent)
    side.take(lost)
    side.take(sent[-1], sent[-2])
    assert side.count("repeated_rows_total") == 2
    assert side.haves() == {("a1", 1, SHARD): [1, REMEMBERED + 1]}
    assert kinds(side) == []


@pytest.mark.parametrize("late", [False, True], ids=["seen before the restart", "seen after it"])
def test_r06_a_file_that_went_back_is_reported_once(side: Side, late: bool) -> None:
    """An epoch that names an end of the one before which the cloud has seen more of: the state file was restored."""
    agent = Agent()
    sent = frames(agent, 5)
    agent.seqs[SHARD] = 3  # what the restored file knows of
    agent.restart(2)
    after = frames(agent, 2)
    side.take(*sent[:4], *(after if late else sent[4:]))
    side.take(*(sent[4:] if late else after))
    assert [kind for kind in kinds(side) if kind != "gap"] == ["went-back"]
    assert "ended at seq 3, but seq" in side.reports()[0][1]
    side.reopen()
    side.take(*frames(agent, 1))
    agent.restart(3)
    side.take(*frames(agent, 1))
    assert kinds(side) == ["went-back"]
    assert side.rows("SELECT rule, subject, state FROM alert") == [("state-went-back", "a1", "firing")]
    assert [told["rule"] for told in side.lines()] == ["state-went-back"]
    assert side.rows("SELECT epoch FROM report") == [(f"{1:016x}",)]
    assert side.rows("SELECT sum(count) FROM window") == [(9,)], "all of it counts: parts have their epochs"


def test_r06_a_file_that_did_not_go_back_is_not_reported(side: Side) -> None:
    """The end that the next epoch names is the end that is here, or a later one that is still on its way."""
    agent = Agent()
    sent = frames(agent, 5)
    agent.restart(2)
    side.take(*frames(agent, 1), *sent)
    agent.restart(3)
    side.take(*frames(agent, 1))
    assert kinds(side) == []


def test_r06_a_heartbeat_names_the_predecessor_too(side: Side) -> None:
    """An agent that has nothing to say after its start still says where the epoch before ended."""
    agent = Agent()
    side.take(*frames(agent, 5))
    agent.seqs[SHARD] = 3
    agent.restart(2)
    side.take(agent.heartbeat(0))
    assert kinds(side) == ["went-back"]


def test_r06_of_two_that_followed_one_backup_the_smaller_end_tells(side: Side) -> None:
    """One backup restored twice: whichever start is heard of first, the file went back to its end."""
    agent = Agent()
    sent = frames(agent, 5)
    seqs = dict(agent.seqs)
    agent.restart(2)
    side.take(*sent, *frames(agent, 1))
    twin = Agent(epoch=1, seqs={**seqs, SHARD: 2})
    twin.restart(3)
    side.take(*frames(twin, 1))
    assert kinds(side) == ["went-back"]


def test_r06_a_backup_of_an_epochs_end_is_noticed_too(side: Side) -> None:
    """Its end is the one that is known; that another epoch followed it already is what tells."""
    agent = Agent()
    side.take(*frames(agent, 3))
    seqs = dict(agent.seqs)
    agent.restart(2)
    side.take(*frames(agent, 2))
    assert kinds(side) == []
    twin = Agent(epoch=1, seqs=seqs)
    twin.restart(3)
    side.take(*frames(twin, 1))
    side.take(*frames(twin, 1))
    assert kinds(side) == ["went-back"]


def test_r06_an_agent_whose_file_is_new_is_reported(side: Side) -> None:
    """An epoch that follows none, of an agent that has had others; its first one ever, heard of late, is not such a one."""
    agent = Agent()
    first = frames(agent, 1)
    agent.restart(2)
    side.take(*frames(agent, 1), *first)
    assert kinds(side) == []
    side.take(*frames(Agent(epoch=9), 2))
    assert kinds(side) == ["began-anew"]


def missing(side: Side) -> list[str]:
    return [text for kind, text in side.reports() if kind == "gap"]


def test_r23_lanes_overtake_each_other_without_a_report(side: Side) -> None:
    """Anomalies and live frames come before the backlog: what is missing for less than `gap_after` is no gap."""
    agent = Agent()
    sent = frames(agent, 6)
    side.put_clock(SHARD)
    side.take(sent[5], sent[0])
    side.put_clock(seconds=59)
    side.take(sent[3])
    side.take(*sent)
    side.put_clock(seconds=600)
    side.run()
    assert missing(side) == []
    assert side.haves() == {("a1", 1, SHARD): [1, 6]}


def test_a_gap_is_reported_once(side: Side) -> None:
    """After `gap_after` of the shard's clock, however many batches, clocks and starts come afterwards."""
    agent = Agent()
    sent = frames(agent, 8)
    side.put_clock(SHARD)
    side.take(*sent[:2], *sent[4:6])
    for _ in range(3):
        side.put_clock(seconds=25)
        side.run()
    assert missing(side) == ["seqs 3 to 4 are missing"]
    for _ in range(3):
        side.put_clock(seconds=600)
        side.take(sent[6])
        side.reopen()
    assert missing(side) == ["seqs 3 to 4 are missing"]
    assert side.count("repeated_rows_total") == 0


def test_what_stays_of_a_gap_has_its_time_anew(side: Side) -> None:
    """A gap that closes bit by bit is a backlog that drains; only what then stays is reported."""
    agent = Agent()
    sent = frames(agent, 6)
    side.put_clock(SHARD)
    side.take(sent[5])
    for n in range(4):
        side.put_clock(seconds=50)
        side.take(sent[n])
    assert missing(side) == []
    side.put_clock(seconds=61)
    side.run()
    assert missing(side) == ["seqs 5 to 5 are missing"]


def test_the_end_that_a_successor_names_is_missed_too(side: Side) -> None:
    """Rows at the end of an epoch leave no gap between others; the next epoch's first row says that they are missing."""
    agent = Agent()
    sent = frames(agent, 4)
    agent.restart(2)
    side.put_clock(SHARD)
    side.take(*sent[:2], *frames(agent, 1))
    side.put_clock(seconds=61)
    side.run()
    assert missing(side) == ["seqs 3 to 4 are missing"]
    side.take(*sent[2:])
    assert side.haves()["a1", 1, SHARD] == [1, 4]


def test_r24_what_came_before_the_first_clock_is_not_missed_at_once(side: Side) -> None:
    """A log that was written while no cloud side ran holds no clock: the time of a gap begins with the first one."""
    agent = Agent()
    sent = frames(agent, 4)
    side.take(sent[3])
    side.put_clock()
    side.run()
    side.put_clock(seconds=30)
    side.take(*sent[:3])
    side.put_clock(seconds=60)
    side.run()
    assert missing(side) == []


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_each_row_goes_on_once_in_any_order_and_cut(seqs: list[int], chance: random.Random) -> None:
    """Whatever order lanes, repeats and batches give: each seq goes on once, and the haves are what came."""
    epochs: Epochs = {}
    fresh: list[int] = []
    had: list[int] = []
    left = [(seq, chance.choice((1, 2))) for seq in seqs]
    while left:
        size = chance.randint(1, 5)
        batch, left = left[:size], left[size:]
        arrived = [_arrived(seq, epoch) for seq, epoch in batch]
        out = dedupe.step(epochs, SHARD, arrived, [], 0, 60 * S)
        fresh += [one.seq + 100 * one.epoch for one in out.fresh]
        for have in out.haves:
            had = have.intervals if have.epoch == 1 else had
        assert out.repeats == len(batch) - len(out.fresh)
    assert len(fresh) == len(set(fresh))
    first = {seq - 100 for seq in fresh if seq < 200}
    assert {n for a, b in zip(had[::2], had[1::2], strict=True) for n in range(a, b + 1)} == first


def _arrived(seq: int, epoch: int) -> Arrived:
    stored = Stored("hw-in", SHARD, 0, 0, "", {}, b"")
    return Arrived("a1", epoch, seq, seq * 7919, DeadLetter("damaged", "", stored), None)
