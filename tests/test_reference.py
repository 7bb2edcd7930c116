"""The plain reference agrees with the published digests and with the columns' own arithmetic."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.aggregates import of_readings
from headwater_shared.digest import reading_digests, value_bits
from headwater_shared.sketch import buckets_of
from tests import reference

READINGS = st.lists(
    st.tuples(st.integers(-(2**60), 2**60), st.floats(-1e9, 1e9)), min_size=1, max_size=50, unique=True
)

VECTORS = [  # from the project's digest-vectors.json
    (0, 0.0, 0xA706DD2F4D197E6F),
    (0, -0.0, 0xA706DD2F4D197E6F),
    (1, 1.0, 0xF88539CE2831A102),
    (1763942400000000, 21.5, 0x635AA12A8BCFDE9B),
    (1763942400000001, 21.5, 0xFA73B4A62AB8A297),
    (-1, 1e300, 0xBD9FBAAA68A2071C),
    (1763942400000000, 5e-324, 0x1F4CFBB6A3542A64),
    (1763942410250000, 98.60000000000001, 0x8CD6DB6AAD249D0C),
]


def test_digests_are_the_published_ones() -> None:
    """The reference's digest is R10's, by vectors that others made."""
    assert [reference.digest(time, value) for time, value, _ in VECTORS] == [want for *_, want in VECTORS]


@given(READINGS)
def test_a_window_of_the_reference_is_the_aggregate_of_its_readings(
    readings: list[tuple[int, float]],
) -> None:
    """Both ways to say what a window holds agree: one by one in plain Python, and as columns."""
    wide = 2**62
    found = reference.windows([("s", time + wide // 2, value) for time, value in readings], wide)
    (window,) = found.values()
    times = np.array([time + wide // 2 for time, _ in readings], np.int64)
    values = np.array([value for _, value in readings])
    order = np.lexsort((value_bits(values), times))
    times, values = times[order], values[order]
    rows = of_readings(np.zeros(1, np.int64), times, values, reading_digests(times, values))
    assert window.count == rows.count[0]
    assert window.digest == rows.digest[0]
    assert (window.min, window.max) == (rows.min[0], rows.max[0])
    assert (window.first, window.first_time) == (rows.first[0], rows.first_time[0])
    assert (window.last, window.last_time) == (rows.last[0], rows.last_time[0])
    assert np.isclose(window.mean, rows.mean[0], rtol=1e-9, atol=1e-6)
    assert sum(window.sketch.values()) == window.count
    assert set(window.sketch) == set(buckets_of(values).tolist())


def test_the_same_reading_counts_once_and_another_value_twice() -> None:
    """Same series, time and value is one reading (R2); one time with two values is two; -0 is 0."""
    sent = [("s", 5, 1.0), ("s", 5, 1.0), ("s", 5, 2.0), ("s", 6, 0.0), ("s", 6, -0.0)]
    assert reference.windows(sent, 10)["s", 0].count == 3
    assert reference.windows(sent, 10, duplicates=True)["s", 0].count == 5


def test_windows_before_the_epoch_begin_where_they_should() -> None:
    """A start is at or before its readings, below zero too."""
    assert set(reference.windows([("s", -1, 1.0), ("s", 0, 1.0)], 10)) == {("s", -10), ("s", 0)}


def test_a_reading_is_in_as_many_hopping_windows_as_hops_make_one() -> None:
    """Each begins at a multiple of the hop, before zero too, and holds what lies within its length."""
    found = reference.windows([("s", 25, 1.0), ("s", -1, 2.0)], 30, 10)
    assert {start: window.count for (_, start), window in found.items()} == {
        -30: 1, -20: 1, -10: 1, 0: 1, 10: 1, 20: 1
    }  # fmt: skip
    assert found["s", -10].first == 2.0
    both = reference.windows([("s", 25, 1.0), ("s", 9, 2.0)], 30, 10)
    assert both["s", 0].count == 2


def test_a_session_ends_where_a_silence_is_longer_than_the_gap() -> None:
    """In whatever order readings are given, a series at a time; equal readings are one."""
    sent = [("s", 31, 1.0), ("s", 10, 1.0), ("r", 12, 1.0), ("s", 0, 1.0), ("s", 10, 1.0), ("s", 20, 4.0)]
    found = reference.sessions(sent, 10)
    assert {place: window.count for place, window in found.items()} == {
        ("s", 0): 3,
        ("s", 31): 1,
        ("r", 12): 1,
    }
    assert (found["s", 0].last_time, found["s", 0].max) == (20, 4.0)
