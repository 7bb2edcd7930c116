"""What the cloud says it has, against plain sets; and when a row that it lacks is lost rather than late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.haves import Haves, Unconfirmed
from headwater_shared.records import Have

EPOCH = 0xFEED
SEQS = st.sets(st.integers(1, 30))


def intervals(seqs: set[int]) -> list[int]:
    """First, last, first, last, ... of a set."""
    out: list[int] = []
    for seq in sorted(seqs):
        if out and out[-1] == seq - 1:
            out[-1] = seq
        else:
            out += [seq, seq]
    return out


@given(SEQS, SEQS)
def test_r22_covered_is_what_the_last_record_says_and_less_is_noticed(
    before: set[int], after: set[int]
) -> None:
    """For every seq; a record that lacks one of the record before says that the cloud went back."""
    haves = Haves()
    assert not haves.take(Have("a", EPOCH, 1, intervals(before)))
    assert haves.take(Have("a", EPOCH, 1, intervals(after))) == (not before <= after)
    for seq in range(32):
        assert haves.covers(EPOCH.to_bytes(8, "little"), 1, seq) == (seq in after)
        assert not haves.covers(EPOCH, 2, seq)


def _haves(*seqs: int, shard: int = 1) -> Haves:
    haves = Haves()
    haves.take(Have("a", EPOCH, shard, intervals(set(seqs))))
    return haves


def test_r22_a_later_row_of_the_shard_is_the_witness() -> None:
    """Not one that was given out before the suspicion: it may lie before the other on the bus, as live rows do before a backlog."""
    unconfirmed, epoch = Unconfirmed(), EPOCH.to_bytes(8, "little")
    unconfirmed.given(epoch, 1, 9)
    assert unconfirmed.look((5, 1), 9, _haves(9), 0.0) is None
    assert unconfirmed.look((5, 1), 9, _haves(9), 9e9) is None
    unconfirmed.given(epoch, 1, 10)
    assert unconfirmed.look((5, 1), 10, _haves(9), 9e9) is None
    assert unconfirmed.look((5, 1), 10, _haves(9, 10), 9e9) == (4, 9)


def test_r22_on_a_silent_shard_another_one_is_the_witness_after_ten_minutes() -> None:
    """And only if the cloud has something of it that was given out later: one that is down says nothing."""
    unconfirmed, epoch = Unconfirmed(), EPOCH.to_bytes(8, "little")
    assert unconfirmed.look((5, 1), 9, _haves(), 0.0) is None
    unconfirmed.given(epoch, 2, 1)
    assert unconfirmed.look((5, 1), 9, _haves(1, shard=2), 599.0) is None
    assert unconfirmed.look((5, 1), 9, _haves(), 601.0) is None
    assert unconfirmed.look((5, 1), 9, _haves(1, shard=2), 601.0) == (4, 9)


def test_what_the_cloud_has_meanwhile_is_forgotten() -> None:
    """A suspicion is about one row; with another one it begins anew."""
    unconfirmed, epoch = Unconfirmed(), EPOCH.to_bytes(8, "little")
    unconfirmed.look((5, 1), 9, _haves(), 0.0)
    unconfirmed.given(epoch, 1, 10)
    assert unconfirmed.look(None, 10, _haves(10), 1.0) is None
    assert unconfirmed.look((7, 1), 10, _haves(10), 2.0) is None
    assert unconfirmed.look((7, 1), 10, _haves(10), 3.0) is None
