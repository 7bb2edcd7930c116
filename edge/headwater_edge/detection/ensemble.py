"""Several detectors over the same rows: each scores, a tail makes probabilities of its scores, they are fused, and all learn.

A detector that raises, or gives no finite number, is set aside: for the row, if it knows which, else for the rows of the
call. It forgets them, and learns them anew when their time is over; the others go on (R12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headwater_edge.detection.aside import FAILED, SLOW, Aside, Stopped
from headwater_edge.detection.degree import Degree
from headwater_edge.detection.detector import Detector
from headwater_edge.detection.fuse import Fuse, Fused
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.slow import Stopwatch
from headwater_edge.detection.tail import Tails


@dataclass(slots=True)
class Judged:
    """What an ensemble says of n points."""

    tails: Floats
    """-log10 of each detector's tail probability, NaN where it says nothing; shape (n, k)."""
    fused: Fused
    words: dict[int, list[str]]
    """By point at which an alarm begins, what each detector says, in their order."""
    stopped: list[Stopped] = field(default_factory=list)
    """Rows for which a detector was set aside just now; here the reason is said in full."""


class Ensemble:
    """k detectors, their tails, and what fuses them."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = list(detectors)
        self.tails = [Tails() for _ in self.detectors]
        self.fuse = Fuse()
        self.degree = Degree()
        self.aside = [Aside() for _ in self.detectors]
        self.stopwatch: Stopwatch | None = None
        """Measures, if the agent has put one here; nothing that is judged depends on it."""

    @property
    def parts(self) -> list[Detector]:
        """All that remembers something of rows."""
        return [*self.detectors, *self.tails, self.fuse, self.degree, *self.aside]

    def judge(self, points: Points) -> Judged:
        """Score, fuse, then learn; the same points in the same order give the same, to the last bit."""
        tails = np.full((len(points), len(self.detectors)), np.nan)
        stopped: list[Stopped] = []
        asked = [self._asked(at, points) for at in range(len(self.detectors))]
        spans: list[list[int]] = []
        for at, (mask, some) in enumerate(asked):
            score, took = self._score(at, some)
            spans.append(took)
            kept = self._set_failures_aside(at, some, stopped)
            if kept is not None:
                score[~kept] = np.nan
            found = self.tails[at].of(some.row, score)
            self.tails[at].take(some.row, score)
            if mask is None:
                tails[:, at] = found
            else:
                tails[mask, at] = found
            if kept is not None:
                asked[at] = mask, some.take(kept)
        fused = self.fuse.fuse(points, tails)
        fused.degree = self.degree.take(points, fused.rarity)
        words = {
            at: [self._words(k, points.row[at], some) for k, (_, some) in enumerate(asked)]
            for at in np.flatnonzero(fused.begins).tolist()
        }
        for at, (_, some) in enumerate(asked):
            took = [0] * len(spans[at])
            if not self.detectors[at].LEARNS_AS_IT_SCORES:
                took = self._timed(at, some, lambda detector, part: detector.learn(part))
            self._set_failures_aside(at, some, stopped)
            if self.stopwatch is not None and len(some) and len(took) == len(spans[at]) in {1, len(some)}:
                self.stopwatch.took(at, some.row, [a + b for a, b in zip(took, spans[at], strict=True)])
        return Judged(tails, fused, words, stopped)

    def set_aside(self, detector: str, rows: Ints, since_us: int) -> None:
        """A detector is slow for these rows, as an event says; `since_us` is the time of that."""
        for at, one in enumerate(self.detectors):
            if one.name == detector:
                self.aside[at].put(rows, SLOW, since_us)
                one.forget(rows)

    def stopped(self) -> list[Stopped]:
        """Return all rows for which a detector is set aside now."""
        return [each for at, one in enumerate(self.detectors) for each in self.aside[at].told(one.name)]

    def _asked(self, at: int, points: Points) -> tuple[Any, Points]:
        mask = self.aside[at].passes(points.row)
        return mask, points if mask is None else points.take(mask)

    def _score(self, at: int, points: Points) -> tuple[Floats, list[int]]:
        scores: list[Floats] = [np.zeros(0)]

        def score(detector: Detector, part: Points) -> None:
            scores.append(np.full(len(part), np.nan))
            scores[-1] = np.array(
                detector.score(part), np.float64
            )  # a copy: what is kept may be a view of its state

        took = self._timed(at, points, score)
        found = np.concatenate(scores)
        for each in np.flatnonzero(np.isinf(found)).tolist():
            self.detectors[at].failures.setdefault(int(points.row[each]), "its score is not finite")
        return found, took

    def _timed(self, at: int, points: Points, call: Callable[[Detector, Points], None]) -> list[int]:
        """Call a detector, row by row if it is to be measured closely; return the ns of each call."""
        detector, watch = self.detectors[at], self.stopwatch
        if not len(points):
            return []
        by_row = watch is not None and detector.ONE_BY_ONE and watch.closely(at)
        parts = [points.take([one]) for one in range(len(points))] if by_row else [points]
        spans = []
        for part in parts:
            began = watch.now() if watch is not None else 0
            try:
                call(detector, part)
            except Exception as error:  # noqa: BLE001 - whatever a detector does, the others go on
                detector.failures |= dict.fromkeys(
                    part.row.tolist(), f"it raised {type(error).__name__}: {error}"
                )
            spans.append(watch.now() - began if watch is not None else 0)
        return spans

    def _set_failures_aside(self, at: int, points: Points, stopped: list[Stopped]) -> Any:
        """Set rows aside for which the detector failed just now; return a mask of the others, None if all are."""
        detector = self.detectors[at]
        if not detector.failures:
            return None
        failures, detector.failures = detector.failures, {}
        failed = np.isin(points.row, list(failures))
        rows, since = points.row[failed], points.start[failed]
        self.aside[at].put(rows, FAILED, since)
        detector.forget(rows)
        for row, since_us in zip(rows.tolist(), since.tolist(), strict=True):
            left = int(self.aside[at].left[row])
            stopped.append(Stopped(row, detector.name, failures[row], since_us, left))
        return ~failed

    def _words(self, at: int, row: int, asked: Points) -> str:
        (place,) = np.nonzero(asked.row == row)
        if not len(place):
            return f"{self.detectors[at].name} is set aside"
        try:
            return self.detectors[at].words(asked, int(place[0]))
        except Exception as error:  # noqa: BLE001 - a reason that cannot be said is no reason to stop
            return f"{self.detectors[at].name} ({type(error).__name__} in its words)"

    def grow(self, rows: int, names: Sequence[str] = ()) -> None:
        """Make room for so many rows, and say what they are of; names of before stay in their places."""
        for detector in self.detectors:
            detector.names = list(names)
        for part in self.parts:
            part.grow(rows)

    def forget(self, rows: Ints) -> None:
        """Make rows blank."""
        for part in self.parts:
            part.forget(rows)

    def dump(self) -> dict[str, Any]:
        """Return the columns of all for a snapshot, and models as they are now (`models.Cut`)."""
        return {
            f"{at}.{name}": column
            for at, part in enumerate(self.parts)
            for name, column in part.dump().items()
        }

    def load(self, columns: dict[str, Any]) -> None:
        """Take up the columns of a snapshot.

        Raises:
            ValueError: they are of other detectors.
        """
        for at, part in enumerate(self.parts):
            start = f"{at}."
            part.load({name.removeprefix(start): c for name, c in columns.items() if name.startswith(start)})
