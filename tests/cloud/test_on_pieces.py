"""An engine's shards, kept in pieces, come to what the local runner comes to, whatever is killed (R24, R27, R31)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_cloud.held import HeldParts
from tests.cloud.made import SHARD, T0, Agent, S, frame_record, row
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import Side, in_memory, windows_of
from tests.cloud.test_merge import SOME, chances, cut, identities, openers, revisions_of


@given(identities, openers, chances, st.sampled_from((1, 2, 7, 200)), st.lists(st.booleans(), max_size=12))
@SOME
def test_r24_shards_in_pieces_give_the_windows_of_the_local_runner_whatever_is_killed(
    readings: list[Any], opened: list[Any], chance: random.Random, batch: int, deaths: list[bool]
) -> None:
    """Any parts, in any order and cut, with kills between the sink and the commit and after it: the same windows to the last bit."""
    rows = revisions_of(readings, opened)
    frames = [*cut(rows, chance), *cut(chance.sample(rows, len(rows) // 2), chance)]
    with in_memory() as folder:
        local = Side(folder / "local")
        local.take(*map(frame_record, frames))
        wanted = windows_of(local)
        local.close()
        side = PieceSide(folder / "pieces", batch)
        side.put(*map(frame_record, frames))
        for dies in deaths:
            side.step(dies="before" if dies else "")
            if not dies and chance.random() < 0.3:
                side.kill()
        side.run()
        found = windows_of(side)
        side.close()
    assert found == wanted


def counts(side: PieceSide) -> list[tuple[int, int]]:
    """Start of each window of 10 s after T0, in seconds, and its count."""
    rows = side.rows(
        "SELECT start, count FROM window WHERE level = (SELECT id FROM level WHERE name = '10s') AND shard >= 0 ORDER BY start"
    )
    return [((start - T0) // S, count) for start, count in rows]


@pytest.fixture
def side(folder: Path) -> Iterator[PieceSide]:
    made = PieceSide(folder / "pieces")
    made.clock.advance(T0 / S - made.clock.wall_us / S)
    yield made
    made.close()


@pytest.mark.covers("R28")
def test_r28_parts_leave_memory_by_age_and_come_back_when_one_needs_them(side: PieceSide) -> None:
    """A minute after its last part a window is in the state only; a late part of it is merged with what is there, not over it."""
    agent = Agent("a1")
    side.take(frame_record(agent.made(row(1, 1.0, 2.0))))
    assert side.rows_in_memory() == 1
    side.put_clock(SHARD, 1)
    side.run()
    side.put_clock(SHARD, 60)
    side.run()
    assert side.rows_in_memory() == 0
    side.take(frame_record(agent.made(row(5, 3.0, opened=("a1", 1, 9)))))
    assert counts(side) == [(0, 3)]


@pytest.mark.covers("R28")
def test_r28_what_is_older_than_parts_are_kept_is_deleted_and_what_comes_for_it_a_dead_letter(
    side: PieceSide,
) -> None:
    """After seven days the pieces of a window are gone, and its point stays as it is: a later part is `late`, with its bytes."""
    agent = Agent("a1")
    side.take(frame_record(agent.made(row(1, 1.0, 2.0))))
    assert any(name.startswith("part/10s/") for name in side.pieces[SHARD])
    for _ in range(2):
        side.put_clock(SHARD, 8 * 86_400)
        side.run()
    for _ in range(400):  # a few hundred buckets at once
        side.put_clock(SHARD, 1)
    side.run()
    assert not [name for name in side.pieces[SHARD] if name.startswith("part/")]
    side.take(frame_record(agent.made(row(5, 3.0, opened=("a1", 1, 9)))))
    assert counts(side) == [(0, 2)]
    assert side.counts["dead late"] == 1
    letters = [record for record in side.records if record.topic == "hw-dead-letters"]
    assert [letter.headers["reason"] for letter in letters] == ["late"]


def test_r24_many_parts_of_one_time_become_few_pieces(side: PieceSide) -> None:
    """Fifty openers of one window, one after the other: one window of fifty parts, in at most as many pieces as are written between two times that they become few."""
    agent = Agent("a1")
    for tick in range(50):
        side.take(frame_record(agent.made(row(1, float(tick), opened=("a1", 1, tick)))))
    assert counts(side) == [(0, 50)]
    pieces = [name for name in side.pieces[SHARD] if name.startswith("part/10s/")]
    assert len(pieces) <= 18
    side.kill()
    side.take(frame_record(agent.made(row(1, 7.0, opened=("a1", 2, 1)))))
    assert counts(side) == [(0, 51)]


def test_r01_a_late_part_after_a_start_hides_no_newer_one() -> None:
    """The first that a new process sees of a series is late: windows that are newer, and in the state, keep their parts."""
    one, two = Agent(), Agent("a2", epoch=7)
    with in_memory() as folder:
        side = PieceSide(folder / "pieces")
        side.take(one.frame(row(0, 1.0), row(50, 1.0, 2.0)))
        side.kill()
        side.take(two.frame(row(10, 5.0, opened=("a2", 7, 1))))
        side.take(two.frame(row(50, 3.0, opened=("a2", 7, 2))))
        found = side.rows("SELECT parts, count FROM window ORDER BY start")
        side.close()
    assert found == [(1, 1), (1, 1), (2, 3)]


@pytest.mark.covers("R24")
def test_r24_a_shard_that_comes_back_is_as_the_other_worker_left_it(folder: Path) -> None:
    """It goes to another worker, which keeps newer windows and more parts of older ones, and comes back to a process that remembers: nothing is written over."""
    one, other = PieceSide(folder), PieceSide(folder)
    first, second, third = Agent(), Agent("a2", epoch=7), Agent("a3", epoch=8)
    one.take(first.frame(row(0, 1.0)), first.frame(row(50, 1.0)))
    one.hand_over(other)
    other.take(second.frame(row(0, 2.0, opened=("a2", 7, 1)), row(90, 3.0, 4.0, opened=("a2", 7, 2))))
    other.hand_over(one)
    one.take(third.frame(row(0, 5.0, opened=("a3", 8, 1)), row(90, 6.0, opened=("a3", 8, 2))))
    assert counts(one) == [(0, 3), (50, 1), (90, 3)]
    one.close()
    other.close()


@pytest.mark.covers("R24")
def test_r24_a_batch_that_fails_half_way_leaves_the_state_as_it_was(
    side: PieceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts were kept, then an operator fails: no piece has changed, and the same records count once when they are taken again."""
    agent = Agent()
    side.take(agent.frame(row(1, 1.0)))
    before = dict(side.pieces[SHARD])
    side.put(agent.frame(row(2, 2.0, opened=("a1", 1, 2))))

    def breaks(*_: object) -> None:
        raise RuntimeError("a bad day")

    with monkeypatch.context() as patch:
        patch.setattr(HeldParts, "end_batch", breaks)
        with pytest.raises(RuntimeError):
            side.work()
    assert side.pieces[SHARD] == before
    side.kill()
    side.run()
    assert counts(side) == [(0, 2)]
