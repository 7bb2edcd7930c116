"""One rule of detection: its series are rows; what of them closes is judged, by series and by device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headwater_edge.detection.gone import made_or_gone
from headwater_edge.detection.group import Devices, Group, Turn
from headwater_edge.detection.points import Ints
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.slow import Stopwatch
from headwater_edge.detection.windows import Judgeable, Windows
from headwater_edge.events import DetectorSlow
from headwater_edge.fine import Rows
from headwater_edge.recent import NEVER
from headwater_edge.ring import Panes
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import level_of
from headwater_shared.series_patterns import Patterns

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
        """Number of each row's series, -1 where the row is free."""
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
        self.names: list[str] = []
        """Of each row's series, empty where the row is free."""

    def grow(self, names: Sequence[str], device: Ints) -> None:
        """Make room for all series called so, by number; `device` by series."""
        known = len(self.row)
        if len(names) > known:
            self.row = np.append(self.row, np.full(len(names) - known, -1))
            self.take_up(range(known, len(names)), names, device)

    def take_up(self, numbers: Iterable[int], names: Sequence[str], device: Ints) -> None:
        """Give rows to series that are new, some of them under numbers of such as were let go; `names` and `device` by number."""
        ours = [at for at in numbers if names[at] and self._patterns.of(names[at])]
        if ours:
            free = np.flatnonzero(self.series < 0)[: len(ours)]
            beyond = len(self.series) + np.arange(len(ours) - len(free))
            self._put(np.append(free, beyond), np.array(ours, np.int64), names)
            self.renumber(device)

    def _put(self, rows: Ints, numbers: Ints, names: Sequence[str], room: int = 0) -> None:
        """Give rows to series, and make what room that takes; `room` rows at least."""
        more = max(int(rows.max(initial=-1)) + 1, room) - len(self.series)
        if more > 0:
            self.series = np.append(self.series, np.full(more, -1))
            self.names += [""] * more
        self.series[rows], self.row[numbers] = numbers, rows
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
            self.names[row] = names[number]
        self.windows.grow(len(self.series))
        if self.alone.ensemble.detectors:
            self.alone.grow(len(self.series), self.names)
        for devices, group in self.whole:
            devices.put(rows, self.names)
            group.grow(len(devices.names), devices.names)

    def let_go(self, numbers: Ints) -> None:
        """Forget series."""
        rows = self.row[numbers]
        rows = rows[rows >= 0]
        self.row[numbers] = self.series[rows] = -1
        for row in rows.tolist():
            self.names[row] = ""
        self.windows.forget(rows)
        if self.alone.ensemble.detectors:
            self.alone.forget(rows)
            self.alone.grow(len(self.series), self.names)
        for devices, group in self.whole:
            group.forget(devices.let_go(rows))
            group.grow(len(devices.names), devices.names)

    def busy(self) -> Ints:
        """Return the series of which a window waits to be judged."""
        return self.series[self.windows.held > NEVER]

    def renumber(self, device: Ints) -> None:
        """Take up the numbers of devices, by series."""
        self.device = np.where(self.series >= 0, device[self.series], -1)

    def take(self, some: Sequence[Rows], mark: Ints, *, sealed: bool) -> Iterator[Found]:
        """Judge what a tick closed at this rule's level, and what has waited; see `Windows.take`. `mark` by series."""
        if not some and not self.is_due(mark):
            return
        panes = Panes.concatenate([rows.panes for rows in some]) if some else _NO_PANES
        aggregates = Aggregates.concatenate([rows.aggregates for rows in some] or [Aggregates.empty(0)])
        row = self.row[panes.series]
        windows = self.windows.take(row, panes, aggregates, self._by_row(mark), sealed=sealed)
        yield from self._judge(windows)

    def is_due(self, mark: Ints) -> bool:
        """Tell whether a window that waits is over; `mark` by series."""
        return self.windows.is_due(self._by_row(mark))

    def _by_row(self, mark: Ints) -> Ints:
        return np.where(self.series >= 0, mark[self.series], NEVER)

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
        row = {name: at for at, name in enumerate(self.names) if name}
        rows = np.array(sorted({row[name] for name in names if name in row}), np.int64)
        self.alone.ensemble.set_aside(detector, rows, now_us)
        for devices, group in self.whole:
            group.ensemble.set_aside(detector, devices.rows_of(rows), now_us)

    def failures(self) -> Iterator[str]:
        """Yield what failed in this tick, in words: one a detector and reason."""
        for group in self.groups:
            stopped, group.stopped = group.stopped, []
            by_reason: dict[tuple[str, str], list[int]] = {}
            for one in stopped:
                by_reason.setdefault((one.detector, one.why), []).append(one.row)
            for (detector, why), rows in by_reason.items():
                more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
                yield f"{detector} of {self.rule.name} is set aside for {group.names[rows[0]]}{more}: {why}"

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
                yield DetectorSlow(self.rule.name, name, [self.names[one] for one in of])

    def ends(self, text: str, numbers: Ints | None = None) -> Iterator[Found]:
        """Yield the ends of what is on now, of some series or of all: nobody watches any more."""
        for group in self.groups:
            for row in np.flatnonzero(group.on).tolist():
                series, begin_us = int(self.series[group.blamed[row]]), int(group.begin[row])
                if numbers is None or series in numbers:
                    yield Found(
                        self.rule, series, False, begin_us, begin_us, float(group.value[row]), text, [], 0.0
                    )

    @property
    def groups(self) -> list[Group]:
        """That of series, and those of devices."""
        return [self.alone, *(group for _, group in self.whole)]

    def dump(self) -> dict[str, Any]:
        """Return the columns for a snapshot."""
        columns: dict[str, Any] = {"series": self.series.copy()}
        columns |= {f"windows.{name}": column for name, column in self.windows.dump().items()}
        for at, group in enumerate(self.groups):
            columns |= {f"{at}.{name}": column for name, column in group.dump().items()}
        for at, (devices, _) in enumerate(self.whole):
            columns |= {
                f"devices{at}.series": devices.series.copy(),
                f"devices{at}.last": devices.last.copy(),
            }
        return columns

    def load(self, columns: Mapping[str, Any], names: Sequence[str], device: Ints) -> None:
        """Take up the columns of a snapshot, in which series of these names have numbers; nothing was known before.

        Raises:
            ValueError, KeyError: they are of other detectors.
        """
        series: Ints = columns["series"]
        self.row = np.full(len(names), -1)
        for at, (devices, _) in enumerate(self.whole):
            devices.load(
                columns[f"devices{at}.series"], columns[f"devices{at}.last"], [names[one] for one in series]
            )
        (rows,) = np.nonzero(series >= 0)
        self._put(rows, series[rows], names, len(series))
        self.renumber(device)
        self.windows.load(under("windows", columns))
        for at, group in enumerate(self.groups):
            group.load(under(str(at), columns))


def under(name: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns whose names begin so, without that."""
    start = name + "."
    return {n.removeprefix(start): column for n, column in columns.items() if n.startswith(start)}
