"""The rate of change: how fast a value rises or falls from one reading to the next.

Of the readings of each `apart` only the first is taken, and a change is spread over at least that long: two readings a
millisecond from each other say nothing of a rate.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headwater_edge.bounded import Bounded, Four, one_sided
from headwater_edge.detector import before_each, groups_of, newest_before
from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, RateRule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST = float(np.finfo(np.float64).max)


class Rates(Bounded[RateRule]):
    """All rules of rates over all series; columns by pair: the reading taken last."""

    KEPT: ClassVar[dict[str, float]] = Bounded.KEPT | {"last_event": NEVER, "last": 0.0}
    last_event: Ints
    last: Floats

    def _bounds(self, rule: RateRule) -> Four:
        if rule.sign:
            return one_sided(rule.sign, rule.sign * rule.limit, rule.sign * rule.clear)
        return rule.limit, -rule.limit, rule.clear, -rule.clear

    def _settle(self) -> None:
        super()._settle()
        self.per_us: Ints = np.array([rule.per_us for rule in self.rules])[self.rule]
        self.apart_us: Ints = np.array([rule.apart_us for rule in self.rules])[self.rule]

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats) -> list[Change]:
        """Judge a tick's accepted readings; see `Limits.run`. What is compared is the change in `per_us`."""
        rows = self._look(series)
        if rows is None:
            return []
        rows = self._sorted(rows)
        event, apart = event[rows.reading], self.apart_us[rows.pair]
        turn, groups = event // apart, groups_of(rows.pair)
        newer = turn > newest_before(groups, turn, self.last_event[rows.pair] // apart)
        if not newer.any():
            return []
        if not newer.all():
            rows, event, apart = rows.take(newer), event[newer], apart[newer]
            groups = groups_of(rows.pair)
        value, pair = value[rows.reading], rows.pair
        before_event = before_each(groups, event, self.last_event[pair])
        with np.errstate(over="ignore"):
            change = value - before_each(groups, value, self.last[pair])
            rate = change * (self.per_us[pair] / np.maximum(event - before_event, apart))
        rate = np.clip(rate, -MOST, MOST)
        known = before_event > NEVER
        over, under = known & self._over(pair, rate), known & self._under(pair, rate)
        last = groups.last
        self.last_event[pair[last]], self.last[pair[last]] = event[last], value[last]
        if not (over.any() or self.active[pair].any() or (self._waits and (self.since[pair] > NEVER).any())):
            return []
        over, since = self._lasting(rows, groups, over, event)
        return self._turn(rows, groups, over, under, since, event, rate, self._bound(pair, rate))

    def set_back(self, newest: Ints) -> None:
        """Our clock was corrected backwards: no reading is newer than these times, by series (R8)."""
        self.last_event = np.minimum(self.last_event, newest[self.series])
