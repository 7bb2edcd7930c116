"""The limit rule: a value above (or below) a limit begins an anomaly, one back past `clear` ends it.

Rules look at the raw columns in the order in which a device's readings were accepted, so that what they find does not
depend on where a tick ended. No loop over readings: the last reading that decided is carried forward over those between
limit and clear.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class LimitRule(msgspec.Struct, frozen=True):
    """One rule over the series that match; times `sign`, the value is compared with limit and clear from above."""

    name: str
    series: str
    sign: float
    limit: float
    clear: float
    severity: str
    text: str


class Change(NamedTuple):
    """A rule began or ceased to be broken at a reading; `begin_us` is the event time at which it began."""

    rule: int
    reading: int
    begins: bool
    begin_us: int


class Limits:
    """All rules over all series: matrices (rule, series) of limit and clear times sign, and of what is broken now."""

    def __init__(self, rules: list[LimitRule]) -> None:
        self.rules = rules
        self._names: list[str] = []
        self.active = np.zeros((len(rules), 0), np.bool_)
        self.begin: Ints = np.zeros((len(rules), 0), np.int64)
        """Event time at which what is broken now began."""
        self._limit: Floats = np.zeros((len(rules), 0))
        self._clear: Floats = np.zeros((len(rules), 0))

    def grow(self, names: list[str]) -> None:
        """Make room for all series called so; those known before come first."""
        known = len(self._names)
        more = names[known:]
        if not more:
            return
        self._names = list(names)
        blank = np.zeros((len(self.rules), len(more)), np.bool_)
        self.active = np.concatenate([self.active, blank], axis=1)
        self.begin = np.concatenate([self.begin, blank.astype(np.int64)], axis=1)
        fits = np.array([[fnmatchcase(name, rule.series) for name in more] for rule in self.rules]).reshape(
            blank.shape
        )
        limit = np.array([[rule.sign * rule.limit] for rule in self.rules]).reshape(-1, 1)
        clear = np.array([[rule.sign * rule.clear] for rule in self.rules]).reshape(-1, 1)
        self._limit = np.concatenate([self._limit, np.where(fits, limit, np.inf)], axis=1)
        self._clear = np.concatenate([self._clear, np.where(fits, clear, -np.inf)], axis=1)

    def followed_by(self, rules: list[LimitRule]) -> Limits:
        """Return other rules over the same series; what a rule of the same name found broken stays so."""
        after = Limits(rules)
        after.grow(self._names)
        for index, rule in enumerate(rules):
            for old in (i for i, former in enumerate(self.rules) if former.name == rule.name):
                fits = after._limit[index] < np.inf
                after.active[index] = self.active[old] & fits
                after.begin[index] = self.begin[old]
        return after

    def orphans(self, rules: list[LimitRule]) -> list[tuple[LimitRule, int, int]]:
        """Return what is broken now and would not be watched under other rules: (rule, series, begin)."""
        after = self.followed_by(rules)
        kept = {rule.name: index for index, rule in enumerate(rules)}
        return [
            (rule, series, int(self.begin[old, series]))
            for old, rule in enumerate(self.rules)
            for series in np.flatnonzero(self.active[old]).tolist()
            if rule.name not in kept or not after.active[kept[rule.name], series]
        ]

    def turns(self, series: NDArray[np.int32], value: Floats) -> bool:
        """Tell whether some reading may begin or end an anomaly: a cheap look that may end a tick early."""
        if not self.rules or not len(value) or int(series.max()) >= self.active.shape[1]:
            return False  # of a series' first readings the tick will see
        for index, rule in enumerate(self.rules):
            signed, active = value * rule.sign, self.active[index]
            over = signed > self._limit[index][series]
            if over.any() and not active[series[over]].all():
                return True
            if active.any() and bool((active[series] & (signed < self._clear[index][series])).any()):
                return True
        return False

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats) -> list[Change]:
        """Judge a tick's accepted readings.

        Args:
            series, event, value: in the order of arrival; shape (n,).

        Returns:
            what changed, in the order of arrival; `active` and `begin` are moved on.
        """
        changes: list[Change] = []
        s = order = None
        for index, rule in enumerate(self.rules):
            signed, active = value * rule.sign, self.active[index]
            if not (signed > self._limit[index][series]).any() and not active.any():
                continue
            if s is None or order is None:
                order = np.argsort(series, kind="stable")
                s = series[order]
            signed = signed[order]
            over, under = signed > self._limit[index][s], signed < self._clear[index][s]
            changes += self._changes(index, s, over, under, order, event)
        changes.sort(key=lambda change: (change.reading, change.rule))
        return changes

    def _changes(
        self,
        index: int,
        s: NDArray[np.int32],
        over: NDArray[np.bool_],
        under: NDArray[np.bool_],
        order: Ints,
        event: Ints,
    ) -> list[Change]:
        n = len(s)
        first = np.empty(n, np.bool_)
        first[0] = True
        np.not_equal(s[1:], s[:-1], out=first[1:])
        group = np.maximum.accumulate(np.where(first, np.arange(n), 0))
        decided = np.maximum.accumulate(np.where(over | under, np.arange(n), -1))
        carried = decided >= group  # some reading of this series in this tick has decided
        active = self.active[index]
        now = np.where(carried, over[decided], active[s])
        before = np.empty(n, np.bool_)
        before[1:] = now[:-1]
        before[first] = active[s[first]]
        (turned,) = np.nonzero(now != before)
        out = []
        for at in turned.tolist():
            begins = bool(now[at])
            if begins:
                self.begin[index, s[at]] = event[order[at]]
            out.append(Change(index, int(order[at]), begins, int(self.begin[index, s[at]])))
        last = np.append(first[1:], True)
        active[s[last]] = now[last]
        return out
