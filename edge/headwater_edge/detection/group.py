"""The detectors of one rule that look at the same rows: all series that the rule is for, or all devices by the same metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.ensemble import Ensemble, Judged
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.recent import NEVER
from headwater_edge.ring import group_starts


class Turn(NamedTuple):
    """An alarm began or ended in a row."""

    series: int
    """As the rule numbers its series: that of the row, or of the metric of a device that is most to blame."""
    begins: bool
    begin_us: int
    time_us: int
    value: float
    words: list[str]
    """What each detector says; when it begins."""
    tails: list[float]
    degree: float


class Group:
    """An ensemble, and when what is on in each row began."""

    KEPT = ("begin", "blamed", "value", "windows")

    def __init__(self, detectors: Sequence[Detector], metrics: Sequence[str] = ()) -> None:
        """Make one over series, or, if metrics are named, over devices."""
        self.ensemble = Ensemble(detectors)
        self.metrics = list(metrics)
        self.begin: Ints = np.zeros(0, np.int64)
        self.blamed: Ints = np.zeros(0, np.int64)
        self.value: Floats = np.zeros(0, np.float64)
        """Of the blamed series, in the last window that began or ended something and had it."""
        self.windows: Ints = np.zeros(0, np.int64)
        """How many were judged."""
        self.latest: Floats = np.zeros((0, len(self.ensemble.detectors)), np.float64)
        """What each detector said of the latest window, -log10 of a probability; to be shown only, and in no snapshot."""
        self.names: list[str] = []
        """What each row is of: a series, or a device."""

    def grow(self, rows: int, names: Sequence[str]) -> None:
        """Make room for so many rows, that are called so."""
        more = rows - len(self.begin)
        self.names = list(names)
        if more > 0:
            self.begin = np.append(self.begin, np.zeros(more, np.int64))
            self.blamed = np.append(self.blamed, np.zeros(more, np.int64))
            self.value = np.append(self.value, np.zeros(more))
            self.latest = np.concatenate([self.latest, np.full((more, self.latest.shape[1]), np.nan)])
            self.windows = np.append(self.windows, np.zeros(more, np.int64))
        self.ensemble.grow(rows, names)

    def forget(self, rows: Ints) -> None:
        """Make rows blank."""
        self.latest[rows] = np.nan
        self.begin[rows] = self.blamed[rows] = self.value[rows] = self.windows[rows] = 0
        self.ensemble.forget(rows)

    def judge(self, points: Points, series: Ints) -> Iterator[Turn]:
        """Judge windows; `series` of each, shape (n,), or (n, m) for devices: whom an alarm is about."""
        self.windows[points.row] += 1
        judged = self.ensemble.judge(points)
        self.latest[points.row] = judged.tails
        fused = judged.fused
        for at in np.flatnonzero(fused.begins | fused.ends).tolist():
            row = int(points.row[at])
            if fused.begins[at]:
                self.begin[row], self.blamed[row] = points.start[at], self._blamed(judged, points, at, series)
            which = int(self.blamed[row])
            value = np.atleast_1d(points.value[at])[np.atleast_1d(series[at]) == which]
            if len(value) and np.isfinite(value[0]):
                self.value[row] = value[0]
            yield Turn(
                which, bool(fused.begins[at]), int(self.begin[row]), int(points.start[at]) + points.length_us,
                float(self.value[row]), judged.words.get(at, []), judged.tails[at].tolist(), float(fused.degree[at]),
            )  # fmt: skip

    def _blamed(self, judged: Judged, points: Points, at: int, series: Ints) -> int:
        """Return the series that an alarm is about."""
        if series.ndim == 1:
            return int(series[at])
        tails = np.where(np.isfinite(judged.tails[at]), judged.tails[at], -1.0)
        column = self.ensemble.detectors[int(tails.argmax())].blames(points, at)
        if series[at, column] < 0:  # a metric that this device does not have
            column = int(np.flatnonzero(series[at] >= 0)[0])
        return int(series[at, column])

    @property
    def on(self) -> NDArray[np.bool_]:
        """Rows in which an alarm goes on."""
        return self.ensemble.fuse.on

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot."""
        return {name: getattr(self, name).copy() for name in self.KEPT} | {
            f"of.{name}": column for name, column in self.ensemble.dump().items()
        }

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot.

        Raises:
            ValueError: they are of other detectors.
        """
        self.ensemble.load({n.removeprefix("of."): c for n, c in columns.items() if n.startswith("of.")})
        for name in self.KEPT:
            setattr(self, name, columns[name].copy())


class Devices:
    """Windows of the metrics of a device, put side by side."""

    KEPT = ("number", "series", "last")

    def __init__(self, metrics: Sequence[str]) -> None:
        self.metrics = list(metrics)
        self.number: Ints = np.zeros(0, np.int64)
        """Of the device, by row."""
        self.series: Ints = np.zeros((0, len(metrics)), np.int64)
        """The rule's rows of its metrics, -1 for none; shape (rows, m)."""
        self.last: Ints = np.zeros(0, np.int64)
        """Start of the window that was judged last."""
        self.names: list[str] = []
        """site/device of each."""
        self._row: dict[str, int] = {}
        self._place: Ints = np.zeros((0, 2), np.int64)
        """By row of the rule: row here and column; -1 for none."""

    def rows_of(self, series: Ints) -> Ints:
        """Return the rows here of rows of the rule; those that have none are left out."""
        rows = np.unique(self._place[series, 0])
        return rows[rows >= 0]

    def grow(self, device: Ints, names: Sequence[str]) -> None:
        """Take further rows of the rule in: their devices, and what they are called; those known before come first."""
        known = len(self._place)
        if len(device) > known:
            self._place = np.concatenate([self._place, np.full((len(device) - known, 2), -1)])
        for row in range(known, len(device)):
            self.put(row, int(device[row]), names[row])

    def put(self, row: int, device: int, name: str) -> None:
        """Take a row of the rule in: its device, and what it is called."""
        of, _, metric = name.rpartition("/")
        if row >= len(self._place) or metric not in self.metrics:
            return
        at = self._row.get(of)
        if at is None:
            free = np.flatnonzero(self.number < 0)
            at = self._row[of] = int(free[0]) if len(free) else len(self.number)
            if at == len(self.number):
                self.number, self.last = np.append(self.number, -1), np.append(self.last, NEVER)
                self.names.append("")
                self.series = np.concatenate([self.series, np.full((1, len(self.metrics)), -1)])
            self.number[at], self.names[at] = device, of
        column = self.metrics.index(metric)
        self.series[at, column] = row
        self._place[row] = at, column

    def let_go(self, rows: Ints) -> Ints:
        """Forget rows of the rule; return the rows here of devices that went with their last one."""
        gone = []
        for row in rows.tolist():
            at, column = self._place[row].tolist()
            if at < 0:
                continue
            self._place[row], self.series[at, column] = -1, -1
            if bool((self.series[at] < 0).all()):
                gone.append(at)
                del self._row[self.names[at]]
                self.names[at], self.number[at], self.last[at] = "", -1, NEVER
        return np.array(gone, np.int64)

    def number_anew(self, device: Ints) -> None:
        """Devices have other numbers; by row of the rule."""
        at, column = np.nonzero(self.series >= 0)
        self.number[at] = device[self.series[at, column]]

    def seat(self, series: NDArray[Any], device: Ints, names: Sequence[str]) -> None:
        """Give each device the row that it had, as a snapshot says."""
        self.series = series.copy()
        self.number, self.last = np.full(len(series), -1), np.full(len(series), NEVER)
        self._place = np.full((len(device), 2), -1)
        self.names = [""] * len(series)
        at, column = np.nonzero(series >= 0)
        self._place[series[at, column]] = np.stack([at, column], axis=1)
        for one, row in zip(at.tolist(), series[at, column].tolist(), strict=True):
            self.names[one] = names[row].rpartition("/")[0]
        self._row = {name: one for one, name in enumerate(self.names) if name}
        self.number_anew(device)

    def rounds(self, points: Points) -> Iterator[Points]:
        """Yield the points of devices, each device once a round, in the order of starts.

        Args:
            points: of the rule's rows, in the order of row and start.
        """
        row, column = self._place[points.row].T
        (at,) = np.nonzero((row >= 0) & (points.start > self.last[row]))
        if not len(at):
            return
        at = at[np.lexsort((points.start[at], row[at]))]
        row, column, start = row[at], column[at], points.start[at]
        first = group_starts(row, start)
        group = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(row))))
        m = len(self.metrics)

        def beside(values: NDArray[Any], blank: float) -> NDArray[Any]:
            out = np.full((len(first), m), blank, values.dtype)
            out[group, column] = values[at]
            return out

        whole = Points(
            row[first], self.number[row[first]], start[first],
            beside(points.value, np.nan), beside(points.low, np.nan), beside(points.high, np.nan),
            beside(points.spread, np.nan), beside(points.count, 0), points.length_us,
        )  # fmt: skip
        np.maximum.at(self.last, row, start)
        for some in whole.rounds():
            yield whole.take(some)
