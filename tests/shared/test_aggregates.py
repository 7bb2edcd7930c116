"""Aggregates: whatever readings are split into rows, and in whatever order the rows merge, a plain fold says the same."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.aggregates import (
    COLUMNS,
    Aggregates,
    merged,
    merged_at_once,
    merged_groups,
    of_readings,
)
from headwater_shared.digest import reading_digests
from tests.reference import Window, bits

Reading = tuple[int, float]
"""Event time in microseconds, value."""

EXACT = ("count", "digest", "min", "max", "first", "first_time", "last", "last_time")
LARGEST = math.ldexp(1 - 2**-53, 1024)

any_float = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.one_of(
    st.integers(0, 3), st.integers(-(2**62), 2**62)
)  # ties, and the ends of what stamps let through
VALUES = st.one_of(any_float, st.sampled_from((0.0, -0.0, 1.0, -1.0, 5e-324, LARGEST, -LARGEST)))
READINGS = st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=20)


class Exact(NamedTuple):
    """Mean and M2 without rounding."""

    mean: Fraction
    m2: Fraction


def exact(readings: list[Reading]) -> Exact:
    values = [Fraction(value) for _, value in readings]
    mean = sum(values, Fraction(0)) / len(values)
    return Exact(mean, sum(((value - mean) ** 2 for value in values), Fraction(0)))


def folded(readings: list[Reading]) -> Window:
    """Take the readings in one after the other, in plain Python."""
    window = Window()
    for time_us, value in readings:
        window.add(time_us, value)
    return window


def rows_of(groups: list[list[Reading]]) -> Aggregates:
    """Aggregate each group; they must be ordered by time and value bits within one."""
    ordered = [sorted(group, key=lambda r: (r[0], bits(r[1]))) for group in groups]
    starts = np.cumsum([0, *(len(group) for group in ordered[:-1])])
    times = np.array([time_us for group in ordered for time_us, _ in group], np.int64)
    values = np.array([value for group in ordered for _, value in group], np.float64)
    return of_readings(starts, times, values, reading_digests(times, values))


def assert_is(row: Aggregates, readings: list[Reading]) -> None:
    """A row of one is what the readings are: all exact, mean and M2 to 1e-9 of the largest value (R31)."""
    assert len(row) == 1
    wanted = folded(readings)
    found = {name: getattr(row, name)[0].item() for name in COLUMNS}
    assert {name: found[name] for name in EXACT} == {name: getattr(wanted, name) for name in EXACT}
    assert bits(found["first"]) == bits(wanted.first)
    assert bits(found["last"]) == bits(wanted.last)
    truth = exact(readings)
    size = max(abs(Fraction(value)) for _, value in readings)
    least = Fraction(5e-324) * len(readings)  # below it a float has no digits left
    assert math.isfinite(found["mean"])
    assert abs(Fraction(found["mean"]) - truth.mean) <= size / 10**9 + least
    assert not math.isnan(found["m2"])
    if math.isinf(found["m2"]):
        assert len(readings) * (2 * size) ** 2 > LARGEST, "infinite, though every sum of squares has room"
    else:
        assert abs(Fraction(found["m2"]) - truth.m2) <= size**2 * len(readings) / 10**9 + least


@given(st.lists(READINGS, min_size=1, max_size=5))
def test_each_group_is_the_plain_fold_of_its_readings(groups: list[list[Reading]]) -> None:
    """Several windows at once, each of one or more readings, in the order of their times or not."""
    rows = rows_of(groups)
    assert len(rows) == len(groups)
    for at, group in enumerate(groups):
        assert_is(rows.take(slice(at, at + 1)), group)


@given(READINGS, st.lists(st.integers(0, 3), min_size=20, max_size=20), st.randoms(use_true_random=False))
def test_merging_is_the_plain_fold_however_the_readings_were_split(
    readings: list[Reading], owners: list[int], chance: random.Random
) -> None:
    """Associative and commutative: any split into rows, merged two by two in any order, is what the readings are."""
    split: dict[int, list[Reading]] = {}
    for reading, owner in zip(readings, owners, strict=False):
        split.setdefault(owner, []).append(reading)
    rows = [rows_of([group]) for group in split.values()]
    while len(rows) > 1:
        chance.shuffle(rows)
        rows.append(merged(rows.pop(), rows.pop()))
    assert_is(rows[0], readings)


@given(READINGS, READINGS)
def test_order_matters_to_no_exact_column(a: list[Reading], b: list[Reading]) -> None:
    """a with b and b with a agree to the last bit in all but mean and M2."""
    one, other = rows_of([a]), rows_of([b])
    there, back = merged(one, other), merged(other, one)
    for name in EXACT:
        assert getattr(there, name).tobytes() == getattr(back, name).tobytes(), name


def test_of_equal_times_value_bits_decide_what_is_first_and_last() -> None:
    """The smaller bits are first, the larger last: of 1 and -1 the negative one has the larger bits."""
    for values in ([1.0, 2.0, -1.0], [-1.0, 1.0, 2.0], [2.0, -1.0, 1.0]):
        row = merged_groups(rows_of([[(7, value)] for value in values]), np.zeros(1, np.int64))
        assert (row.first[0], row.first_time[0], row.last[0], row.last_time[0]) == (1.0, 7, -1.0, 7)


@pytest.mark.parametrize("count", [2, 3, 9, 100])
@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
def test_the_mean_of_the_largest_is_the_largest(count: int, value: float) -> None:
    """Their sum has no room in a float; the mean has, also where a share of it is rounded up."""
    group = [(t, value) for t in range(count)]
    row = rows_of([group, [(0, 1.0), (1, 2.0)]])
    assert row.mean.tolist() == [value, 1.5]
    assert merged(row.take(slice(0, 1)), rows_of([group])).mean.tolist() == [value]


def test_minus_zero_is_zero() -> None:
    """-0 leaves the bits of 0 in minimum, maximum, mean, first and last, in a group and by itself."""
    for group in ([(1, -0.0)], [(1, -0.0), (2, -0.0)]):
        row = rows_of([group])
        for name in ("min", "max", "mean", "first", "last"):
            assert getattr(row, name).tobytes() == bytes(8), name


@given(READINGS)
def test_the_empty_row_is_neutral(readings: list[Reading]) -> None:
    """Merged from the left or the right it changes no bit; two of them are still empty."""
    row, empty = rows_of([readings]), Aggregates.empty(1)
    assert merged(empty, row).words.tobytes() == row.words.tobytes()
    assert merged(row, empty).words.tobytes() == row.words.tobytes()
    assert merged(empty, empty).words.tobytes() == empty.words.tobytes()


@given(st.lists(st.lists(READINGS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_groups_merge_in_the_order_given(groups: list[list[list[Reading]]]) -> None:
    """Many groups at once have the very bits of one group after the other, row after row."""
    rows = rows_of([readings for group in groups for readings in group])
    starts = np.cumsum([0, *(len(group) for group in groups[:-1])])
    at_once = merged_groups(rows, starts)
    for at, group in enumerate(groups):
        alone = rows_of([group[0]])
        for readings in group[1:]:
            alone = merged(alone, rows_of([readings]))
        assert at_once.words[at].tobytes() == alone.words[0].tobytes()


@given(st.lists(st.lists(READINGS, min_size=0, max_size=4), min_size=1, max_size=4), st.booleans())
def test_groups_merge_at_once(groups: list[list[list[Reading]]], neutral: bool) -> None:
    """Rows of one, each group in one pass: what all of its readings are, whatever the order; neutral rows change nothing."""
    groups = [group for group in groups if group] or [[[(0, 1.0)]]]
    made: list[Aggregates] = []
    starts = []
    for group in groups:
        starts.append(len(made))
        made += [rows_of([readings]) for readings in reversed(group)]
        made += [Aggregates.empty(1)] * neutral
    at_once = merged_at_once(Aggregates.concatenate(made), np.array(starts))
    for at, group in enumerate(groups):
        assert_is(at_once.take(slice(at, at + 1)), [reading for readings in group for reading in readings])
    nothing = Aggregates.concatenate([Aggregates.empty(3), rows_of([[(1, 2.0)]])])
    assert merged_at_once(nothing, np.array([0, 2])).count.tolist() == [0, 1]


@given(READINGS, READINGS)
def test_merging_changes_neither_side(a: list[Reading], b: list[Reading]) -> None:
    """Both rows are as they were, and the result aliases none of them."""
    one, other = rows_of([a]), rows_of([b])
    before = one.words.tobytes(), other.words.tobytes()
    result = merged(one, other)
    result.words[:] = 0
    assert (one.words.tobytes(), other.words.tobytes()) == before


def test_nothing_merges_to_nothing() -> None:
    """No rows stay no rows."""
    none = Aggregates.empty(0)
    assert len(merged(none, none)) == 0
    assert len(merged_groups(none, np.zeros(0, np.int64))) == 0


def test_rows_are_taken_as_copies_and_put_where_they_belong() -> None:
    """By indices, by mask and by slice; what is changed afterwards does not reach back."""
    rows = rows_of([[(t, float(t))] for t in range(4)])
    for at in (np.array([1, 2]), np.array([False, True, True, False]), slice(1, 3)):
        taken = rows.take(at)
        assert taken.first_time.tolist() == [1, 2]
        taken.words[:] = -1
    assert rows.first_time.tolist() == [0, 1, 2, 3]
    rows.put(np.array([3, 0]), rows_of([[(30, 3.0)], [(0, 9.0)]]))
    assert rows.first_time.tolist() == [0, 1, 2, 30]
    assert rows.max.tolist() == [9.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_views_of_one_matrix(name: str) -> None:
    """A column set by its name is in the words, at its place in `COLUMNS`."""
    rows = Aggregates.empty(2)
    getattr(rows, name)[1] = 3
    assert np.flatnonzero(rows.words).tolist() == [len(COLUMNS) + COLUMNS.index(name)]
    assert getattr(Aggregates(**{c: getattr(rows, c) for c in COLUMNS}), name).tolist() == [0, 3]
