"""What a detector is: it scores closed windows and learns from them, in columns over many series.

One of one's own is a class with `score` and `learn`, and `KEPT` for what it remembers of each series; docs/detection.md shows one.
It reads no clock, no file and no random source: the same windows give the same scores, to the last bit.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from headwater_edge.detection.points import Floats, Ints, Points


class Detector:
    """Scores and learns; by default it remembers columns, one row a series.

    A score is any finite number, larger for what is stranger; NaN for none (it has not seen enough). Scores of one series are compared
    with each other only: a tail turns them into probabilities.
    """

    KEPT: dict[str, Any] = {}
    """What is remembered of each series: attribute -> what it is before the first window, a number or an array of any shape."""
    WHOLE_DEVICES: bool = False
    """Its rows are devices, its points have a column a metric."""
    LEARNS_AS_IT_SCORES: ClassVar[bool] = False
    """`score` takes the windows in at once, which is quicker where each row is an object; `learn` is not called."""
    ONE_BY_ONE: ClassVar[bool] = False
    """It knows which row took how long, and which failed; of the others a call is slow, or fails, as a whole."""
    name = ""
    """As the settings call it; set when it is made."""
    metrics: tuple[str, ...] = ()
    """Of a device, in the order of the columns of its points."""
    length_us = 0
    """Of the windows that it was made for; 0: it takes any."""

    def __init__(self) -> None:
        self.rows = 0
        self.names: list[str] = []
        """What each row is of: a series, or a device; for those who need to know."""
        self.failures: dict[int, str] = {}
        """By row, why it failed in `score` or `learn` just now; who calls takes them away, and sets the row aside."""
        for name, blank in self.KEPT.items():
            blank_row = np.asarray(blank)
            setattr(self, name, np.empty((0, *blank_row.shape), blank_row.dtype))

    def score(self, points: Points) -> Floats:
        """Say how strange these windows are, going by what was learnt so far; shape (n,). Nothing is remembered."""
        raise NotImplementedError

    def learn(self, points: Points) -> None:
        """Take these windows into what is remembered; `score` saw the same points just before."""

    def words(self, points: Points, at: int) -> str:
        """Say why window `at` has the score that it has, for a person; asked after `score` and before `learn`."""
        return self.name

    def blames(self, points: Points, at: int) -> int:
        """Tell which metric of device `at` is most to blame, by column; asked when `words` is, of detectors of whole devices."""
        return int(np.flatnonzero(~np.isnan(points.value[at]))[0])

    def grow(self, rows: int) -> None:
        """Make room for so many rows; new ones are blank."""
        more = rows - self.rows
        if more <= 0:
            return
        for name, blank in self.KEPT.items():
            column = getattr(self, name)
            fresh = np.broadcast_to(np.asarray(blank), (more, *column.shape[1:]))
            setattr(self, name, np.concatenate([column, fresh]))
        self.rows = rows

    def forget(self, rows: Ints) -> None:
        """Make rows blank: their series were let go, or are to be learnt anew."""
        for name, blank in self.KEPT.items():
            getattr(self, name)[rows] = blank

    def bytes_of_a_row(self) -> float:
        """Return about how many bytes it remembers of one series."""
        return float(sum(np.asarray(blank).nbytes for blank in self.KEPT.values()))

    def dump(self) -> dict[str, Any]:
        """Return copies of the columns for a snapshot; models that are objects are a `models.Cut` among them."""
        return {name: getattr(self, name).copy() for name in self.KEPT}

    def load(self, columns: dict[str, Any]) -> None:
        """Take up the columns of a snapshot, over as many rows as there is room for.

        Raises:
            ValueError: they are not this detector's.
        """
        for name, blank in self.KEPT.items():
            column, row = columns.get(name), np.asarray(blank)
            if column is None or column.shape != (self.rows, *row.shape) or column.dtype != row.dtype:
                raise ValueError(f"the snapshot has no columns for the detector {self.name!r}")
            setattr(self, name, column.copy())
