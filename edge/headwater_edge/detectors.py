"""All rule detectors over all series: what a tick's readings, and the passing of time, begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detector import Detector
from headwater_edge.jumps import Jumps
from headwater_edge.limits import Limits
from headwater_edge.missing import Missing
from headwater_edge.rates import Rates
from headwater_edge.rules import Change, LimitRule, MoreRules
from headwater_edge.stuck import Stuck

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Detectors:
    """One detector a kind; a kind without rules costs nothing."""

    def __init__(self, limits: Sequence[LimitRule], more: MoreRules) -> None:
        self.limits = Limits([*limits, *more.ranges])
        self.rates = Rates(more.rates)
        self.stuck = Stuck(more.stuck)
        self.missing = Missing(more.missing)
        self.jumps = Jumps(more.jumps)

    @property
    def by_kind(self) -> dict[str, Detector[Any]]:
        """Each detector by the name of its kind."""
        return {
            "limits": self.limits,
            "rates": self.rates,
            "stuck": self.stuck,
            "missing": self.missing,
            "jumps": self.jumps,
        }

    @property
    def _used(self) -> list[Detector[Any]]:
        return [one for one in self.by_kind.values() if one.rules]

    def grow(self, names: Sequence[str]) -> None:
        """Make room for all series called so; those known before come first."""
        for one in self._used:
            one.grow(names)

    def silences(self, series: Ints) -> list[Change]:
        """Return the ends of the silences of series that were told, for these are let go."""
        missing = self.missing
        return missing.ends(np.flatnonzero(missing.active & np.isin(missing.series, series)))

    def let_go(self, series: Ints) -> None:
        """Forget series."""
        for one in self._used:
            one.let_go(series)

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Series have numbers of such as were let go."""
        for one in self._used:
            one.take_up(numbers, names)

    def busy(self) -> Ints:
        """Return the series that cannot be let go, for a rule watches them."""
        return np.concatenate([one.busy() for one in self.by_kind.values()])

    def run(self, series: NDArray[np.int32], event: Ints, value: Floats, mono_us: int) -> list[Change]:
        """Judge a tick's accepted readings.

        Args:
            series, event, value: in the order of arrival; shape (n,).
            mono_us: of the tick.

        Returns:
            what changed, in the order of arrival.
        """
        changes: list[Change] = []
        for one in (self.limits, self.rates, self.stuck, self.jumps):
            if one.rules:
                changes += one.run(series, event, value)
        if self.missing.rules:
            changes += self.missing.run(series, event, mono_us)
        changes.sort(key=_reading)
        return changes

    def passed(self, mono_us: int, waiting: NDArray[np.int32]) -> list[Change]:
        """Look at what time alone shows; see `Missing.passed`."""
        return self.missing.passed(mono_us, waiting)

    def is_due(self, mono_us: int) -> bool:
        """Tell whether `passed` would find something."""
        return self.missing.is_due(mono_us)

    def turns(self, series: NDArray[np.int32], value: Floats) -> bool:
        """Tell whether some reading may begin or end an anomaly that cannot wait for the end of a tick."""
        return self.limits.turns(series, value)

    def followed_by(self, limits: Sequence[LimitRule], more: MoreRules, names: Sequence[str]) -> Detectors:
        """Return other rules over the same series; what a rule of the same kind and name knows of a series stays."""
        after = Detectors(limits, more)
        for name, one in after.by_kind.items():
            setattr(after, name, self.by_kind[name].followed_by(one.rules, names))
        return after

    def orphans(self, limits: Sequence[LimitRule], more: MoreRules, names: Sequence[str]) -> list[Change]:
        """Return the ends of what is broken now and would not be watched under other rules."""
        after = Detectors(limits, more).by_kind
        return [
            orphan for name, one in self.by_kind.items() for orphan in one.orphans(after[name].rules, names)
        ]

    def start(self, away_us: int) -> None:
        """The agent starts, and was away so long; see `Missing.start`."""
        self.missing.start(away_us)

    def watch(self, newest: Ints, mono_us: int) -> None:
        """Rules are new; see `Missing.watch`."""
        if self.missing.rules:
            self.missing.watch(newest, mono_us)

    def set_back(self, newest: Ints) -> None:
        """Our clock was corrected backwards: no reading is newer than these times, by series (R8)."""
        for one in (self.rates, self.stuck, self.missing, self.jumps):
            if one.rules:
                one.set_back(newest)

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot; none of kinds without rules."""
        return {
            f"{kind}.{name}": column
            for kind, one in self.by_kind.items()
            if one.rules
            for name, column in one.dump().items()
        }

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot; the series are known."""
        for kind, one in self.by_kind.items():
            start = kind + "."
            one.load({n.removeprefix(start): c for n, c in columns.items() if n.startswith(start)})

    def load_dense(self, active: NDArray[np.bool_], begin: Ints) -> None:
        """Take up what snapshots of format 2 and before hold: matrices (rule, series) of limits."""
        one = self.limits
        if len(one.rule):
            one.active[:], one.begin[:] = active[one.rule, one.series], begin[one.rule, one.series]


def _reading(change: Change) -> int:
    return change.reading
