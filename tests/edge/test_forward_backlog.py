"""The backlog: what is new goes before it, at a limited rate, over crashes and further outages; nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_edge.forward_settings import ForwardSettings
from headwater_edge.outbox import BATCH, BATCH_BYTES, BEHIND
from tests.edge.forwarding import ANOMALY, Desk

MANY = 2 * BEHIND


def test_pain12_what_is_new_goes_before_the_backlog(desk: Desk) -> None:
    """With much that waits, a new anomaly and a new window go out in the next turn, unmarked; then the rest, marked."""
    desk.put(rows=MANY)
    assert desk.once() == "backlog"
    desk.once()
    assert desk.arrived() == list(range(1, BATCH + 1))
    desk.put()
    desk.put(ANOMALY)
    desk.once(1.0)
    assert desk.arrived()[BATCH : BATCH + 3] == [MANY + 2, MANY + 1, BATCH + 1]
    desk.drained()
    assert sorted(desk.arrived()) == list(range(1, MANY + 3))
    assert desk.replayed() == list(range(1, MANY + 1))


def test_pain12_the_drain_keeps_to_its_rate(tmp_path: Path) -> None:
    """A backlog of 6.4 MB at 100 KB/s: after ten seconds 1.1 MB have gone out, and one append at most, whatever new rows woke the forwarder meanwhile."""
    desk = Desk(tmp_path, ForwardSettings(drain="100KB"))
    desk.put(rows=MANY, size=12_500)
    desk.once()
    for _ in range(100):
        desk.put()
        desk.once(0.1)
        assert desk.forward._pause_s <= 1.0
    live = desk.arrived()
    assert len([n for n in live if n > MANY]) == 100
    assert 80 <= len([n for n in live if n <= MANY]) <= 88 + BATCH_BYTES // 12_500
    assert 8 < desk.forward.drain_rate < 11
    desk.close()


def test_pain06_a_kill_while_draining_goes_on_where_the_file_says(desk: Desk) -> None:
    """After each kill the next process sends what the last one had not, and at most the one batch twice that was on its way."""
    desk.put(rows=MANY)
    desk.once()
    kills = 0
    while desk.forward.outbox.gaps:
        desk.once(1.0)
        if kills % 3:
            desk.do_chores()  # this one's chores reached the file
        elif desk.left:
            desk.left.clear()
        desk.put()
        desk.open_again()
        desk.once(1.0)
        desk.do_chores()
        kills += 1
        assert kills < 100
    desk.drained()
    arrived = desk.arrived()
    assert set(arrived) == set(range(1, MANY + kills + 1))
    assert len(arrived) - len(set(arrived)) <= (BATCH + 1) * (kills // 3 + 1)


def test_an_outage_while_draining_leaves_two_gaps_and_both_go_out(desk: Desk) -> None:
    """The backlog of the second outage waits behind that of the first; nothing goes out twice."""
    desk.put(rows=MANY)
    desk.once()
    desk.once(1.0)
    desk.put(rows=3)
    desk.once(1.0)
    desk.bus.away = True
    assert desk.once(1.0) == "offline"
    desk.put(rows=MANY)
    desk.once(1.0)
    desk.bus.away = False
    desk.once(1.0)
    assert desk.once(1.0) == "backlog"
    assert len(desk.forward.outbox.gaps) == 2
    desk.do_chores()
    desk.open_again()
    assert len(desk.forward.outbox.gaps) == 2
    assert desk.forward.outbox.waiting == 2 * MANY - 2 * BATCH
    desk.drained()
    assert len(desk.arrived()) == 2 * MANY + 3
    assert set(desk.arrived()) == set(range(1, 2 * MANY + 4))
    assert desk.forward.outbox.waiting == 0


def test_what_the_cloud_has_of_a_backlog_is_not_sent(desk: Desk) -> None:
    """A process that was killed had sent it, and could not note it any more; the cloud has said so since."""
    desk.put(rows=MANY)
    desk.once()
    desk.have(1, 400)
    desk.once(1.0)
    desk.drained()
    assert desk.arrived() == [*range(1, BATCH + 1), *range(401, MANY + 1)]
    assert desk.forward.outbox.waiting == 0


@pytest.mark.parametrize(
    "lost",
    [
        "UPDATE meta SET value = '[[1, 5' WHERE name = 'gaps'",
        "DELETE FROM meta WHERE name IN ('gaps', 'bus')",
    ],
)
def test_marks_that_a_damaged_file_lost_are_no_marks(desk: Desk, lost: str) -> None:
    """Rows of a gap would count as sent: all that is here goes out again instead."""
    desk.put(rows=MANY)
    desk.once()
    desk.once(1.0)
    desk.do_chores()
    desk.connection.execute(lost)
    desk.open_again()
    desk.once(1.0)
    desk.drained()
    assert set(desk.arrived()) == set(range(1, MANY + 1))


def test_hysteresis_behind_at_many_live_only_at_none(desk: Desk) -> None:
    """One row less than too many is no backlog; once behind, it stays so until the last row of the gap has gone."""
    desk.put(rows=BEHIND)
    assert desk.once() == "live"
    desk.put(rows=BEHIND + 1)
    modes = [desk.once(1.0)]
    while modes[-1] != "live":
        modes.append(desk.once(1.0))
    assert modes == ["backlog"] * (1 + BEHIND // BATCH) + ["live"]


def test_the_gaps_are_bounded(desk: Desk) -> None:
    """However often the bus goes away, the file holds at most 64 of them, and every row goes out."""
    for _ in range(70):
        desk.put(rows=2)
        desk.forward.outbox.fall_behind()
        desk.put()
        desk.forward.outbox.given(desk.forward.outbox.fresh())
    assert len(desk.forward.outbox.gaps) == 64
    desk.drained()
    given_by_hand = set(range(3, desk.seq + 1, 3))
    assert set(desk.arrived()) >= set(range(1, desk.seq + 1)) - given_by_hand


def test_a_first_gap_of_the_other_lane_is_one_too_many(desk: Desk) -> None:
    """Found by a random history: with as many gaps as there may be, all of anomalies, windows fell behind, and those were to be
    joined with nothing; the forwarder ended.
    """
    for _ in range(64):
        desk.put(ANOMALY, rows=2)
        desk.forward.outbox.fall_behind()
        desk.put(ANOMALY)
        desk.forward.outbox.given(desk.forward.outbox.fresh())
    desk.put(rows=2)
    desk.forward.outbox.fall_behind()
    assert len(desk.forward.outbox.gaps) == 64
    desk.drained()
    assert set(desk.arrived()) >= {desk.seq - 1, desk.seq}


def test_how_old_the_oldest_unsent_row_is(desk: Desk) -> None:
    """By the time of its tick, over a restart too; none when all is sent."""
    assert desk.forward.oldest_s == 0
    desk.once()
    desk.bus.away = True
    desk.put(rows=MANY)
    desk.clock.advance(50)
    desk.put()
    desk.once(50.0)
    assert desk.forward.oldest_s == 100
    desk.open_again()
    desk.bus.away = True
    desk.once(20.0)
    assert desk.forward.oldest_s == 120
    desk.bus.away = False
    desk.once(1.0)
    desk.drained()
    assert desk.forward.oldest_s == 0
