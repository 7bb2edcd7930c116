"""Windows of several series merged into one: by site and metric, and by cohort; the pure part of rollups (R25)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import Windows
from headwater_cloud.places import Places
from headwater_cloud.shard import Shard
from headwater_shared.aggregates import Aggregates, merged_at_once
from headwater_shared.identity import SHARDS
from headwater_shared.parts import Sketches, grouped_sketches

Ints = NDArray[np.int64]


def series_of(place: tuple[str, str], cohort: str = "") -> str:
    """Return the series of a site's rollup of a metric, whole or of a cohort: no device can be called so."""
    site, metric = place
    return f"{site}/+{cohort}/{metric}"


class Rolled(NamedTuple):
    """Rollups, n rows."""

    names: list[str]
    name: Ints
    """Which of `names` a row is of."""
    level: Ints
    start: Ints
    shard: Ints
    flags: Ints
    aggregates: Aggregates
    sketches: Sketches


def roll_up(windows: Windows, places: Places, cohorts: list[str], cohort: Ints) -> Rolled:
    """Merge the windows of each shard: those of one level and start by site and metric, and by cohort where one is known.

    Args:
        windows: all that the shards have of some levels and starts, in any order; of one window perhaps several rows, the last of
            which counts.
        places: of their series.
        cohorts, cohort: see `cohorts_of`.
    """
    wide, groups = len(cohorts), len(places.groups)
    place = ((windows.level * SHARDS + windows.shard) * groups + places.group[windows.series]) * wide + cohort
    order = np.lexsort((places.order[windows.series], place, windows.start))
    order = _latest(windows, order, place)
    start, place = windows.start[order], place[order]
    # First the devices of each cohort together, and those of none; of these is the whole of a site and metric.
    fine = _starts(start, place)
    aggregates = merged_at_once(windows.aggregates.take(order), fine)
    flags = _any(windows.flags[order], fine)
    of_row = np.full(len(windows), len(fine))
    of_row[order] = _group(fine, len(order))
    sketches = _summed(windows.sketches, of_row, len(fine))
    start, place, cohort = start[fine], place[fine] // wide, place[fine] % wide
    whole, of_cohort = _starts(start, place), np.flatnonzero(cohort)
    at = np.append(whole, of_cohort)
    place, group = np.divmod(place[at], groups)
    of = np.append(np.zeros(len(whole), np.int64), cohort[of_cohort])
    pairs, name = np.unique(group * wide + of, return_inverse=True)
    return Rolled(
        [series_of(places.groups[pair // wide], cohorts[pair % wide]) for pair in pairs.tolist()],
        name,
        place // SHARDS,
        start[at],
        place % SHARDS,
        np.append(_any(flags, whole), flags[of_cohort]),
        Aggregates.concatenate([merged_at_once(aggregates, whole), aggregates.take(of_cohort)]),
        Sketches.concatenate(
            [_summed(sketches, _group(whole, len(fine)), len(whole)), sketches.take(of_cohort)]
        ),
    )


def _latest(windows: Windows, order: Ints, place: Ints) -> Ints:
    """Keep of an order, in which the rows of one window are together, the last of each; and none of count 0."""
    keep = windows.aggregates.count[order] > 0
    same = [np.diff(column[order]) == 0 for column in (windows.series, windows.start, place)]
    keep[:-1] &= ~np.logical_and.reduce(same)
    return order[keep]


def cohorts_of(windows: Windows, places: Places, shards: Mapping[int, Shard]) -> tuple[list[str], Ints]:
    """Return cohorts, the first of which is none, and which of them each window is of: as its own shard knows it."""
    device, cohorts = places.device[windows.series], {"": 0}
    out = np.zeros(len(windows), np.int64)
    for number, shard in shards.items():
        rows = np.flatnonzero(windows.shard == number) if shard.registry else ()
        if len(rows):
            of_device = _of_devices(shard, places, device[rows])
            known = [cohorts.setdefault(name, len(cohorts)) for name in shard.known_cohorts]
            out[rows] = np.array(known, np.int64)[of_device[device[rows]]]
    return list(cohorts), out


def _of_devices(shard: Shard, places: Places, devices: Ints) -> Ints:
    """Return the cohort of each device of a process, an index into `known_cohorts`; -1 of those that were not asked for since a change."""
    column: Ints | None = shard.of_devices
    if column is None or len(column) < len(places.devices):
        column = np.full(len(places.devices), -1, np.int64)
        if shard.of_devices is not None:
            column[: len(shard.of_devices)] = shard.of_devices
        shard.of_devices = column
    for one in sorted({*devices[column[devices] < 0].tolist()}):
        cohort = shard.cohort_of(places.devices[one])
        column[one] = shard.known_cohorts.setdefault(cohort, len(shard.known_cohorts))
    return column


def with_gone(rolled: Rolled, gone: Iterable[tuple[int, int, int, str]]) -> Rolled:
    """Add rows of count 0 for those of `gone` (level, start, shard, series) that nothing is left of."""
    columns = (rolled.level, rolled.start, rolled.shard)
    there = zip(
        *(column.tolist() for column in columns), [rolled.names[n] for n in rolled.name.tolist()], strict=True
    )
    missing = sorted({*gone} - {*there})
    if not missing:
        return rolled
    index = {name: number for number, name in enumerate(rolled.names)}
    added = [index.setdefault(row[-1], len(index)) for row in missing]
    return Rolled(
        list(index),
        np.append(rolled.name, np.array(added, np.int64)),
        np.append(rolled.level, np.array([row[0] for row in missing], np.int64)),
        np.append(rolled.start, np.array([row[1] for row in missing], np.int64)),
        np.append(rolled.shard, np.array([row[2] for row in missing], np.int64)),
        np.append(rolled.flags, np.zeros(len(missing), np.int64)),
        Aggregates.concatenate([rolled.aggregates, Aggregates.empty(len(missing))]),
        Sketches.concatenate([rolled.sketches, Sketches.empty(len(missing))]),
    )


def joined(pieces: list[Rolled]) -> Rolled:
    """Put rollups one below the other."""
    if len(pieces) == 1:
        return pieces[0]
    index: dict[str, int] = {}
    name = [
        np.array([index.setdefault(one, len(index)) for one in piece.names], np.int64)[piece.name]
        for piece in pieces
    ]
    return Rolled(
        list(index),
        np.concatenate(name),
        np.concatenate([piece.level for piece in pieces]),
        np.concatenate([piece.start for piece in pieces]),
        np.concatenate([piece.shard for piece in pieces]),
        np.concatenate([piece.flags for piece in pieces]),
        Aggregates.concatenate([piece.aggregates for piece in pieces]),
        Sketches.concatenate([piece.sketches for piece in pieces]),
    )


def _starts(*columns: Ints) -> Ints:
    """Return where any of the columns changes; 0 too, unless they are empty."""
    change = np.ones(len(columns[0]), np.bool_)
    change[1:] = np.logical_or.reduce([np.diff(column) != 0 for column in columns])
    return np.flatnonzero(change)


def _group(starts: Ints, n: int) -> Ints:
    """Return the group of each of n rows."""
    return np.repeat(np.arange(len(starts)), np.diff(np.append(starts, n)))


def _any(flags: Ints, starts: Ints) -> Ints:
    """Return all bits that any row of a group has."""
    return np.bitwise_or.reduceat(flags, starts) if len(starts) else np.zeros(0, np.int64)


def _summed(sketches: Sketches, group: Ints, n: int) -> Sketches:
    """Add the sketches of each group's rows, leaving out those of group n."""
    rows = np.repeat(group, np.diff(sketches.end, prepend=0))
    bucket, count = sketches.bucket, sketches.count
    if len(rows) and int(rows.max()) == n:
        ours = rows < n
        rows, bucket, count = rows[ours], bucket[ours], count[ours]
    return grouped_sketches(rows, bucket, count, n)
