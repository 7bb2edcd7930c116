"""Stage one of rollups, in the shard: its changed windows, merged by site and metric and by cohort, as rows for second stages (R25).

A level and start of which a window changed is dirty in its shard. Once no window of it changed for a while, by the shard's
clock, all that the shard has of it is merged anew, and goes out as parts of the series `site/+/metric` and
`site/+cohort/metric`. Such a part is opened by (site, shard), and its revision is the clock when it was made: the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_cloud import dirty
from headwater_cloud.kept import Kept
from headwater_cloud.merge import Merged, Windows
from headwater_cloud.names import Names
from headwater_cloud.outputs import SOURCE
from headwater_cloud.places import Places
from headwater_cloud.shard import Shard
from headwater_shared import frame, records
from headwater_shared.aggregates import Aggregates, merged_at_once
from headwater_shared.bus import Record
from headwater_shared.errors import SettingsError
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS, stable_id
from headwater_shared.parts import Parts, Sketches, grouped_sketches, level_of
from headwater_shared.topics import BY_COHORT, BY_METRIC, Topic

Ints = NDArray[np.int64]

_ROWS = 1_000  # of one frame

AGENT = "rollup"
"""In the place of an agent's name, in frames of rollups."""


def step(
    shards: Mapping[int, Shard], merged: Merged | None, names: Names, lookup: Kept
) -> tuple[set[int], list[Record]]:
    """Note what a batch changed, and roll up what is due.

    Args:
        shards: those of the batch; their `dirty` is changed in place.
        merged: what the batch changed.
        names: of its numbers.
        lookup: has what is stored, without this batch.

    Returns:
        The shards of which `dirty` changed, and the rollups.
    """
    changed = Windows.empty() if merged is None else merged.windows
    order = changed.by_shard()
    where = _mark(shards, changed, order, names)
    keys = [
        (number, *key)
        for number, shard in sorted(shards.items())
        for key in dirty.due(shard.dirty, shard.clock_us)
    ]
    marked = {number for number, _, _ in where}
    if not keys:
        return marked, []
    levels = names.level_numbers([level for _, level, _ in keys])
    numbers, starts = (np.array([key[at] for key in keys], np.int64) for at in (0, 2))
    found = lookup.windows_at(numbers, levels, starts)
    over = [order[slice(*where[key])] for key in keys if key in where]
    if over:
        found = Windows.concatenate([found, changed.take(np.concatenate(over))])
    rolled = roll_up(found, names.places(), shards)
    gone = [
        (level, start, number, series)
        for level, (number, name, start) in zip(levels.tolist(), keys, strict=True)
        for series in shards[number].dirty.pop((name, start)).gone
    ]
    if gone:
        rolled = with_gone(rolled, gone)
    return marked | {number for number, _, _ in keys}, list(rollup_records(rolled, names.levels, shards))


def _mark(
    shards: Mapping[int, Shard], changed: Windows, order: Ints, names: Names
) -> dict[tuple[int, str, int], tuple[int, int]]:
    """Note what changed; return where along `order` the rows of each shard, level and start are."""
    where = {
        (number, names.levels[level], start): (begin, end)
        for number, level, start, begin, end in changed.runs(order)
        if _starts_together(names.levels[level])
    }
    some_gone = not changed.aggregates.count.all()
    for (number, level, start), (begin, end) in where.items():
        shard = shards[number]
        gone = _gone(changed.take(order[begin:end]), names.places(), shard) if some_gone else []
        dirty.mark(shard.dirty, (level, start), gone, shard.clock_us)
    return where


def _starts_together(level: str) -> bool:
    """A session starts when its own series does; and of a level of another version it is not known."""
    try:
        return not level_of(level).gap_us
    except SettingsError:
        return False


def _gone(windows: Windows, places: Places, shard: Shard) -> list[str]:
    """Return the rollups that windows were taken away from."""
    out = []
    for series in windows.series[windows.aggregates.count == 0].tolist():
        cohort = shard.cohort_of(places.devices[places.device[series]])
        out += [series_of(places.groups[places.group[series]], of) for of in {"", cohort}]
    return out


