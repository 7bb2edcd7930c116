"""The digest as columns: what the plain reference says of every time and value (R10)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.digest import NO_TIME, reading_digests, splitmix64, value_bits
from tests import reference

any_float = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(-(2**63) + 1, 2**63 - 1)


@given(st.lists(st.tuples(st.one_of(times, st.none()), any_float), max_size=20))
def test_r10_digests_equal_the_reference(readings: list[tuple[int | None, float]]) -> None:
    """Of any time in 64 bits, or none, and any value: by numbers of Python, one after the other."""
    sent = np.array([NO_TIME if t is None else t for t, _ in readings], np.int64)
    values = np.array([value for _, value in readings], np.float64)
    assert reading_digests(sent, values).tolist() == [reference.digest(t, value) for t, value in readings]


@given(st.lists(st.tuples(times, any_float), min_size=2, max_size=6), st.data())
def test_r10_a_window_tells_swapped_values(readings: list[tuple[int, float]], data: st.DataObject) -> None:
    """The same times with the same values in other places have another sum."""
    values = [value for _, value in readings]
    moved = data.draw(st.permutations(values))
    sent = np.array([t for t, _ in readings], np.int64)
    one, other = (reading_digests(sent, np.array(v, np.float64)).sum() for v in (values, moved))
    same = sorted(readings) == sorted(zip(sent.tolist(), moved, strict=True))
    assert (one == other) == same


def test_splitmix64_is_the_published_one() -> None:
    """The first outputs of the generator that is seeded with 1234567 (Vigna's splitmix64.c; Rosetta Code)."""
    seeds = [(1_234_567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(5)]
    assert splitmix64(np.array(seeds, np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_hashing_changes_no_column() -> None:
    """What is hashed is as it was, -0 too."""
    sent, values = np.array([NO_TIME, 5]), np.array([-0.0, 1.0])
    before = sent.tobytes(), values.tobytes()
    reading_digests(sent, values)
    value_bits(values)
    splitmix64(sent.view(np.uint64))
    assert (sent.tobytes(), values.tobytes()) == before
