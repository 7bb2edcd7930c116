"""The sketch: what a quantile may be off by, that zero is zero, and that every machine agrees on the buckets."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.sketch import BUCKETS, RELATIVE_ERROR, buckets_of, middle_of, quantile
from tests.reference import bits

LARGEST = math.ldexp(1 - 2**-53, 1024)
SMALLEST_NORMAL = 2.0**-1022

any_float = st.floats(allow_nan=False, allow_infinity=False)


def bucket_of(value: float) -> int:
    return int(buckets_of(np.array([value]))[0])


def middle(bucket: int) -> float:
    return float(middle_of(np.array([bucket]))[0])


@given(any_float)
def test_a_bucket_is_the_floats_upper_18_bits(value: float) -> None:
    """By plain Python, so that the reference and every machine agree; none lies outside."""
    assert bucket_of(value) == bits(value) >> 46
    assert 0 <= bucket_of(value) < BUCKETS


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0.0, 0),
        (-0.0, 0),
        (5e-324, 0),
        (-5e-324, 0x20000),
        (SMALLEST_NORMAL, 0x40),
        (1.0, 0x3FF << 6),
        (1 + 1 / 64, (0x3FF << 6) + 1),
        (21.5, (0x403 << 6) + 22),
        (-21.5, 0x20000 + (0x403 << 6) + 22),
        (LARGEST, (0x7FE << 6) + 63),
    ],
)
def test_frozen_buckets(value: float, bucket: int) -> None:
    """They are stored, so they never change."""
    assert bucket_of(value) == bucket


@given(any_float)
def test_the_middle_is_off_by_at_most_the_stated_error(value: float) -> None:
    """0.8% of a normal number; of a smaller one at most 2**-1028, which is nothing."""
    assert RELATIVE_ERROR <= 0.008
    off = abs(middle(bucket_of(value)) - value)
    assert off <= (RELATIVE_ERROR * abs(value) if abs(value) >= SMALLEST_NORMAL else 2.0**-1028)


def test_zero_stands_for_zero() -> None:
    """A machine that is off most of the time has a median of 0, not of something that prints with e-310."""
    zeros, minus = buckets_of(np.array([0.0, -0.0])), buckets_of(np.array([-1.0, 1.0]))
    assert middle(0) == 0.0
    assert quantile(np.append(zeros[:1], minus), np.array([5, 1, 1]), 0.5) == 0.0


@given(any_float, any_float)
def test_buckets_are_in_the_order_of_their_values(a: float, b: float) -> None:
    """The middle of a smaller value's bucket is never above that of a larger one's."""
    low, high = sorted((a, b))
    assert middle(bucket_of(low)) <= middle(bucket_of(high))


@given(
    st.lists(st.one_of(any_float, st.sampled_from((-1.5, 0.0, 1.5, 1e300))), min_size=1, max_size=50),
    st.floats(0, 1),
)
def test_a_quantile_is_the_value_of_its_rank(values: list[float], q: float) -> None:
    """By nearest rank, against the sorted values: off by no more than a bucket's middle is."""
    counts = Counter(bucket_of(value) for value in values)
    found = quantile(np.array(list(counts)), np.array(list(counts.values())), q)
    true = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    assert abs(found - true) <= max(RELATIVE_ERROR * abs(true), 2.0**-1028)


def test_quantiles_at_the_ends_and_of_nothing() -> None:
    """0 is the smallest, 1 the largest; an empty sketch has none."""
    counts = np.array([3, 1, 2])
    at = buckets_of(np.array([10.0, -10.0, 1000.0]))
    assert quantile(at, counts, 0.0) == middle(bucket_of(-10.0))
    assert quantile(at, counts, 1.0) == middle(bucket_of(1000.0))
    assert math.isnan(quantile(at[:0], counts[:0], 0.5))
