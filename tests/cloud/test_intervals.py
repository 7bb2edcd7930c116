"""Sets of seqs as intervals: always those of a plain set, and as few as can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater_cloud.intervals import add, gaps, holds, whole


@given(st.lists(st.integers(1, 30), max_size=60))
def test_intervals_are_the_set_of_what_was_added(seqs: list[int]) -> None:
    """In any order and again: what is held, what is missing, whether all is there, are those of a set."""
    found: list[int] = []
    plain: set[int] = set()
    for seq in seqs:
        assert add(found, seq) == (seq not in plain)
        plain.add(seq)
        assert {n for first, last in zip(found[::2], found[1::2], strict=True) for n in range(first, last + 1)} == plain  # fmt: skip
        assert all(later - sooner > 1 for sooner, later in zip(found[1::2], found[2::2], strict=False))
    for n in range(32):
        assert holds(found, n) == (n in plain)
        assert whole(found, n) == (set(range(1, n + 1)) <= plain)
        missing = {seq for first, last in gaps(found, n) for seq in range(first, last + 1)}
        assert missing == set(range(1, n + 1)) - plain
