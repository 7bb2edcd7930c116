"""All rules of detection over all series: what the windows that a tick closes begin and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.gone import made_or_gone
from headwater_edge.detection.group import Devices, Group, Turn
from headwater_edge.detection.points import Ints
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.slow import Stopwatch
from headwater_edge.detection.specs import words
from headwater_edge.detection.windows import Judgeable, Windows
from headwater_edge.events import DetectorSlow
from headwater_edge.fine import Rows
from headwater_edge.patterns_of_rules import Patterns
from headwater_edge.ring import Panes
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import level_of

_NONE = np.zeros(0, np.int64)
_NO_PANES = Panes(_NONE, _NONE, _NONE, _NONE, _NONE, np.zeros(0, np.uint8))
_TOLD = 3
"""So many detectors give a reason."""
_SHARE = 0.5
"""... those whose tail is at least such a share of the rarest."""


class Found(NamedTuple):
    """An alarm of a rule began or ended in a series."""

    rule: DetectRule
    series: int
    begins: bool
    begin_us: int
    """Start of the window in which it began."""
    time_us: int
    """End of the window that showed this."""
    value: float
    """The window's mean; that of its begin, if the series had none in this window."""
    text: str
    """The reason."""
    scores: list[tuple[str, float]]
    """Detectors and -log10 of their tail probabilities."""
    degree: float


class Judge:
    """One rule: its series are rows, in the order of their numbers."""

    def __init__(self, rule: DetectRule) -> None:
        self.rule = rule
        detectors = [one for spec in rule.detectors for one in made_or_gone(spec)]
        self.windows = Windows(level_of(rule.level).length_us)
        self.series: Ints = np.zeros(0, np.int64)
        """Number of each row's series."""
        self.row: Ints = np.zeros(0, np.int64)
        """Row of each series, -1 for none."""
        self.device: Ints = np.zeros(0, np.int64)
        self.alone = Group([one for one in detectors if not one.WHOLE_DEVICES])
        by_metrics: dict[tuple[str, ...], list[Any]] = {}
        for one in detectors:
            if one.WHOLE_DEVICES:
                by_metrics.setdefault(tuple(one.metrics), []).append(one)
        self.whole = [(Devices(metrics), Group(some, metrics)) for metrics, some in by_metrics.items()]
        self._patterns = Patterns([rule.series])
        self._names: list[str] = []

    def grow(self, names: Sequence[str], device: Ints) -> None:
        """Make room for all series called so; `device` by series."""
        known = len(self.row)
        if len(names) == known:
            return
        ours = [at for at in range(known, len(names)) if self._patterns.of(names[at])]
        row = np.full(len(names) - known, -1)
        row[np.array(ours, np.int64) - known] = np.arange(len(self.series), len(self.series) + len(ours))
        self.row = np.append(self.row, row)
        self.series = np.append(self.series, np.array(ours, np.int64))
        self.device = np.append(self.device, device[ours])
        self._names += [names[at] for at in ours]
        self.windows.grow(len(self.series))
        if self.alone.ensemble.detectors:
            self.alone.grow(len(self.series), self._names)
        for devices, group in self.whole:
            devices.grow(self.device, self._names)
            group.grow(len(devices.number), devices.names)

    def take(self, some: Sequence[Rows], mark: Ints, *, sealed: bool) -> Iterator[Found]:
        """Judge what a tick closed at this rule's level, and what has waited; see `Windows.take`. `mark` by series."""
        if not some and not self.is_due(mark):
            return
        panes = Panes.concatenate([rows.panes for rows in some]) if some else _NO_PANES
        aggregates = Aggregates.concatenate([rows.aggregates for rows in some] or [Aggregates.empty(0)])
        row = self.row[panes.series]
        windows = self.windows.take(row, panes, aggregates, mark[self.series], sealed=sealed)
        yield from self._judge(windows)

    def is_due(self, mark: Ints) -> bool:
        """Tell whether a window that waits is over; `mark` by series."""
        return self.windows.is_due(mark[self.series])

    def _judge(self, windows: Judgeable) -> Iterator[Found]:
        if not len(windows.row):
            return
        points = windows.points(self.device, self.windows.length_us)
        if self.alone.ensemble.detectors:
            for at in points.rounds():
                some = points.take(at)
                for turn in self.alone.judge(some, some.row):
                    yield self._found(turn, self.alone)
        for devices, group in self.whole:
            for some in devices.rounds(points):
                for turn in group.judge(some, devices.series[some.row]):
                    yield self._found(turn, group)

    def _found(self, turn: Turn, group: Group) -> Found:
        names = [one.name for one in group.ensemble.detectors]
        tails = np.array(turn.tails)
        scores = [
            (name, float(tail)) for name, tail in zip(names, turn.tails, strict=True) if np.isfinite(tail)
        ]
        told: list[str] = []
        if turn.words:
            known = np.where(np.isfinite(tails), tails, -1.0)
            order = np.argsort(-known, kind="stable")[:_TOLD]
            told = [turn.words[at] for at in order.tolist() if known[at] >= _SHARE * known.max()]
        return Found(
            self.rule, int(self.series[turn.series]), turn.begins, turn.begin_us, turn.time_us, turn.value,
            "; ".join(dict.fromkeys(told)), scores, turn.degree,
        )  # fmt: skip

    def set_aside(self, detector: str, names: Sequence[str], now_us: int) -> None:
        """A detector is slow for these series."""
        row = {name: at for at, name in enumerate(self._names)}
        rows = np.array(sorted({row[name] for name in names if name in row}), np.int64)
        self.alone.ensemble.set_aside(detector, rows, now_us)
        for devices, group in self.whole:
            group.ensemble.set_aside(detector, devices.rows_of(rows), now_us)

    def watch(self, clock_ns: Callable[[], int]) -> None:
        """Measure how long detectors take; nothing that is judged depends on it."""
        for group in self.groups:
            if group.ensemble.stopwatch is None:
                group.ensemble.stopwatch = Stopwatch(len(group.ensemble.detectors), clock_ns)

    def slow(self) -> Iterator[DetectorSlow]:
        """Yield what was found slow since the last call: an event of the next tick each."""
        for group, rows_of in [(self.alone, None), *((group, devices) for devices, group in self.whole)]:
            for at, rows in group.ensemble.stopwatch.drain() if group.ensemble.stopwatch else ():
                of = rows if rows_of is None else [s for s in rows_of.series[rows].ravel().tolist() if s >= 0]
                name = group.ensemble.detectors[at].name
                yield DetectorSlow(self.rule.name, name, [self._names[one] for one in of])

    def over(self, text: str) -> Iterator[Found]:
        """Yield the ends of what is on now: nobody watches any more."""
        for group in self.groups:
            for row in np.flatnonzero(group.on).tolist():
                series, begin_us = int(self.series[group.blamed[row]]), int(group.begin[row])
                yield Found(
                    self.rule, series, False, begin_us, begin_us, float(group.value[row]), text, [], 0.0
                )

    @property
    def groups(self) -> list[Group]:
        """That of series, and those of devices."""
        return [self.alone, *(group for _, group in self.whole)]

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot; which series have rows follows from rule and names."""
        columns = {f"windows.{name}": column for name, column in self.windows.dump().items()}
        for at, group in enumerate(self.groups):
            columns |= {f"{at}.{name}": column for name, column in group.dump().items()}
        for at, (devices, _) in enumerate(self.whole):
            columns[f"devices{at}.last"] = devices.last.copy()
        return columns

    def load(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot; the series are known.

        Raises:
            ValueError, KeyError: they are of other detectors.
        """
        self.windows.load(_under("windows", columns))
        for at, group in enumerate(self.groups):
            group.load(_under(str(at), columns))
        for at, (devices, _) in enumerate(self.whole):
            devices.last = columns[f"devices{at}.last"].copy()


