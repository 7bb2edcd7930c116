"""Valid ranges: readings that cannot be are found before they are counted; columns only, no loop over readings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_edge.metric_settings import MetricSettings, metric_of

_ANY = (1.0, 0.0, -np.inf, np.inf)


class Ranges:
    """Scale, offset, least and largest value by series; shape (4, series)."""

    def __init__(self, metrics: Sequence[MetricSettings]) -> None:
        self._metrics = metrics
        self._any = any(metric.valid for metric in metrics)
        self._columns = np.zeros((4, 0))

    def __bool__(self) -> bool:
        """Tell whether there is any range at all."""
        return self._any

    def outside(
        self, series: NDArray[np.int32], value: NDArray[np.float64], names: list[str]
    ) -> NDArray[np.bool_]:
        """Tell which readings are out of range, as sent times scale plus offset; shape (n,).

        Args:
            names: of all series by number.
        """
        known = self._columns.shape[1]
        if len(names) > known:
            more = np.array([self._of(name) for name in names[known:]]).T
            self._columns = np.concatenate([self._columns, more], axis=1)
        scale, offset, least, largest = self._columns[:, series]
        scaled = value * scale + offset
        bad: NDArray[np.bool_] = (scaled < least) | (scaled > largest)
        return bad

    def look_again(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """These became other series'."""
        for number in numbers:
            if number < self._columns.shape[1]:
                self._columns[:, number] = self._of(names[number])

    def said(self, series: int) -> str:
        """Say what the range of a series is."""
        _, _, least, largest = self._columns[:, series].tolist()
        return f"not from {least:g} to {largest:g}"

    def _of(self, name: str) -> tuple[float, float, float, float]:
        metric = metric_of(self._metrics, name)
        if metric is None or metric.valid is None:
            return _ANY
        return metric.scale, metric.offset, *metric.valid
