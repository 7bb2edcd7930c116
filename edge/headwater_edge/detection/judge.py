"""One rule of detection: its series as rows, what is judged of them, and what begins and ends."""

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
from headwater_edge.detection.windows import Judgeable, Windows
from headwater_edge.events import DetectorSlow
from headwater_edge.fine import Rows
from headwater_edge.patterns_of_rules import Patterns
from headwater_edge.recent import NEVER
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
        ours = [at for at in range(known, len(names)) if names[at] and self._patterns.of(names[at])]
        row = np.full(len(names) - known, -1)
        row[np.array(ours, np.int64) - known] = np.arange(len(self.series), len(self.series) + len(ours))
        self.row = np.append(self.row, row)
        self.series = np.append(self.series, np.array(ours, np.int64))
        self.device = np.append(self.device, device[ours])
        self._names += [names[at] for at in ours]
        self._make_room()

    def _make_room(self) -> None:
        self.windows.grow(len(self.series))
        if self.alone.ensemble.detectors:
            self.alone.grow(len(self.series), self._names)
        for devices, group in self.whole:
            devices.grow(self.device, self._names)
            group.grow(len(devices.number), devices.names)

    def let_go(self, series: Ints) -> None:
        """Forget series: their rows are blank, and free for others."""
        rows = self.row[series]
        rows = rows[rows >= 0]
        self.windows.forget(rows)
        if self.alone.ensemble.detectors:
            self.alone.forget(rows)
        for devices, group in self.whole:
            group.forget(devices.let_go(rows))
        self.row[series] = -1
        self.series[rows] = -1
        for row in rows.tolist():
            self._names[row] = ""
        self._make_room()  # which tells detectors what rows are of

    def take_up(self, numbers: Sequence[int], names: Sequence[str], device: Ints) -> None:
        """Look which series are of this rule that have numbers of such as were let go."""
        ours = [number for number in numbers if self._patterns.of(names[number])]
        if not ours:
            return
        free = np.flatnonzero(self.series < 0)[: len(ours)]
        more = len(ours) - len(free)
        rows = np.append(free, len(self.series) + np.arange(more))
        self.series = np.append(self.series, np.full(more, -1))
        self.device = np.append(self.device, np.zeros(more, np.int64))
        self._names += [""] * more
        self.series[rows], self.row[ours], self.device[rows] = ours, rows, device[ours]
        for row, number in zip(rows.tolist(), ours, strict=True):
            self._names[row] = names[number]
        for devices, _ in self.whole:
            for row in free.tolist():
                devices.put(row, int(self.device[row]), self._names[row])
        self._make_room()

    def number_devices(self, device: Ints) -> None:
        """Devices have other numbers; by series."""
        self.device = device[self.series]
        for devices, _ in self.whole:
            devices.number_anew(self.device)

    def busy(self) -> Iterator[Ints]:
        """Yield the series of which a window waits to be judged."""
        yield self.series[self.windows.held > NEVER]

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
                names = [self._names[one] for one in of if self._names[one]]
                yield DetectorSlow(self.rule.name, name, names)

    def over(self, text: str, of: Ints | None = None) -> Iterator[Found]:
        """Yield the ends of what is on now, of these series or of all: nobody watches any more."""
        for group in self.groups:
            for row in np.flatnonzero(group.on).tolist():
                if of is not None and self.series[group.blamed[row]] not in of:
                    continue
                series, begin_us = int(self.series[group.blamed[row]]), int(group.begin[row])
                yield Found(
                    self.rule, series, False, begin_us, begin_us, float(group.value[row]), text, [], 0.0
                )

    @property
    def groups(self) -> list[Group]:
        """That of series, and those of devices."""
        return [self.alone, *(group for _, group in self.whole)]

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot; which series have rows follows from rule and names, but not always which rows."""
        columns = {f"windows.{name}": column for name, column in self.windows.dump().items()}
        for at, group in enumerate(self.groups):
            columns |= {f"{at}.{name}": column for name, column in group.dump().items()}
        for at, (devices, _) in enumerate(self.whole):
            columns[f"devices{at}.last"] = devices.last.copy()
            columns[f"devices{at}.series"] = devices.series.copy()
        return columns | {"series": self.series.copy()}

    def load(self, columns: Mapping[str, NDArray[Any]], names: Sequence[str], device: Ints) -> None:
        """Take up the columns of a snapshot; the series are known.

        Raises:
            ValueError, KeyError: they are of other detectors.
        """
        if "series" in columns:  # which was not always there
            self._seat(columns, names, device)
        self.windows.load(under("windows", columns))
        for at, group in enumerate(self.groups):
            group.load(under(str(at), columns))
        for at, (devices, _) in enumerate(self.whole):
            devices.last = columns[f"devices{at}.last"].copy()

    def _seat(self, columns: Mapping[str, NDArray[Any]], names: Sequence[str], device: Ints) -> None:
        """Give each series the row that it had."""
        self.series = columns["series"].copy()
        (used,) = np.nonzero(self.series >= 0)
        self.row[:] = -1
        self.row[self.series[used]] = used
        self.device = device[self.series]
        self._names = [names[one] if one >= 0 else "" for one in self.series.tolist()]
        for at, (devices, group) in enumerate(self.whole):
            devices.seat(columns[f"devices{at}.series"], self.device, self._names)
            group.grow(len(devices.number), devices.names)
        self._make_room()


def under(name: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start = name + "."
    return {n.removeprefix(start): column for n, column in columns.items() if n.startswith(start)}