class Detection:
    """One judge a rule."""

    def __init__(self, rules: Sequence[DetectRule]) -> None:
        self.judges = [Judge(rule) for rule in rules]
        self._clock_ns: Callable[[], int] | None = None

    def watch(self, clock_ns: Callable[[], int] | None) -> None:
        """Measure from now on how long detectors take, those of later settings, too."""
        self._clock_ns = clock_ns
        if clock_ns is not None:
            for judge in self.judges:
                judge.watch(clock_ns)

    def slow(self) -> list[DetectorSlow]:
        """Return what was found slow since the last call."""
        return [event for judge in self.judges for event in judge.slow()]

    def set_aside(self, event: DetectorSlow, now_us: int) -> None:
        """A detector is slow, as was measured beside the step."""
        for judge in self.judges:
            if judge.rule.name == event.detect:
                judge.set_aside(event.detector, event.series, now_us)

    def grow(self, names: Sequence[str], device: Ints) -> None:
        """Make room for all series called so; those known before come first."""
        for judge in self.judges:
            judge.grow(names, device)

    def take(self, closed: Mapping[str, Sequence[Rows]], mark: Ints, *, sealed: bool = False) -> list[Found]:
        """Judge windows.

        Args:
            closed: by the name of their level, what a tick closed.
            mark: watermark by series.
            sealed: a start, or other settings, closed them before their end.

        Returns:
            what began and ended, rule by rule.
        """
        return [
            found for judge in self.judges
            for found in judge.take(closed.get(judge.rule.level, ()), mark, sealed=sealed)
        ]  # fmt: skip

    def is_due(self, mark: Ints) -> bool:
        """Tell whether the passing of time alone lets a window be judged."""
        return any(judge.is_due(mark) for judge in self.judges)

    def followed_by(self, rules: Sequence[DetectRule], names: Sequence[str], device: Ints) -> Detection:
        """Return other rules over the same series; of a rule that stays as it is, but for severity and text, all that is known stays."""
        after = Detection(rules)
        former = {_what_it_does(judge.rule): judge for judge in self.judges}
        for at, judge in enumerate(after.judges):
            if (known := former.get(_what_it_does(judge.rule))) is not None:
                known.rule = judge.rule
                after.judges[at] = known
        after.grow(names, device)
        after.watch(self._clock_ns)
        return after

    def orphans(self, rules: Sequence[DetectRule]) -> list[Found]:
        """Return the ends of what is on now and would not be watched under other rules."""
        stay = {_what_it_does(rule) for rule in rules}
        gone = [judge for judge in self.judges if _what_it_does(judge.rule) not in stay]
        return [end for judge in gone for end in judge.over("the rule is gone")]

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot."""
        return {
            f"{at}.{n}": column for at, judge in enumerate(self.judges) for n, column in judge.dump().items()
        }

    def load(self, columns: Mapping[str, NDArray[Any]], names: Sequence[str], device: Ints) -> list[str]:
        """Take up the columns of a snapshot; return the names of the rules that learn anew, for its columns are of other detectors."""
        anew = []
        for at, judge in enumerate(self.judges):
            mine = _under(str(at), columns)
            try:
                judge.load(mine)
            except (ValueError, KeyError):
                anew.append(judge.rule.name)
                self.judges[at] = Judge(judge.rule)
                self.judges[at].grow(names, device)
        return anew


def _what_it_does(rule: DetectRule) -> tuple[str, ...]:
    return rule.name, rule.series, rule.level, *map(words, rule.detectors)


def _under(name: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start = name + "."
    return {n.removeprefix(start): column for n, column in columns.items() if n.startswith(start)}
