"""Windows that an agent let go under pressure: a coarser one is marked, and holds their readings (R22).

Resolution is lost there, never a reading: such a window is no window that must be there, and its readings are looked for in
the coarser one, where they must be exactly as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_stored import Windows
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import COARSENED, Level, is_within

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NUMBERS = 1 << 40
"""Windows of a second since 1970 are fewer than this for 30,000 years."""


class Marks:
    """The marked windows of all levels."""

    def __init__(self, kept: Sequence[Windows]) -> None:
        self._marked = [
            windows.take(np.flatnonzero(windows.flags & COARSENED))
            for windows in kept
            if windows.flags is not None and not windows.level.gap_us and windows.level.at_once == 1
        ]
        self._marked = [windows for windows in self._marked if len(windows)]
        self._keys = [_keys(w.series, w.start, w.level) for w in self._marked]

    def __len__(self) -> int:
        return sum(map(len, self._marked))

    def gone(self, level: Level, series: Ints, time: Ints) -> Flags:
        """Tell at which times a level is not kept; shape of `time`."""
        out = np.zeros(len(time), np.bool_)
        for windows, keys in zip(self._marked, self._keys, strict=True):
            if is_within(level, windows.level):
                out |= np.isin(_keys(series, time, windows.level), keys)
        return out

    def without(self, windows: Windows) -> Windows:
        """Return the windows of a level that are kept."""
        return windows.take(np.flatnonzero(~self.gone(windows.level, windows.series, windows.start)))

    def instead(self, level: Level) -> list[Windows]:
        """Return the windows that hold what is not kept at a level, each reading once."""
        return [self.without(windows) for windows in self._marked if is_within(level, windows.level)]

    def filled(self, windows: Windows) -> Windows:
        """Return the windows that are kept and those that stand for the others, by series; no longer all of one length."""
        instead = self.instead(windows.level)
        if not instead:
            return windows
        pieces = [windows, *instead]
        series = np.concatenate([piece.series for piece in pieces])
        order = np.argsort(series, kind="stable")
        return replace(
            windows,
            series=series[order],
            start=np.concatenate([piece.start for piece in pieces])[order],
            rows=Aggregates.concatenate([piece.rows for piece in pieces]).take(order),
            flags=None,
        )

    def touched(self, fine: Level, coarse: Level, offset: int) -> tuple[Ints, Ints]:
        """Return the windows of a coarser level, `offset` after the multiples of its length, in which a finer one is not
        kept throughout: series and starts.
        """
        series, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for windows in self.instead(fine):
            length = coarse.length_us
            first = (windows.start - offset) // length
            last = (windows.start + windows.level.length_us - 1 - offset) // length
            many = last - first + 1
            before = np.cumsum(many) - many
            number = np.arange(int(many.sum())) - np.repeat(before, many) + np.repeat(first, many)
            series.append(np.repeat(windows.series, many))
            starts.append(number * length + offset)
        return np.concatenate(series), np.concatenate(starts)


def is_among(series: Ints, start: Ints, length_us: int, among: tuple[Ints, Ints]) -> Flags:
    """Tell which windows of a length are among others; shape of `start`."""
    return np.isin(_key(series, start // length_us), _key(among[0], among[1] // length_us))


def _keys(series: Ints, time: Ints, level: Level) -> Ints:
    return _key(series, time // level.length_us)


def _key(series: Ints, number: Ints) -> Ints:
    return series * (2 * _NUMBERS) + (number + _NUMBERS)
