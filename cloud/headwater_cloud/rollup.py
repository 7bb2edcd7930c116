"""Stage one of rollups, in the shard: its changed windows, merged by site and metric and by cohort, as rows for second stages (R25).

A level and start of which a window changed is dirty in its shard. Once no window of it changed for a while, by the shard's
clock, all that the shard has of it is merged anew, and goes out as parts of the series `site/+/metric` and
`site/+cohort/metric`. Such a part is opened by (site, shard), and its revision is the clock when it was made: the latest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_cloud import dirty
from headwater_cloud.dirty import Key
from headwater_cloud.lookup import Lookup
from headwater_cloud.merge import Merged, Windows
from headwater_cloud.names import Names
from headwater_cloud.outputs import SOURCE
from headwater_cloud.places import Places
from headwater_cloud.shard import Shard
from headwater_shared import frame, records
from headwater_shared.aggregates import Aggregates, merged_at_once
from headwater_shared.bus import Record
from headwater_shared.frame import Frame
from headwater_shared.identity import stable_id
from headwater_shared.parts import Parts, Sketches, grouped_sketches, level_of
from headwater_shared.topics import BY_COHORT, BY_METRIC, Topic

Ints = NDArray[np.int64]

_ROWS = 1_000  # of one frame

AGENT = "rollup"
"""In the place of an agent's name, in frames of rollups."""


def step(shard: Shard, merged: Merged | None, names: Names, lookup: Lookup) -> tuple[bool, list[Record]]:
    """Note what a batch changed in a shard, and roll up what is due.

    Args:
        shard: its `dirty` is changed in place.
        merged: what the batch changed, in all shards.
        names: of its numbers.
        lookup: has what is stored of the shard, without this batch.

    Returns:
        Whether `dirty` changed, and the rollups.
    """
    now = Windows.empty()
    where: dict[Key, slice] = {}
    if merged is not None:
        now = merged.windows.take(merged.windows.shard == shard.number)
        where = {
            (names.levels[level], start): slice(begin, end)
            for level, start, begin, end in now.runs()
            if not level_of(names.levels[level]).gap_us  # a session starts when its own series does
        }
        gone = {key: _gone(now, at, names, shard) for key, at in where.items()}
        dirty.mark(shard.dirty, gone, shard.clock_us)
    keys = dirty.due(shard.dirty, shard.clock_us)
    if not keys:
        return bool(where), []
    levels = names.level_numbers([level for level, _ in keys])
    found = lookup.windows_at(shard.number, levels, np.array([start for _, start in keys], np.int64))
    changed = [np.arange(len(now))[where[key]] for key in keys if key in where]
    if changed:
        found = Windows.concatenate([found, now.take(np.concatenate(changed))])
    found = found.latest()
    rolled = roll_up(found.take(found.aggregates.count > 0), names.places(), shard.cohort_of)
    taken_away = [
        (level, key[1], series)
        for level, key in zip(levels.tolist(), keys, strict=True)
        for series in shard.dirty.pop(key).gone
    ]
    if taken_away:
        rolled = with_gone(rolled, taken_away)
    return True, list(rollup_records(rolled, names.levels, shard.number, shard.clock_us))


def _gone(windows: Windows, at: slice, names: Names, shard: Shard) -> list[str]:
    """Return the rollups that windows were taken away from."""
    empty = windows.series[at][windows.aggregates.count[at] == 0]
    out = []
    for series in empty.tolist():
        places = names.places()
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
    """Rollups of one shard, n rows."""

    names: list[str]
    name: Ints
    """Which of `names` a row is of."""
    level: Ints
    start: Ints
    flags: Ints
    aggregates: Aggregates
    sketches: Sketches


