"""A jump: the mean of a window is far from that of the window before it.

Windows here are of the series' readings in the order of their arrival: one is over when the first reading of a later one
comes, and what comes for it after that is left out. So the mean does not depend on where a tick ended, to the last bit, as
that of a pane that late readings revise would. The window before is the last that had readings.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from headwater_edge.bounded import Bounded, Four
from headwater_edge.detector import Groups, Looked, before_each, groups_of, newest_before
from headwater_edge.rates import MOST
from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, JumpRule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Jumps(Bounded[JumpRule]):
    """All rules over all series; columns by pair: the open window (by number), its sum and count, and the mean before it."""

    KEPT: ClassVar[dict[str, float]] = Bounded.KEPT | {
        "window": NEVER, "total": 0.0, "count": 0, "mean": 0.0, "has_mean": False
    }  # fmt: skip
    window: Ints
    total: Floats
    count: Ints
    mean: Floats
    has_mean: Mask

    def _bounds(self, rule: JumpRule) -> Four:
        return rule.limit, -rule.limit, rule.clear, -rule.clear

    def _settle(self) -> None:
        super()._settle()
        self.length_us: Ints = np.array([rule.length_us for rule in self.rules])[self.rule]

    def forget(self, before: Self, at: Ints, kept: Mask) -> None:
        if kept.any():
            kept[kept] = self.length_us[kept] != before.length_us[at[kept]]
            for name in ("window", "total", "count", "mean", "has_mean"):  # of windows of another length
                getattr(self, name)[kept] = self.KEPT[name]

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats) -> list[Change]:
        """Judge a tick's accepted readings; see `Limits.run`. What is compared is the difference of the means."""
        rows = self._look(series)
        if rows is None:
            return []
        rows = self._sorted(rows)
        window = event[rows.reading] // self.length_us[rows.pair]
        groups = groups_of(rows.pair)
        timely = window >= newest_before(groups, window, self.window[rows.pair])
        if not timely.any():
            return []
        if not timely.all():
            rows, window = rows.take(timely), window[timely]
            groups = groups_of(rows.pair)
        pair = rows.pair
        opens = window > before_each(groups, window, self.window[pair])
        if not opens.any():  # mostly
            np.add.at(self.total, pair, value[rows.reading])
            np.add.at(self.count, pair, 1)
            return []
        return self._open(rows, groups, opens, window, event[rows.reading], value[rows.reading])

    def _open(
        self, rows: Looked, groups: Groups, opens: Mask, window: Ints, event: Ints, value: Floats
    ) -> list[Change]:
        """Go on to later windows: those of these rows, each the rows of one pair that follow each other."""
        (begin,) = np.nonzero(opens | groups.first)
        pair, first, fresh = rows.pair[begin], groups.first[begin], opens[begin]
        total = np.where(fresh, 0.0, self.total[pair])
        count = np.where(fresh, 0, self.count[pair])
        of = np.cumsum(opens | groups.first) - 1
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(total, of, value)
            np.add.at(count, of, 1)
            mean = np.clip(total / count, -MOST, MOST)
            # By window: the mean of the one before it, and of the one before that.
            known = self.window[pair] > NEVER
            carried = np.clip(self.total[pair] / np.maximum(self.count[pair], 1), -MOST, MOST)
            own, has_own = self.mean[pair], self.has_mean[pair]
            one = np.where(first, np.where(fresh, carried, own), np.append(0.0, mean[:-1]))
            has_one = np.where(first, np.where(fresh, known, has_own), True)
            two = np.where(first, own, np.append(0.0, one[:-1]))
            has_two = np.where(first, has_own, np.append(False, has_one[:-1]))
            step = np.clip(one - two, -MOST, MOST)
        closed = np.where(first, self.window[pair], np.append(0, window[begin][:-1]))
        last = np.append(first[1:], True)
        at = pair[last]
        self.window[at], self.total[at], self.count[at] = window[begin][last], total[last], count[last]
        self.mean[at], self.has_mean[at] = one[last], has_one[last]
        judged = fresh & has_one & has_two
        if not judged.any():
            return []
        rows, event = rows.take(begin[judged]), event[begin[judged]]
        step, pair = step[judged], rows.pair
        over, under = self._over(pair, step), self._under(pair, step)
        begun = closed[judged] * self.length_us[pair]
        return self._turn(rows, groups_of(pair), over, under, begun, event, step, self._bound(pair, step))

    def set_back(self, newest: Ints) -> None:
        """Our clock was corrected backwards: no reading is newer than these times, by series (R8)."""
        self.window = np.minimum(self.window, newest[self.series] // self.length_us)
