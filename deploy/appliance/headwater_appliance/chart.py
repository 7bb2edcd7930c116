"""A series over time as a chart of characters: in each column the range from minimum to maximum, and the mean in it.

Without colour the two can still be told apart, and where no window is no column is: a gap shows as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_RANGE, _MEAN, _BESIDE = "│", "●", "─"
_LABEL = 10
_WIDEST = 4
"""Characters that a window takes where there are few."""


def chart(
    start: Ints, count: Ints, mean: Floats, least: Floats, most: Floats, width: int, height: int, step_us: int
) -> list[Text]:
    """Draw windows of one series.

    Args:
        start: of each window, microseconds, ascending; shape (n,), as all others.
        count: readings of each.
        mean: of each; several that share a column are weighted by their counts.
        least: minimum of each.
        most: maximum of each.
        width: characters of a line, with the labels at its left.
        height: lines, without the time below.
        step_us: from one window to the next.

    Returns:
        the lines, that of the time last; none without windows of finite values.
    """
    finite = np.isfinite(mean) & np.isfinite(least) & np.isfinite(most)
    start, count = start[finite], count[finite]
    mean, least, most = mean[finite], least[finite], most[finite]
    if not len(start):
        return []
    columns = max(width - _LABEL - 1, 8)
    windows = max((int(start[-1]) - int(start[0])) // max(step_us, 1) + 1, 1)
    each_us = max(-(-windows // columns), 1) * max(step_us, 1)
    at = (start - start[0]) // each_us
    used = int(at[-1]) + 1
    low, high = np.full(used, np.inf), np.full(used, -np.inf)
    np.minimum.at(low, at, least)
    np.maximum.at(high, at, most)
    weight, total = np.zeros(used), np.zeros(used)
    np.add.at(weight, at, np.maximum(count, 1))
    np.add.at(total, at, mean * np.maximum(count, 1))
    bottom, top = float(low.min()), float(high.max())
    rows = _Rows(bottom, top, height)
    cells = [[" "] * used for _ in range(height)]
    for column in np.flatnonzero(weight).tolist():
        for row in range(rows.of(float(low[column])), rows.of(float(high[column])) + 1):
            cells[row][column] = _RANGE
        cells[rows.of(float(total[column] / weight[column]))][column] = _MEAN
    wide = max(min(columns // used, _WIDEST), 1)
    lines = []
    labels = {height - 1: rows.top, 0: rows.bottom, (height - 1) // 2: rows.value_of((height - 1) // 2)}
    for row in reversed(range(height)):
        label = f"{labels[row]:.5g}" if row in labels else ""
        line = Text(f"{label:>{_LABEL - 1}} ┤" if label else " " * _LABEL + "│", "dim")
        for cell in cells[row]:
            beside = _BESIDE if cell == _MEAN else " "
            line.append(cell + beside * (wide - 1), "bold cyan" if cell == _MEAN else "blue")
        lines.append(line)
    lines.append(_time_line(int(start[0]), int(start[0]) + used * each_us, used * wide))
    return lines


def caption(step: str, each: int) -> str:
    """Say what the marks are."""
    of = f"{each} windows of {step}" if each > 1 else f"a window of {step}"
    return f"{_MEAN} mean, {_RANGE} minimum to maximum; a column is {of}"


def windows_a_column(start: Sequence[int] | Ints, width: int, step_us: int) -> int:
    """Return how many windows `chart` draws in one column."""
    if not len(start):
        return 1
    windows = (int(start[-1]) - int(start[0])) // max(step_us, 1) + 1
    return max(-(-windows // max(width - _LABEL - 1, 8)), 1)


class _Rows:
    """The scale: which row a value is in."""

    def __init__(self, bottom: float, top: float, height: int) -> None:
        if not top - bottom > abs(top) * 1e-9:  # a flat line stands in the middle
            room = abs(top) * 0.01 or 1.0
            bottom, top = bottom - room, top + room
        self.bottom, self.top, self._height = bottom, top, height

    def of(self, value: float) -> int:
        # Halves first: the difference of two large floats may be no float any more.
        share = (value / 2 - self.bottom / 2) / (self.top / 2 - self.bottom / 2)
        return min(max(round(share * (self._height - 1)), 0), self._height - 1)

    def value_of(self, row: int) -> float:
        share = row / max(self._height - 1, 1)
        return self.bottom * (1 - share) + self.top * share


def _time_line(from_us: int, to_us: int, columns: int) -> Text:
    form = "%H:%M:%S" if to_us - from_us < 2 * 86_400_000_000 else "%m-%d %H:%M"
    try:
        begin, end = (datetime.fromtimestamp(us / 1e6, UTC) for us in (from_us, to_us))
    except (OverflowError, ValueError, OSError):
        return Text(" " * (_LABEL + 1) + f"{from_us} us to {to_us} us", "dim")
    first = f"{begin:%Y-%m-%d} {begin.strftime(form)}" if form == "%H:%M:%S" else begin.strftime(form)
    last = f"{end.strftime(form)} UTC"
    return Text(" " * (_LABEL + 1) + first + last.rjust(max(columns - len(first), len(last) + 1)), "dim")