def roll_up(windows: Windows, places: Places, cohort_of: Callable[[str], str]) -> Rolled:
    """Merge the windows of one shard: those of one level and start by site and metric, and by cohort where one is known.

    Args:
        windows: all that the shard has of some levels and starts, in any order; none of count 0.
        places: of their series.
        cohort_of: the cohort of a device (`site/device`), "" for none.
    """
    used, of_row = np.unique(places.device[windows.series], return_inverse=True)
    cohorts = {"": 0}
    number = [cohorts.setdefault(cohort_of(places.devices[device]), len(cohorts)) for device in used.tolist()]
    cohort = np.array(number, np.int64)[of_row]
    group = places.group[windows.series]
    order = np.lexsort((places.order[windows.series], cohort, group, windows.start, windows.level))
    columns = [column[order] for column in (windows.level, windows.start, group, cohort)]
    starts = _starts(columns)
    aggregates = merged_at_once(windows.aggregates.take(order), starts)
    flags = np.bitwise_or.reduceat(windows.flags[order], starts) if len(order) else windows.flags
    fine_of = np.empty(len(order), np.int64)
    fine_of[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    sketches = _summed(windows.sketches, fine_of, len(starts))
    columns = [column[starts] for column in columns]
    # Of a site and metric are its cohorts, and the devices of none, together.
    whole = _starts(columns[:3])
    whole_of = np.repeat(np.arange(len(whole)), np.diff(np.append(whole, len(starts))))
    of_cohort = np.flatnonzero(columns[3])
    pairs = np.concatenate([
        columns[2][whole] * len(cohorts), columns[2][of_cohort] * len(cohorts) + columns[3][of_cohort]
    ])  # fmt: skip
    pairs, name = np.unique(pairs, return_inverse=True)
    words = list(cohorts)
    return Rolled(
        [series_of(places.groups[pair // len(words)], words[pair % len(words)]) for pair in pairs.tolist()],
        name,
        np.concatenate([columns[0][whole], columns[0][of_cohort]]),
        np.concatenate([columns[1][whole], columns[1][of_cohort]]),
        np.concatenate([np.bitwise_or.reduceat(flags, whole) if len(whole) else flags, flags[of_cohort]]),
        Aggregates.concatenate([merged_at_once(aggregates, whole), aggregates.take(of_cohort)]),
        Sketches.concatenate([_summed(sketches, whole_of, len(whole)), sketches.take(of_cohort)]),
    )


def with_gone(rolled: Rolled, gone: Iterable[tuple[int, int, str]]) -> Rolled:
    """Add rows of count 0 for those of `gone` (level, start, series) that nothing is left of."""
    names = list(rolled.names)
    there = set(
        zip(rolled.level.tolist(), rolled.start.tolist(), [names[n] for n in rolled.name.tolist()], strict=True)
    )  # fmt: skip
    missing = sorted({*gone} - there)
    if not missing:
        return rolled
    index = {name: number for number, name in enumerate(names)}
    level, start, series = zip(*missing, strict=True)
    added = [index.setdefault(one, len(index)) for one in series]
    none = np.zeros(len(missing), np.int64)
    return Rolled(
        list(index),
        np.append(rolled.name, np.array(added, np.int64)),
        np.append(rolled.level, np.array(level, np.int64)),
        np.append(rolled.start, np.array(start, np.int64)),
        np.append(rolled.flags, none),
        Aggregates.concatenate([rolled.aggregates, Aggregates.empty(len(missing))]),
        Sketches.concatenate([rolled.sketches, Sketches.empty(len(missing))]),
    )


def rollup_records(rolled: Rolled, levels: list[str], shard: int, now_us: int) -> Iterator[Record]:
    """Yield the frames of the second stages' topics."""
    topics = [topic_of(name) for name in rolled.names]
    of_row = np.array([(topic is BY_COHORT) << 32 | at for topic, at in topics], np.int64)[rolled.name]
    for place in np.unique(of_row).tolist():
        topic, partition = BY_COHORT if place >> 32 else BY_METRIC, place & 0xFFFFFFFF
        rows = np.flatnonzero(of_row == place)
        for begin in range(0, len(rows), _ROWS):
            parts = _parts(rolled, rows[begin : begin + _ROWS], levels, shard, now_us)
            body = frame.encode(Frame(AGENT, shard, shard, 0, 0, None, parts))
            name = stable_id(AGENT, topic.name, partition, body.hex())
            headers = records.headers(records.FRAME, name, SOURCE, now_us)
            yield Record(topic.name, partition, f"{AGENT}/{shard}", headers, body)


def _parts(rolled: Rolled, rows: Ints, levels: list[str], shard: int, now_us: int) -> Parts:
    name, series = np.unique(rolled.name[rows], return_inverse=True)
    number, level = np.unique(rolled.level[rows], return_inverse=True)
    none = np.zeros(len(rows), np.int64)
    return Parts(
        [rolled.names[n] for n in name.tolist()], [levels[n] for n in number.tolist()], [shard],
        series, level, rolled.start[rows], none, none, np.full(len(rows), now_us), rolled.flags[rows],
        rolled.aggregates.take(rows), rolled.sketches.take(rows),
    )  # fmt: skip


def _starts(columns: list[Ints]) -> Ints:
    """Return where any of the columns changes; 0 too, unless they are empty."""
    change = np.ones(len(columns[0]), np.bool_)
    change[1:] = np.logical_or.reduce([np.diff(column) != 0 for column in columns])
    return np.flatnonzero(change)


def _summed(sketches: Sketches, group: Ints, n: int) -> Sketches:
    rows = np.repeat(group, np.diff(sketches.end, prepend=0))
    return grouped_sketches(rows, sketches.bucket, sketches.count, n)
