"""Limits and ranges: a value beyond a bound begins an anomaly, one back past `clear` ends it.

They look at every accepted reading, in the order of arrival; of the other kinds, those that compare times look only at
what is newer than all before it of its series.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.bounded import Bounded, Four, one_sided
from headwater_edge.detector import Looked, groups_of
from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, LimitRule, RangeRule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Limits(Bounded[LimitRule | RangeRule]):
    """All limits and ranges over all series."""

    def _bounds(self, rule: LimitRule | RangeRule) -> Four:
        if isinstance(rule, LimitRule):
            return one_sided(rule.sign, rule.limit, rule.clear)
        clear_high = float(np.nextafter(rule.high - rule.clear_by, np.inf))  # at the bound it is inside
        return rule.high, rule.low, clear_high, float(np.nextafter(rule.low + rule.clear_by, -np.inf))

    def turns(self, series: NDArray[np.int32], value: Floats) -> bool:
        """Tell whether some reading may begin or end an anomaly at once: a cheap look that may end a tick early."""
        if not self.rules or not len(value) or int(series.max()) >= self._known:
            return False  # of a series' first readings the tick will see
        rows = self._look(series)
        if rows is None:
            return False
        pair, value = rows.pair, value[rows.reading]
        active = self.active[pair]
        begins = self._over(pair, value) & ~active
        if self._waits:
            begins &= self.for_us[pair] == 0
        return bool(begins.any()) or bool(active.any() and (self._under(pair, value) & active).any())

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats) -> list[Change]:
        """Judge a tick's accepted readings.

        Args:
            series, event, value: in the order of arrival; shape (n,).

        Returns:
            what changed; what is carried on is moved on.
        """
        rows = self._look(series)
        if rows is None or not self._matters(rows, event, value):
            return []
        rows = self._sorted(rows)
        groups = groups_of(rows.pair)
        event, value = event[rows.reading], value[rows.reading]
        over, under = self._over(rows.pair, value), self._under(rows.pair, value)
        over, since = self._lasting(rows, groups, over, event)
        return self._turn(rows, groups, over, under, since, event, value, self._bound(rows.pair, value))

    def _matters(self, rows: Looked, event: Ints, value: Floats) -> bool:
        """Tell whether these readings change anything: mostly they do not, and need no sorting."""
        pair, value = rows.pair, value[rows.reading]
        over, active = self._over(pair, value), self.active[pair]
        if active.any() and bool((self._under(pair, value) & active).any()):
            return True
        begins = over & ~active
        if not self._waits:
            return bool(begins.any())
        waits, since = self.for_us[pair] > 0, self.since[pair]
        if bool((begins & ~waits).any()) or bool((waits & (over != (since > NEVER))).any()):
            return True
        return bool((begins & (event[rows.reading] - since >= self.for_us[pair])).any())
