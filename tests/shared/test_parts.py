"""Parts and their sketches as columns: counting, summing and taking rows is what plain dictionaries say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.aggregates import Aggregates
from headwater_shared.errors import SettingsError
from headwater_shared.parts import (
    Level,
    Parts,
    Sketches,
    counted_sketches,
    grouped_sketches,
    tumbling,
)
from headwater_shared.sketch import BUCKETS

ROWS = 6

buckets = st.one_of(st.integers(0, 3), st.integers(0, BUCKETS - 1), st.just(BUCKETS - 1))
pairs = st.lists(st.tuples(st.integers(0, ROWS - 1), buckets), max_size=40)
triples = st.lists(st.tuples(st.integers(0, ROWS - 1), buckets, st.integers(1, 2**40)), max_size=40)
sketch_rows = st.lists(st.dictionaries(buckets, st.integers(1, 2**45), max_size=5), max_size=8)


def plain(sketches: Sketches) -> list[dict[int, int]]:
    """Each row as bucket to count; buckets ascend within a row, none comes twice, and the columns fit."""
    assert len(sketches.bucket) == len(sketches.count) == (sketches.end[-1] if len(sketches.end) else 0)
    out = []
    for begin, end in zip(np.append(0, sketches.end), sketches.end, strict=False):
        bucket = sketches.bucket[begin:end].tolist()
        assert bucket == sorted(set(bucket))
        out.append(dict(zip(bucket, sketches.count[begin:end].tolist(), strict=True)))
    return out


def sketches_of(rows: list[dict[int, int]]) -> Sketches:
    flat = [(bucket, row[bucket]) for row in rows for bucket in sorted(row)]
    columns = np.array(flat, np.int64).reshape(-1, 2)
    ends = np.cumsum(np.array([len(row) for row in rows], np.int64))
    return Sketches(ends, columns[:, 0].copy(), columns[:, 1].copy())


@given(pairs)
def test_counted_sketches_count_each_rows_buckets(found: list[tuple[int, int]]) -> None:
    """In any order, with rows that have none, down to no pair at all."""
    columns = np.array(found, np.int64).reshape(-1, 2)
    made = plain(counted_sketches(columns[:, 0], columns[:, 1], ROWS))
    assert made == [Counter(bucket for row, bucket in found if row == at) for at in range(ROWS)]


@given(triples)
def test_grouped_sketches_sum_each_rows_counts(found: list[tuple[int, int, int]]) -> None:
    """In any order, with rows that have none, down to no triple at all."""
    columns = np.array(found, np.int64).reshape(-1, 3)
    made = plain(grouped_sketches(columns[:, 0], columns[:, 1], columns[:, 2], ROWS))
    wanted: list[Counter[int]] = [Counter() for _ in range(ROWS)]
    for row, bucket, count in found:
        wanted[row][bucket] += count
    assert made == wanted


@given(sketch_rows)
def test_rows_say_whose_each_bucket_is(rows: list[dict[int, int]]) -> None:
    """`rows()` is the index that makes the same sketches when they are grouped again."""
    sketches = sketches_of(rows)
    again = grouped_sketches(sketches.rows(), sketches.bucket, sketches.count, len(rows))
    assert plain(again) == rows


@given(sketch_rows, st.data())
def test_taken_rows_bring_their_sketches(rows: list[dict[int, int]], data: st.DataObject) -> None:
    """In any order, any of them, one more than once."""
    at = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8) if rows else st.just([]))
    assert plain(sketches_of(rows).take(np.array(at, np.int64))) == [rows[index] for index in at]


def parts_of(rows: list[dict[int, int]]) -> Parts:
    """Parts whose every column tells the row it is of."""
    n = np.arange(len(rows))
    aggregates = Aggregates.of_words(n[:, None] * 100 + np.arange(10))
    names = [f"s/d/{number}" for number in range(len(rows))]
    return Parts(
        names, ["10s"], [7], n, n * 0, n * 10, n * 0, n + 1, n + 2, n + 3, aggregates, sketches_of(rows)
    )


@given(sketch_rows, st.data())
def test_taken_parts_are_whole_and_name_what_they_named(
    rows: list[dict[int, int]], data: st.DataObject
) -> None:
    """By mask or by index each column brings its row; the dictionaries stay whole, so that every index holds."""
    parts = parts_of(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), np.bool_)
    for at in (mask, np.flatnonzero(mask)):
        taken = parts.take(at)
        kept = np.flatnonzero(mask)
        assert len(taken) == len(kept)
        assert taken.names == parts.names
        assert taken.series.tolist() == kept.tolist()
        for name, wanted in (
            ("start", kept * 10),
            ("tick", kept + 1),
            ("revision", kept + 2),
            ("flags", kept + 3),
        ):
            assert getattr(taken, name).tolist() == wanted.tolist()
        assert taken.aggregates.words[:, 3].tolist() == (kept * 100 + 3).tolist()
        assert plain(taken.sketches) == [rows[index] for index in kept]


def test_no_parts_are_parts() -> None:
    """The empty ones have no row and can be taken from."""
    assert len(Parts.empty()) == 0
    assert len(Parts.empty().take(np.zeros(0, np.bool_))) == 0
    assert plain(Sketches.empty(3)) == [{}, {}, {}]


@pytest.mark.parametrize(
    ("name", "seconds"), [("1s", 1), ("10s", 10), ("1m", 60), ("10m", 600), ("1h", 3600), ("2d", 172_800)]
)
def test_a_level_is_named_after_its_length(name: str, seconds: int) -> None:
    """The name is the level's identity on the wire, and says its length."""
    assert tumbling(name) == Level(name, seconds * 1_000_000, seconds * 1_000_000)


@pytest.mark.parametrize(
    "name", ["", "0s", "10", "s", "1.5s", "-1s", "1w", " 1s", "1s ", "01m", "1000000s", "1m\n"]
)
def test_what_is_no_level(name: str) -> None:
    """It is refused, with what to write instead."""
    with pytest.raises(SettingsError) as refused:
        tumbling(name)
    assert refused.value.hint
