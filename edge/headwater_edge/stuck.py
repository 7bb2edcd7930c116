"""A value that does not change: the very same for so long, as a broken sensor or a frozen program shows it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detector import Detector, before_each, groups_of, newest_before
from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, StuckRule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Stuck(Detector[StuckRule]):
    """All rules over all series; columns by pair: the newest reading, since when it is that, and the value that was found stuck."""

    KEPT: ClassVar[dict[str, float]] = Detector.KEPT | {
        "last_event": NEVER, "last": 0.0, "since": NEVER, "stuck_at": 0.0
    }  # fmt: skip
    last_event: Ints
    last: Floats
    since: Ints
    stuck_at: Floats

    def _settle(self) -> None:
        self.for_us: Ints = np.array([rule.for_us for rule in self.rules])[self.rule]
        self.clear_by: Floats = np.array([rule.clear_by for rule in self.rules])[self.rule]

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats) -> list[Change]:
        """Judge a tick's accepted readings; see `Limits.run`. What is told is the value, and for how many seconds it may stay."""
        rows = self._look(series)
        if rows is None:
            return []
        rows = self._sorted(rows)
        event, carried = event[rows.reading], self.last_event[rows.pair]
        groups = groups_of(rows.pair)
        newer = event > newest_before(groups, event, carried)
        if not newer.any():
            return []
        if not newer.all():
            rows, event, carried = rows.take(newer), event[newer], carried[newer]
            groups = groups_of(rows.pair)
        value, pair = value[rows.reading], rows.pair
        other = value != before_each(groups, value, self.last[pair])
        other |= groups.first & (carried == NEVER)
        at = np.arange(len(pair))
        changed = np.maximum.accumulate(np.where(other, at, -1))
        since = np.where(changed >= groups.start, event[changed], self.since[pair])
        over = event - since >= self.for_us[pair]
        found = np.maximum.accumulate(np.where(over, at, -1))
        stuck_at = np.where(found >= groups.start, value[found], self.stuck_at[pair])
        last = groups.last
        keep = pair[last]
        self.last_event[keep], self.last[keep] = event[last], value[last]
        self.since[keep], self.stuck_at[keep] = since[last], stuck_at[last]
        if not (over.any() or self.active[pair].any()):
            return []
        with np.errstate(over="ignore"):
            under = ~over & (np.abs(value - stuck_at) > self.clear_by[pair])
        return self._turn(rows, groups, over, under, since, event, value, self.for_us[pair] / 1e6)

    def set_back(self, newest: Ints) -> None:
        """Our clock was corrected backwards: no reading is newer than these times, by series (R8)."""
        self.last_event = np.minimum(self.last_event, newest[self.series])
        self.since = np.minimum(self.since, self.last_event)
