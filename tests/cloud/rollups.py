"""What rollups must be, from the stored windows of devices, row by row in plain Python; and what they are."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from typing import Any, NamedTuple

import numpy as np

from headwater_cloud.columns import unpack_sketches
from headwater_shared.digest import value_bits
from headwater_shared.identity import is_rollup
from headwater_shared.parts import level_of
from tests.cloud.side import Side, windows_of

Place = tuple[str, str, int]
"""Series, level, start."""


class Whole(NamedTuple):
    """One window, but for mean and M2 exact."""

    number: int
    digest: int
    min: float
    max: float
    first: tuple[int, int]
    """Time and value bits."""
    last: tuple[int, int]
    sketch: dict[int, int]
    flags: int
    mean: float


def found(side: Side) -> dict[Place, Whole]:
    """The rollups that are stored."""
    return {place: whole for place, whole in _all(side).items() if is_rollup(place[0])}


def wanted(side: Side, cohort_of: Callable[[str], str] = lambda _: "") -> dict[Place, Whole]:
    """The rollups that the stored windows of devices make, sessions left out."""
    groups: dict[Place, list[Whole]] = {}
    for (series, level, start), whole in _all(side).items():
        if is_rollup(series) or level_of(level).gap_us:
            continue
        device, _, metric = series.rpartition("/")
        for site in (device.partition("/")[0], "+"):
            for cohort in {"", cohort_of(device)}:
                groups.setdefault((f"{site}/+{cohort}/{metric}", level, start), []).append(whole)
    return {place: _merged(rows) for place, rows in groups.items()}


def assert_rollups(side: Side, cohort_of: Callable[[str], str] = lambda _: "") -> None:
    """Each rollup is what its windows add up to, none is missing and none too many."""
    have, must = found(side), wanted(side, cohort_of)
    assert have.keys() == must.keys()
    for place, whole in must.items():
        assert have[place]._replace(mean=0.0) == whole._replace(mean=0.0), place
        scale = max(abs(whole.min), abs(whole.max))
        assert abs(have[place].mean - whole.mean) <= 1e-9 * scale, place


def _merged(rows: list[Whole]) -> Whole:
    sketch: dict[int, int] = {}
    for one in rows:
        for bucket, count in one.sketch.items():
            sketch[bucket] = sketch.get(bucket, 0) + count
    count, flags = sum(one.number for one in rows), 0
    for one in rows:
        flags |= one.flags
    return Whole(
        count,
        sum(one.digest for one in rows) % 2**64,
        min(one.min for one in rows),
        max(one.max for one in rows),
        min(one.first for one in rows),
        max(one.last for one in rows),
        sketch,
        flags,
        fsum(one.mean * one.number for one in rows) / count,
    )


def _all(side: Side) -> dict[Place, Whole]:
    return {row[:3]: _whole(row) for row in windows_of(side)}


def _whole(row: tuple[Any, ...]) -> Whole:
    flags, count, digest, mean, _, low, high, first, first_time, last, last_time, packed = row[7:19]
    sketch = unpack_sketches([packed])
    return Whole(
        count, digest % 2**64, low, high, (first_time, _bits(first)), (last_time, _bits(last)),
        dict(zip(sketch.bucket.tolist(), sketch.count.tolist(), strict=True)), flags, mean,
    )  # fmt: skip


def _bits(value: float) -> int:
    return int(value_bits(np.array([value]))[0])
