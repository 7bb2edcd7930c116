"""A number against bounds, with hysteresis, and for so long: what limits, ranges, rates of change and jumps come down to."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detector import Detector, Groups, Looked, before_each
from headwater_edge.recent import NEVER
from headwater_edge.rules import Rule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

R = TypeVar("R", bound=Rule)
Four = tuple[float, float, float, float]


def one_sided(sign: float, limit: float, clear: float) -> Four:
    """Return bounds above a limit (sign 1), or below it (-1)."""
    inf = float("inf")
    return (limit, -inf, clear, -inf) if sign > 0 else (inf, limit, inf, clear)


class Bounded(Detector[R]):
    """Columns by pair: broken above `high` or below `low`, over below `clear_high` and above `clear_low`; `since`: how long it is
    so, for rules that want it for a while, `NEVER` while it is not.
    """

    KEPT: ClassVar[dict[str, float]] = {"active": False, "begin": 0, "since": NEVER}
    since: Ints

    def _bounds(self, rule: R) -> Four:
        """Return high, low, clear_high, clear_low."""
        raise NotImplementedError

    def _settle(self) -> None:
        four = np.array([self._bounds(rule) for rule in self.rules], np.float64)[self.rule]
        self.high, self.low, self.clear_high, self.clear_low = four.T.copy()
        self.for_us: Ints = np.array([getattr(rule, "for_us", 0) for rule in self.rules], np.int64)[self.rule]
        self._waits = bool(self.for_us.any())

    def _over(self, pair: Ints, value: Floats) -> Mask:
        over: Mask = (value > self.high[pair]) | (value < self.low[pair])
        return over

    def _under(self, pair: Ints, value: Floats) -> Mask:
        under: Mask = (value < self.clear_high[pair]) & (value > self.clear_low[pair])
        return under

    def _bound(self, pair: Ints, value: Floats) -> Floats:
        """Return the bound that a value is beyond, or nearer to."""
        high, low = self.high[pair], self.low[pair]
        with np.errstate(over="ignore"):
            bound: Floats = np.where(np.abs(high - value) <= np.abs(value - low), high, low)
        return bound

    def _lasting(self, rows: Looked, groups: Groups, over: Mask, event: Ints) -> tuple[Mask, Ints]:
        """Tell which rows have been over for as long as their rule wants, and since when; one that is not begins anew."""
        pair = rows.pair
        wanted, carried = self.for_us[pair], self.since[pair]
        begins = over & ~before_each(groups, over, carried > NEVER)
        at = np.maximum.accumulate(np.where(begins, np.arange(len(pair)), -1))
        since = np.where(at >= groups.start, event[at], carried)
        last = groups.last
        self.since[pair[last]] = np.where(over[last] & (wanted[last] > 0), since[last], NEVER)
        return over & ((wanted == 0) | (event - since >= wanted)), since
