"""Stage one of rollups, in the shard: its changed windows, merged by site and metric and by cohort, as rows for second stages (R25).

A level and start of which a window changed is dirty in its shard. Once no window of it changed for a while, by the shard's
clock, all that the shard has of it is merged anew, and goes out as parts of the series `site/+/metric` and
`site/+cohort/metric`. Such a part is opened by (site, shard), and its revision is the clock when it was made: the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_cloud import dirty, peers
from headwater_cloud.kept import Kept
from headwater_cloud.merge import Merged, Windows
from headwater_cloud.names import Names
from headwater_cloud.outputs import SOURCE
from headwater_cloud.places import Places
from headwater_cloud.rolled import Rolled, cohorts_of, joined, roll_up, series_of, with_gone
from headwater_cloud.shard import Shard
from headwater_shared import frame, records
from headwater_shared.bus import Record
from headwater_shared.errors import SettingsError
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS, stable_id
from headwater_shared.parts import Parts, level_of
from headwater_shared.topics import BY_COHORT, BY_METRIC, Topic

Ints = NDArray[np.int64]

_WORDS, _MOST_WORDS = 18, 40_000
"""Of eight bytes: what a row takes besides its sketch, and about what a frame may take: a third of what Kafka takes as one record."""

_FIRST, _WINDOWS = 16, 20_000
"""Levels and starts that are rolled up in one go at first; then as many as have about so many windows."""

_Key = tuple[int, str, int]
"""Shard, level and start."""

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
    where = _mark(shards, changed, names)
    keys = [
        (number, *key)
        for number, shard in sorted(shards.items())
        for key in dirty.due(shard.dirty, shard.clock_us)
    ]
    out: list[Rolled] = []
    compared: list[Record] = []
    rest, n = keys, _FIRST
    while rest:
        some, rest = rest[:n], rest[n:]
        rolled, peers_records, rows = _rolled(some, shards, changed, where, names, lookup)
        out.append(rolled)
        compared += peers_records
        n = max(1, min(n * _WINDOWS // max(rows, 1), 2 * n))
    records = rollup_records(joined(out), names.levels, shards) if out else ()
    return {number for number, _, _ in (*where, *keys)}, [*records, *compared]


def _rolled(
    keys: list[_Key],
    shards: Mapping[int, Shard],
    changed: Windows,
    where: Mapping[_Key, Ints],
    names: Names,
    lookup: Kept,
) -> tuple[Rolled, list[Record], int]:
    """Roll up some keys, which are no longer dirty then; return what is compared of them, and of how many windows, too."""
    levels = names.level_numbers([level for _, level, _ in keys])
    numbers, starts = (np.array([key[at] for key in keys], np.int64) for at in (0, 2))
    found = lookup.windows_at(numbers, levels, starts)
    over = [where[key] for key in keys if key in where]
    if over:
        found = Windows.concatenate([found, changed.take(np.concatenate(over))])
    places = names.places()
    cohorts, cohort = cohorts_of(found, places, shards)
    rolled = roll_up(found, places, cohorts, cohort)
    gone = [
        (level, start, number, series)
        for level, (number, name, start) in zip(levels.tolist(), keys, strict=True)
        for series in shards[number].dirty.pop((name, start)).gone
    ]
    compared = peers.step(shards, found, names, cohorts, cohort, gone)
    return (with_gone(rolled, gone) if gone else rolled), compared, len(found)


def _mark(shards: Mapping[int, Shard], changed: Windows, names: Names) -> dict[_Key, Ints]:
    """Note what changed; return which rows each shard, level and start has."""
    order = changed.by_shard()
    where = {
        (number, names.levels[level], start): order[begin:end]
        for number, level, start, begin, end in changed.runs(order)
        if _starts_together(names.levels[level])
    }
    some_gone = not changed.aggregates.count.all()
    for (number, level, start), rows in where.items():
        shard = shards[number]
        gone = _gone(changed.take(rows), names.places(), shard) if some_gone else []
        dirty.mark(shard.dirty, (level, start), gone, shard.clock_us)
    return where


@lru_cache(1_024)
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


def topic_of(series: str) -> tuple[Topic, int]:
    """Return the topic and the partition of a rollup: all sites of a metric, or of a cohort's metric, are in one."""
    _, _, rest = series.partition("/")
    cohort, _, metric = rest[1:].rpartition("/")
    topic, key = (BY_COHORT, f"{cohort}/{metric}") if cohort else (BY_METRIC, metric)
    return topic, crc32(key.encode()) % topic.partitions


def rollup_records(rolled: Rolled, levels: list[str], shards: Mapping[int, Shard]) -> Iterator[Record]:
    """Yield the frames of the second stages' topics."""
    topics = [topic_of(name) for name in rolled.names]
    of_row = np.array([(topic is BY_COHORT) << 32 | at for topic, at in topics], np.int64)[rolled.name]
    clocks = np.zeros(SHARDS, np.int64)
    for number, shard in shards.items():
        clocks[number] = shard.clock_us
    revision = clocks[rolled.shard]
    size = _WORDS + 2 * rolled.sketches.sizes()
    for place in sorted({*of_row.tolist()}):  # `np.unique` would import numpy.ma: 45 ms and 6 MB
        topic, partition = BY_COHORT if place >> 32 else BY_METRIC, place & 0xFFFFFFFF
        rows = np.flatnonzero(of_row == place)
        words = np.cumsum(size[rows])
        for some in np.split(rows, np.flatnonzero(np.diff(words // _MOST_WORDS)) + 1):
            parts = _parts(rolled, some, levels, revision)
            body = frame.encode(Frame(AGENT, 0, partition, 0, 0, None, parts))
            name = stable_id(AGENT, topic.name, partition, body.hex())
            headers = records.headers(records.FRAME, name, SOURCE, int(parts.revision.max()))
            yield Record(topic.name, partition, AGENT, headers, body)


def _parts(rolled: Rolled, rows: Ints, levels: list[str], revision: Ints) -> Parts:
    (name, series), (number, level), (shards, shard) = (
        _used(column[rows]) for column in (rolled.name, rolled.level, rolled.shard)
    )
    return Parts(
        [rolled.names[n] for n in name.tolist()], [levels[n] for n in number.tolist()], shards.tolist(),
        series, level, rolled.start[rows], shard, np.zeros(len(rows), np.int64), revision[rows], rolled.flags[rows],
        rolled.aggregates.take(rows), rolled.sketches.take(rows),
    )  # fmt: skip


def _used(numbers: Ints) -> tuple[Ints, Ints]:
    """As `np.unique` with the inverse, of small numbers: they are counted instead of sorted."""
    used = np.flatnonzero(np.bincount(numbers))
    return used, np.searchsorted(used, numbers)
