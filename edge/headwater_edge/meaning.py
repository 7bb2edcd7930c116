"""What values mean: scale and offset of a series, and the rate of a counter; applied inside the step, after a reading is known.

Who a reading is (R2) and its digest (R10) are of the value as sent, so nothing here touches those: a resend is recognised, and
an audit finds every reading, whatever the scale was set to in between. A counter keeps its windows as they are; its rate is a
series of its own beside it, METRIC.rate, made of every two readings that follow each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.event_time import Stamped
from headwater_shared.digest import NO_TIME

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RATE = ".rate"
"""What the name of a counter's rate ends in."""
_NEVER = -(2**62)


class MetricRule(msgspec.Struct, frozen=True):
    """What is known of the series that match; of several that match one the first counts. `wraps_at` 0: it does not wrap."""

    series: str
    scale: float
    offset: float
    counter: bool
    wraps_at: float


class Meaning:
    """Columns by series: scale, offset, the series of its rate (-1: none), and of counters the last reading as sent."""

    KEPT = ("last", "last_event")

    def __init__(self, rules: Sequence[MetricRule]) -> None:
        self._rules = list(rules)
        self._counters = any(rule.counter for rule in rules)
        self.scale: Floats = np.zeros(0)
        self.offset: Floats = np.zeros(0)
        self.wraps_at: Floats = np.zeros(0)
        self.rate: Ints = np.zeros(0, np.int64)
        self.last: Floats = np.zeros(0)
        self.last_event: Ints = np.zeros(0, np.int64)

    def __bool__(self) -> bool:
        """Tell whether any series has a scale, an offset or a rate."""
        return bool(self._rules)

    def grow(self, names: Sequence[str]) -> None:
        """Make room for all series called so; those known before come first."""
        known = len(self.scale)
        more = names[known:]
        if not more or not self._rules:
            return
        found = [self._rule(name) for name in more]
        self.scale = np.append(self.scale, [rule.scale if rule else 1.0 for rule in found])
        self.offset = np.append(self.offset, [rule.offset if rule else 0.0 for rule in found])
        self.wraps_at = np.append(self.wraps_at, [rule.wraps_at if rule else 0.0 for rule in found])
        self.rate = np.append(self.rate, np.full(len(more), -1))
        if self._counters:
            self._link(names, range(known, len(names)))
        self.last = np.append(self.last, np.zeros(len(more)))
        self.last_event = np.append(self.last_event, np.full(len(more), _NEVER))

    def _rule(self, name: str) -> MetricRule | None:
        if not name or name.endswith(RATE):
            return None
        return next((rule for rule in self._rules if fnmatchcase(name, rule.series)), None)

    def _link(self, names: Sequence[str], fresh: Iterable[int]) -> None:
        """Tell counters of their rates where one of the two is fresh: the other may be much older."""
        numbers = {name: at for at, name in enumerate(names) if name}
        for name in {names[at].removesuffix(RATE) for at in fresh}:
            counter, rate, rule = numbers.get(name), numbers.get(name + RATE), self._rule(name)
            if counter is not None and rate is not None and rule is not None and rule.counter:
                self.rate[counter] = rate

    def let_go(self, series: Ints) -> None:
        """Forget series."""
        if self._rules:
            self.scale[series], self.offset[series], self.wraps_at[series] = 1.0, 0.0, 0.0
            self.last[series], self.last_event[series] = 0.0, _NEVER
            self.rate[series] = -1
            self.rate[np.isin(self.rate, series)] = -1

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Look what series mean that have numbers of such as were let go; `names`: of all series."""
        if not self._rules:
            return
        for number in numbers:
            rule = self._rule(names[number])
            if rule is not None:
                self.scale[number], self.offset[number] = rule.scale, rule.offset
                self.wraps_at[number] = rule.wraps_at
        if self._counters:
            self._link(names, numbers)

    def of(self, series: NDArray[np.integer[Any]], value: Floats) -> Floats:
        """Return what values as sent mean; shape (n,)."""
        if not self._rules:
            return value
        meant: Floats = value * self.scale[series] + self.offset[series]
        return meant

    def rates(self, rows: Stamped) -> Stamped | None:
        """Return the readings of rates that these readings of counters bring, None if they bring none.

        A reading gives the rate since the one before it in event time: less than it is a reset (it counted up from 0), or, where
        the counter wraps, a wrap. One that is not newer than the last one gives none.
        """
        if not self._counters:
            return None
        (at,) = np.nonzero(self.rate[rows.series] >= 0)
        if not len(at):
            return None
        at = at[np.lexsort((rows.event[at], rows.series[at]))]
        series, event, value = rows.series[at], rows.event[at], rows.value[at]
        first = np.append(True, series[1:] != series[:-1])
        before = np.append(0.0, value[:-1])
        before_event = np.append(_NEVER, event[:-1])
        before[first], before_event[first] = self.last[series[first]], self.last_event[series[first]]
        late = event <= np.maximum(before_event, self.last_event[series])
        if late.any():  # rare: without them, one by one
            return self.rates(rows.take(_all_but(len(rows.series), at[late])))
        ends = np.append(first[1:], True)
        self.last[series[ends]], self.last_event[series[ends]] = value[ends], event[ends]
        known = before_event > _NEVER
        step = value - before
        fell, wraps = step < 0, self.wraps_at[series] > 0
        step = np.where(fell, np.where(wraps, step + self.wraps_at[series], value), step)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rate = step * self.scale[series] / ((event - before_event) / 1e6)
        kept = known & np.isfinite(rate)
        if not kept.any():
            return None
        n = int(kept.sum())
        return Stamped(
            self.rate[series[kept]].astype(np.int32),
            np.full(n, NO_TIME),
            event[kept],
            rate[kept] + 0.0,
            rows.mark[at][kept],
        )

    def followed_by(self, rules: Sequence[MetricRule], names: Sequence[str]) -> Meaning:
        """Return other rules over the same series; what counters showed last stays."""
        after = Meaning(rules)
        after.grow(names)
        n = min(len(self.last), len(after.last))
        after.last[:n], after.last_event[:n] = self.last[:n], self.last_event[:n]
        return after


def _all_but(n: int, gone: Ints) -> NDArray[np.bool_]:
    kept = np.ones(n, np.bool_)
    kept[gone] = False
    return kept
