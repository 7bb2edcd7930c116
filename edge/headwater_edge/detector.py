"""What the detectors of all kinds have in common: pairs of a rule and a series that it is for, and columns by pair.

A series that no rule is for has no pair and costs nothing; a thousand rules, each for one series, are a thousand pairs.
Readings are judged in the order in which they were accepted, and what decides is carried from one to the next and from tick
to tick, so that what is found does not depend on where a tick ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, Rule
from headwater_shared.series_patterns import Patterns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Series = NDArray[np.int32]

R = TypeVar("R", bound=Rule)
_NARROW = 2**15


class Looked(NamedTuple):
    """Readings as their pairs see them, m rows, pair by pair and within one in the order of arrival."""

    pair: Ints
    reading: Ints
    """Index in the tick."""

    def take(self, at: Mask | Ints) -> Looked:
        """Return the rows at a mask or indices."""
        return Looked(self.pair[at], self.reading[at])


class Groups(NamedTuple):
    """Where the rows of each pair are."""

    first: Mask
    last: Mask
    start: Ints
    """Of each row, the first row of its pair."""


class Detector(Generic[R]):
    """All rules of one kind over all series; pairs are in the order of series, and within one of rules."""

    KEPT: ClassVar[dict[str, float]] = {"active": False, "begin": 0}
    """Columns by pair that are carried on, with what they are before the first reading."""

    def __init__(self, rules: Sequence[R]) -> None:
        self.rules = list(rules)
        self._patterns = Patterns([rule.series for rule in rules])
        self._known = 0
        self.rule: Ints = np.zeros(0, np.int64)
        self.series: Ints = np.zeros(0, np.int64)
        self.active: Mask = np.zeros(0, np.bool_)
        """Broken now."""
        self.begin: Ints = np.zeros(0, np.int64)
        """Event time at which what is broken now began."""
        self._first: Ints = np.zeros(0, np.int64)
        self._count: Ints = np.zeros(0, np.int64)
        for name, blank in self.KEPT.items():
            setattr(self, name, np.full(0, blank))

    def grow(self, names: Sequence[str]) -> None:
        """Make room for all series called so; those known before come first."""
        if not self.rules or len(names) == self._known:
            return
        of = [self._patterns.of(name) if name else [] for name in names[self._known :]]
        count = np.array([len(rules) for rules in of], np.int64)
        series = np.repeat(np.arange(self._known, len(names)), count)
        rule = np.array([rule for rules in of for rule in rules], np.int64)
        self._first = np.append(self._first, len(self.rule) + np.cumsum(count) - count)
        self._count = np.append(self._count, count)
        self.rule, self.series = np.append(self.rule, rule), np.append(self.series, series)
        for name, blank in self.KEPT.items():
            setattr(self, name, np.append(getattr(self, name), np.full(len(rule), blank)))
        self._known = len(names)
        self._settle()

    def let_go(self, series: Ints) -> None:
        """Forget series: they have no pairs any more."""
        self._arrange(np.flatnonzero(~np.isin(self.series, series)))

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Make the pairs of series that have numbers of such as were let go."""
        of = [self._patterns.of(name) for name in names]
        count = [len(rules) for rules in of]
        self.series = np.append(self.series, np.repeat(numbers, count))
        self.rule = np.append(self.rule, np.array([rule for rules in of for rule in rules], np.int64))
        for name, blank in self.KEPT.items():
            setattr(self, name, np.append(getattr(self, name), np.full(sum(count), blank)))
        self._arrange(np.argsort(self.series, kind="stable"))

    def _arrange(self, at: Ints) -> None:
        """Keep these pairs, in this order: that of their series."""
        self.rule, self.series = self.rule[at], self.series[at]
        for name in self.KEPT:
            setattr(self, name, getattr(self, name)[at])
        self._count = np.bincount(self.series, minlength=self._known)
        self._first = np.cumsum(self._count) - self._count
        self._settle()

    def busy(self) -> Ints:
        """Return the series that cannot be let go, for something of them is broken."""
        return self.series[self.active]

    def ends(self, pairs: Ints) -> list[Change]:
        """Return the ends of what is broken in pairs, for nobody watches them any more."""
        ends = []
        for pair in pairs.tolist():
            rule, begin_us = self.rules[self.rule[pair]], int(self.begin[pair])
            limit = float(getattr(rule, "limit", 0.0))
            ends.append(Change(rule, int(self.series[pair]), -1, False, begin_us, begin_us, limit, limit))
        return ends

    def _settle(self) -> None:
        """Work out what follows from rules and pairs."""

    def followed_by(self, rules: Sequence[R], names: Sequence[str]) -> Self:
        """Return other rules over the same series; what a rule of the same name knows of a series stays."""
        after = type(self)(rules)
        after.grow(names)
        at, kept = self._heirs(after)
        for name in self.KEPT:
            getattr(after, name)[kept] = getattr(self, name)[at[kept]]
        after.forget(self, at, kept)
        return after

    def forget(self, before: Self, at: Ints, kept: Mask) -> None:
        """Forget what was taken over from `before` (from its pairs `at`, where kept) and means nothing under the rules of now."""

    def _heirs(self, after: Detector[R]) -> tuple[Ints, Mask]:
        """Return, by pair of `after`, the pair here of the same rule and series, and whether there is one."""
        numbers = {rule.name: number for number, rule in enumerate(self.rules)}
        former = np.array([numbers.get(rule.name, -1) for rule in after.rules], np.int64)
        many = max(len(self.rules), 1)
        keys = self.series * many + self.rule
        wanted = after.series * many + former[after.rule]
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        if not len(keys):
            return at, np.zeros(len(at), np.bool_)
        return at, (keys[at] == wanted) & (former[after.rule] >= 0)

    def orphans(self, rules: Sequence[R], names: Sequence[str]) -> list[Change]:
        """Return the ends of what is broken now and would not be watched under other rules."""
        if not self.active.any():
            return []
        after = type(self)(rules)
        after.grow(names)
        at, kept = self._heirs(after)
        gone = self.active.copy()
        gone[at[kept]] = False
        return self.ends(np.flatnonzero(gone))

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot; which pairs there are follows from rules and names."""
        return {name: getattr(self, name).copy() for name in self.KEPT}

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot; those that it lacks stay as they are.

        Raises:
            ValueError: they are of other pairs.
        """
        for name, column in columns.items():
            if len(column) != len(self.rule):
                raise ValueError(f"{len(column)} of {len(self.rule)} pairs of rules and series")
            setattr(self, name, column.copy())

    # Of a tick's readings.

    def _look(self, series: Series) -> Looked | None:
        """Return the readings that have pairs, each once a pair, in the order of arrival; None if none has."""
        if not self.rules:
            return None
        count = self._count[series]
        (reading,) = np.nonzero(count)
        if not len(reading):
            return None
        first, count = self._first[series[reading]], count[reading]
        if int(count.max()) == 1:
            return Looked(first, reading)
        ends = np.cumsum(count)
        within = np.arange(int(ends[-1])) - np.repeat(ends - count, count)
        return Looked(np.repeat(first, count) + within, np.repeat(reading, count))

    def _sorted(self, rows: Looked) -> Looked:
        """Bring them pair by pair."""
        narrow = len(self.rule) < _NARROW  # 16 bits: a radix sort
        return rows.take(np.argsort(rows.pair.astype(np.int16) if narrow else rows.pair, kind="stable"))

    def _turn(
        self,
        rows: Looked,
        groups: Groups,
        over: Mask,
        under: Mask,
        since: Ints,
        event: Ints,
        value: Floats,
        limit: Floats,
    ) -> list[Change]:
        """Carry what decided last over those rows that decide nothing; return what turned, and move on.

        Args:
            over, under: rows that break a rule, and that end it; sorted by pair, as all columns are.
            since: when what is over began to be so.
            event, value, limit: for what is said of a row; shape (m,), by row.
        """
        at = np.arange(len(rows.pair))
        decided = np.maximum.accumulate(np.where(over | under, at, -1))
        active = self.active[rows.pair]
        now = np.where(decided >= groups.start, over[decided], active)
        before = np.empty(len(at), np.bool_)
        before[1:] = now[:-1]
        before[groups.first] = active[groups.first]
        changes = []
        for row in np.flatnonzero(now != before).tolist():
            pair, begins = int(rows.pair[row]), bool(now[row])
            if begins:
                self.begin[pair] = since[row]
            changes.append(
                Change(
                    self.rules[self.rule[pair]], int(self.series[pair]), int(rows.reading[row]), begins,
                    int(self.begin[pair]), int(event[row]), float(value[row]), float(limit[row]),
                )
            )  # fmt: skip
        self.active[rows.pair[groups.last]] = now[groups.last]
        return changes


def groups_of(pair: Ints) -> Groups:
    """Tell where each pair's rows begin and end; at least one row."""
    first = np.append(True, pair[1:] != pair[:-1])
    start = np.maximum.accumulate(np.where(first, np.arange(len(pair)), 0))
    return Groups(first, np.append(first[1:], True), start)


def before_each(groups: Groups, column: NDArray[Any], carried: NDArray[Any]) -> NDArray[Any]:
    """Return what a column held in the row before of the same pair, in a pair's first row what was carried."""
    before = np.empty_like(column)
    before[1:] = column[:-1]
    before[groups.first] = carried[groups.first]
    return before


def newest_before(groups: Groups, time: Ints, carried: Ints) -> Ints:
    """Return the newest time of the rows before each, of the same pair, with what was carried; shape (m,)."""
    before: Ints = before_each(groups, time, carried)
    if bool((before <= time).all()):  # each came in the order of its times
        return before
    ranks, rank = np.unique(time, return_inverse=True)
    group = np.cumsum(groups.first)
    top = np.maximum.accumulate(group * len(ranks) + rank) - group * len(ranks)
    newest: Ints = before_each(groups, ranks[top], np.full(len(time), NEVER))
    return np.maximum(newest, carried)
