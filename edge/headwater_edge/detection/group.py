"""The detectors of one rule that look at the same rows: all series that the rule is for, or all devices by the same metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.aside import Stopped
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
        self.stopped: list[Stopped] = []
        """What was set aside in this tick; whoever tells of it takes it away."""
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
        self.begin[rows] = self.blamed[rows] = self.value[rows] = self.windows[rows] = 0
        self.ensemble.forget(rows)

    def judge(self, points: Points, series: Ints) -> Iterator[Turn]:
        """Judge windows; `series` of each, shape (n,), or (n, m) for devices: whom an alarm is about."""
        self.windows[points.row] += 1
        judged = self.ensemble.judge(points)
        self.stopped += judged.stopped
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
    """Windows of the metrics of a device, put side by side; a device is a row as long as it has one of them."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self.metrics = list(metrics)
        self.names: list[str] = []
        """site/device of each row, empty where it is free."""
        self.series: Ints = np.zeros((0, len(metrics)), np.int64)
        """The rule's rows of its metrics, -1 for none; shape (rows, m)."""
        self.last: Ints = np.zeros(0, np.int64)
        """Start of the window that was judged last."""
        self._row: dict[str, int] = {}
        self._place: Ints = np.zeros((0, 2), np.int64)
        """By row of the rule: row here and column; -1 for none."""

    def rows_of(self, series: Ints) -> Ints:
        """Return the rows here of rows of the rule; those that have none are left out."""
        rows = np.unique(self._place[series, 0])
        return rows[rows >= 0]

    def put(self, rows: Ints, names: Sequence[str]) -> None:
        """Take rows of the rule in, that are of these series; `names` by row, there may be more rows than these."""
        more = len(names) - len(self._place)
        self._place = np.concatenate([self._place, np.full((max(more, 0), 2), -1)])
        for row in rows.tolist():
            of, _, metric = names[row].rpartition("/")
            if metric in self.metrics:
                at, column = self._row_of(of), self.metrics.index(metric)
                self.series[at, column] = row
                self._place[row] = at, column

    def _row_of(self, device: str) -> int:
        if device not in self._row:
            free = "" in self.names
            row = self._row[device] = self.names.index("") if free else len(self.names)
            if not free:
                self.names.append("")
                self.last = np.append(self.last, NEVER)
                self.series = np.concatenate([self.series, np.full((1, len(self.metrics)), -1)])
            self.names[row] = device
        return self._row[device]

    def let_go(self, rows: Ints) -> Ints:
        """Forget rows of the rule; return the rows here of devices that have none left, and are forgotten, too."""
        places = self._place[rows]
        places = places[places[:, 0] >= 0]
        self.series[places[:, 0], places[:, 1]] = -1
        self._place[rows] = -1
        touched = np.unique(places[:, 0])
        gone = touched[(self.series[touched] < 0).all(axis=1)]
        for row in gone.tolist():
            del self._row[self.names[row]]
            self.names[row] = ""
        self.last[gone] = NEVER
        return gone

    def load(self, series: Ints, last: Ints, names: Sequence[str]) -> None:
        """Take up which device has which row, and what was judged last; `names` by row of the rule. `put` follows for all of them."""
        self.last = last.copy()
        self.series = np.full(series.shape, -1)
        for row in series.tolist():
            some = [names[one] for one in row if one >= 0]
            self.names.append(some[0].rpartition("/")[0] if some else "")
        self._row = {name: row for row, name in enumerate(self.names) if name}

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
            row[first], row[first], start[first],
            beside(points.value, np.nan), beside(points.low, np.nan), beside(points.high, np.nan),
            beside(points.spread, np.nan), beside(points.count, 0), points.length_us,
        )  # fmt: skip
        np.maximum.at(self.last, row, start)
        for some in whole.rounds():
            yield whole.take(some)