def series_of(place: tuple[str, str], cohort: str = "") -> str:
    """Return the series of a site's rollup of a metric, whole or of a cohort: no device can be called so."""
    site, metric = place
    return f"{site}/+{cohort}/{metric}"


def topic_of(series: str) -> tuple[Topic, int]:
    """Return the topic and the partition of a rollup: all sites of a metric, or of a cohort's metric, are in one."""
    _, _, rest = series.partition("/")
    cohort, _, metric = rest[1:].rpartition("/")
    topic, key = (BY_COHORT, f"{cohort}/{metric}") if cohort else (BY_METRIC, metric)
    return topic, crc32(key.encode()) % topic.partitions


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


def roll_up(windows: Windows, places: Places, shards: Mapping[int, Shard]) -> Rolled:
    """Merge the windows of each shard: those of one level and start by site and metric, and by cohort where one is known.

    Args:
        windows: all that the shards have of some levels and starts, in any order; of one window perhaps several rows, the last of
            which counts.
        places: of their series.
        shards: know the cohorts of devices.
    """
    cohorts, cohort = _cohorts(windows, places, shards)
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


def _cohorts(windows: Windows, places: Places, shards: Mapping[int, Shard]) -> tuple[list[str], Ints]:
    """Return cohorts, the first of which is none, and which of them each window is of: as its own shard knows it."""
    device, cohorts = places.device[windows.series], {"": 0}
    out = np.zeros(len(windows), np.int64)
    of_device = np.zeros(len(places.devices), np.int64)
    for number, shard in shards.items():
        if shard.registry:
            (rows,) = np.nonzero(windows.shard == number)
            of_device[:] = -1
            of_device[device[rows]] = 0
            for one in np.flatnonzero(of_device == 0).tolist():
                of_device[one] = cohorts.setdefault(shard.cohort_of(places.devices[one]), len(cohorts))
            out[rows] = of_device[device[rows]]
    return list(cohorts), out


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


def rollup_records(rolled: Rolled, levels: list[str], shards: Mapping[int, Shard]) -> Iterator[Record]:
    """Yield the frames of the second stages' topics."""
    topics = [topic_of(name) for name in rolled.names]
    of_row = np.array([(topic is BY_COHORT) << 32 | at for topic, at in topics], np.int64)[rolled.name]
    clocks = np.zeros(SHARDS, np.int64)
    for number, shard in shards.items():
        clocks[number] = shard.clock_us
    revision = clocks[rolled.shard]
    for place in np.unique(of_row).tolist():
        topic, partition = BY_COHORT if place >> 32 else BY_METRIC, place & 0xFFFFFFFF
        rows = np.flatnonzero(of_row == place)
        for begin in range(0, len(rows), _ROWS):
            parts = _parts(rolled, rows[begin : begin + _ROWS], levels, revision)
            body = frame.encode(Frame(AGENT, 0, partition, 0, 0, None, parts))
            name = stable_id(AGENT, topic.name, partition, body.hex())
            headers = records.headers(records.FRAME, name, SOURCE, int(parts.revision.max()))
            yield Record(topic.name, partition, AGENT, headers, body)


def _parts(rolled: Rolled, rows: Ints, levels: list[str], revision: Ints) -> Parts:
    name, series = np.unique(rolled.name[rows], return_inverse=True)
    number, level = np.unique(rolled.level[rows], return_inverse=True)
    shards, shard = np.unique(rolled.shard[rows], return_inverse=True)
    return Parts(
        [rolled.names[n] for n in name.tolist()], [levels[n] for n in number.tolist()], shards.tolist(),
        series, level, rolled.start[rows], shard, np.zeros(len(rows), np.int64), revision[rows], rolled.flags[rows],
        rolled.aggregates.take(rows), rolled.sketches.take(rows),
    )  # fmt: skip


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
