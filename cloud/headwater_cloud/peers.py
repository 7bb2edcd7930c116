"""Stage one of a comparison, in the shard: what it has of the devices of a cohort in one metric and window, as records for stage two (R25).

Made in the moment in which that level and start is rolled up, and, as a rollup, anew each time that a window of it changed: of a
shard's records of one window those made at its latest clock count. A record says by which rule it is made, for stage two knows none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.book import Compare
from headwater_cloud.merge import Windows
from headwater_cloud.names import Names
from headwater_cloud.outputs import SOURCE
from headwater_cloud.shard import Shard
from headwater_shared import peers, records
from headwater_shared.bus import Record
from headwater_shared.errors import SettingsError
from headwater_shared.identity import SHARDS, stable_id
from headwater_shared.parts import level_of
from headwater_shared.peers import Peers, PeersHead
from headwater_shared.topics import BY_COHORT

Ints = NDArray[np.int64]

_BYTES, _WORDS = 180_000, 26
"""Of a record, which stage two keeps as one piece of state (R24); what a device takes of it beside its name."""

Gone = tuple[int, int, int, str]
"""Level, start, shard and series of a rollup that windows were taken away from."""


def step(
    shards: Mapping[int, Shard], windows: Windows, names: Names, cohorts: list[str], cohort: Ints, gone: Iterable[Gone]
) -> list[Record]:  # fmt: skip
    """Return what is to be compared of levels and starts that are rolled up.

    Args:
        shards: know the rules.
        windows: all that the shards have of these levels and starts; of one window perhaps several rows, the last of which counts.
        names: of their numbers.
        cohorts, cohort: see `rolled.cohorts_of`.
        gone: of which cohorts perhaps nothing is left: that is said, too.
    """
    by_rules: dict[tuple[int, tuple[Compare, ...]], list[int]] = {}
    for number, shard in shards.items():
        if shard.book.compare:
            by_rules.setdefault((shard.book.time_us, shard.book.compare), []).append(number)
    out: list[Record] = []
    for (rules_us, rules), numbers in by_rules.items():
        of_shards = np.zeros(SHARDS, np.bool_)
        of_shards[numbers] = True
        ours = of_shards[windows.shard] & (cohort > 0)
        for rule in rules:
            length_us = _length_us(rule.level)
            if not length_us:
                continue  # sessions have no windows in common, and what is no level has none
            made = _Made(rule, rules_us, length_us, shards, names)
            out += made.of(windows, _rows(rule, windows, names, cohorts, cohort, ours), cohorts, cohort)
            out += made.empty(names.levels, (one for one in gone if of_shards[one[2]]))
    return out


@lru_cache(64)
def _length_us(level: str) -> int:
    try:
        return level_of(level).length_us
    except SettingsError:
        return 0


def _rows(
    rule: Compare, windows: Windows, names: Names, cohorts: list[str], cohort: Ints, ours: NDArray[np.bool_]
) -> Ints:
    """Return the rows that a rule is about, by cohort, shard, start and series; of each window one, and none without a mean."""
    places = names.places()
    if rule.level not in names.levels or rule.metric not in places.metrics:
        return np.zeros(0, np.int64)
    level, metric = names.levels.index(rule.level), places.metrics.index(rule.metric)
    wanted = ours & (windows.level == level) & (places.metric[windows.series] == metric)
    if rule.cohort != "*":
        wanted &= np.array([fnmatchcase(name, rule.cohort) for name in cohorts])[cohort]
    rows = np.flatnonzero(wanted)
    keys = (windows.series[rows], windows.start[rows], windows.shard[rows], cohort[rows])
    order = np.lexsort(keys)
    last = np.ones(len(rows), np.bool_)
    last[:-1] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in keys])
    rows = rows[order[last]]
    counts = windows.aggregates
    return rows[(counts.count[rows] > 0) & np.isfinite(counts.mean[rows])]


class _Made(NamedTuple):
    """Makes the records of one rule."""

    rule: Compare
    rules_us: int
    length_us: int
    """Of a window."""
    shards: Mapping[int, Shard]
    names: Names

    def of(self, windows: Windows, rows: Ints, cohorts: list[str], cohort: Ints) -> Iterator[Record]:
        """Yield the records of rows, which are sorted."""
        keys = [column[rows] for column in (cohort, windows.shard, windows.start)]
        change = np.logical_or.reduce([np.diff(column, prepend=-(2**62)) != 0 for column in keys])
        for run in np.split(rows, np.flatnonzero(change)[1:]) if len(rows) else ():
            first = run[0]
            yield from self._records(
                cohorts[cohort[first]], int(windows.shard[first]), int(windows.start[first]), run, windows
            )

    def empty(self, levels: list[str], gone: Iterable[Gone]) -> Iterator[Record]:
        """Yield a record without devices for each cohort that lost windows; one with devices, made at the same clock, has more readings."""
        for level, start, number, series in gone:
            cohort, _, metric = series.partition("/")[2][1:].rpartition("/")
            rule = self.rule
            same = (levels[level], metric) == (rule.level, rule.metric)
            if cohort and same and fnmatchcase(cohort, rule.cohort):
                yield from self._records(cohort, number, start, np.zeros(0, np.int64), Windows.empty())

    def _records(self, cohort: str, shard: int, start: int, rows: Ints, windows: Windows) -> Iterator[Record]:
        rule = self.rule
        places = self.names.places()
        devices = places.names_of(places.device[windows.series[rows]])
        openers, agent = np.unique(windows.opener[rows], return_inverse=True)
        agents = [self.names.openers[number].agent for number in openers.tolist()]
        longest = max(map(len, devices), default=0)
        most = max(1, _BYTES // (_WORDS + 4 * longest))
        counts, means = windows.aggregates.count[rows], windows.aggregates.mean[rows]
        firsts = range(0, max(len(rows), 1), most)
        partition = crc32(f"{cohort}/{rule.metric}".encode()) % BY_COHORT.partitions
        clock_us = self.shards[shard].clock_us
        for piece, first in enumerate(firsts):
            some = slice(first, first + most)
            head = PeersHead(
                rule.name, cohort, rule.metric, rule.level, start, self.length_us, shard, clock_us,
                piece, len(firsts), int(counts.sum()), self.rules_us, rule.away, rule.least, rule.peers, rule.severity, rule.text,
            )  # fmt: skip
            body = peers.encode(Peers(head, devices[some], agents, agent[some], counts[some], means[some]))
            at = stable_id(
                "peers",
                rule.name,
                cohort,
                rule.metric,
                rule.level,
                start,
                shard,
                clock_us,
                piece,
                crc32(body),
            )
            headers = records.headers(peers.PEERS, at, SOURCE, clock_us)
            yield Record(BY_COHORT.name, partition, f"{cohort}/{rule.metric}", headers, body)
