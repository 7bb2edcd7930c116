"""Several detectors over the same rows: each scores, a tail makes probabilities of its scores, they are fused, and all learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.fuse import Fuse, Fused
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tail import Tails


@dataclass(slots=True)
class Judged:
    """What an ensemble says of n points."""

    tails: Floats
    """-log10 of each detector's tail probability, NaN where it says nothing; shape (n, k)."""
    fused: Fused
    words: dict[int, list[str]]
    """By point at which an alarm begins, what each detector says, in their order."""


class Ensemble:
    """k detectors, their tails, and what fuses them."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = list(detectors)
        self.tails = [Tails() for _ in self.detectors]
        self.fuse = Fuse()

    @property
    def _all(self) -> list[Detector]:
        return [*self.detectors, *self.tails, self.fuse]

    def judge(self, points: Points) -> Judged:
        """Score, fuse, then learn; the same points in the same order give the same, to the last bit."""
        scores = [detector.score(points) for detector in self.detectors]
        tails = np.full((len(points), len(self.detectors)), np.nan)
        for at, (tail, score) in enumerate(zip(self.tails, scores, strict=True)):
            tails[:, at] = tail.of(points.row, score)
            tail.take(points.row, score)
        fused = self.fuse.fuse(points.row, tails)
        words = {
            at: [detector.words(points, at) for detector in self.detectors]
            for at in np.flatnonzero(fused.begins).tolist()
        }
        for detector in self.detectors:
            detector.learn(points)
        return Judged(tails, fused, words)

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        for part in self._all:
            part.grow(rows)

    def forget(self, rows: Ints) -> None:
        """Make rows blank."""
        for part in self._all:
            part.forget(rows)

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns of all for a snapshot."""
        return {
            f"{at}.{name}": column
            for at, part in enumerate(self._all)
            for name, column in part.dump().items()
        }

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot.

        Raises:
            ValueError: they are of other detectors.
        """
        for at, part in enumerate(self._all):
            start = f"{at}."
            part.load({name.removeprefix(start): c for name, c in columns.items() if name.startswith(start)})
