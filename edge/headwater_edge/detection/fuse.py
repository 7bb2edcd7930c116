"""From the probabilities of several detectors to an alarm, an event that begins and ends.

The rarity of a window is half the largest and half the mean of what the detectors say: one that is sure, and others that agree (averages
of p-values: Vovk and Wang 2020, "Combining p-values via averaging"). An alarm begins at a window that is

- rare: over log10 of the windows in a week, so that windows of 10 ms and of an hour have about as many false alarms a week; as but one alarm
  can begin in a rest, the longer share of a week a rest is, the more windows may be over it;
- novel: rarer than all windows of a rest before it (relative novelty: CAD OSE and KNN-CAD, Ahmad et al. 2017, have such a rest);
- rarer by a bar that each alarm of the series raises and that sinks again by so much a week as `ALARMS` raise it. So what comes
  time and again is usual after a while, whatever the distribution of the noise: in n weeks a series has at most
  n * ALARMS alarms and as many again as its rarest window is rare in units of `_RAISED` (adaptive conformal inference, Gibbs and Candes 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Mask, Points

ALARMS = 1.0
"""A week that a series may have in the long run, if nothing ever gets rarer."""
_RAISED = 0.25
"""Decades by which an alarm raises the bar."""
_OVER = 120.0
"""Windows that may be over the threshold, for each share of a week that is one rest."""
_LEAST = 1.2
_WEEK = 7 * 86_400_000_000
_REST_US = 45_000_000_000
_LONGEST_REST = 360
_SHORTEST_REST = 12


@dataclass(slots=True)
class Fused:
    """By point; shape (n,)."""

    rarity: Floats
    """What the detectors say in all, in decades of probability, NaN if none says anything."""
    degree: Floats
    """From 0, as usual, to 1."""
    begins: Mask
    """An alarm begins at this window."""
    ends: Mask
    """The one that was on is over at this window."""
    excess: Floats
    """Rarity over what an alarm needs; -inf where the window is not novel."""


def threshold(length_us: int) -> float:
    """Return the rarity of windows of such a length at which an alarm begins."""
    week = _WEEK / length_us
    return max(float(np.log10(week / max(_OVER * rest(length_us) / week, 1.0))), _LEAST)


def rest(length_us: int) -> int:
    """Return the windows of a rest: those of half a day, 12 to 360 of them."""
    return int(min(max(_REST_US // length_us, _SHORTEST_REST), _LONGEST_REST))


class Fuse(Detector):
    """What is known of each row between windows."""

    KEPT = {"on": False, "calm": 0, "bar": 0.0, "last": 0, "peak": 0.0, "peak_before": 0.0, "peak_since": 0}
    on: Mask
    calm: Ints
    """Windows since the last rare one, while an alarm is on."""
    bar: Floats
    last: Ints
    """Start of the window before."""
    peak: Floats
    """The largest rarity since `peak_since`, and in a rest before that."""
    peak_before: Floats
    peak_since: Ints

    def fuse(self, points: Points, tails: Floats) -> Fused:
        """Fuse the probabilities of k detectors, -log10, NaN for none; shape (n, k)."""
        row, start = points.row, points.start
        known = np.isfinite(tails)
        heard = known.sum(axis=1)
        said = np.where(known, tails, 0.0)
        summed, largest = np.zeros(len(row)), np.zeros(len(row))
        for column in range(
            tails.shape[1]
        ):  # one by one: a sum in the same order, however many rows there are
            summed += said[:, column]
            largest = np.maximum(largest, said[:, column])
        rarity = 0.5 * largest + 0.5 * summed / np.maximum(heard, 1)
        novel = rarity > self._peak(points, rarity)
        needed = threshold(points.length_us)
        passed = np.where(self.last[row] > 0, start - self.last[row], 0)
        bar = np.maximum(self.bar[row] - (ALARMS * _RAISED / _WEEK) * passed, 0.0)
        excess = np.where(novel, rarity - needed - bar, -np.inf)
        on = self.on[row]
        begins = (excess >= 0.0) & ~on
        calm = np.where(rarity < 0.5 * needed, self.calm[row] + 1, 0)
        ends = on & (calm >= max(rest(points.length_us) // 30, 3))
        self.on[row] = (on | begins) & ~ends
        self.calm[row] = calm
        self.bar[row] = bar + _RAISED * begins
        self.last[row] = start
        return Fused(np.where(heard > 0, rarity, np.nan), np.zeros(len(row)), begins, ends, excess)

    def _peak(self, points: Points, rarity: Floats) -> Floats:
        """Return the largest rarity of at least one rest and at most two before, and take this one in."""
        row, start = points.row, points.start
        span = rest(points.length_us) * points.length_us
        age = start - self.peak_since[row]
        over, long_over = age > span, age > 2 * span
        peak = self.peak[row]
        before = np.where(long_over, 0.0, np.where(over, peak, self.peak_before[row]))
        peak = np.where(over, 0.0, peak)
        self.peak_since[row] = np.where(over, start, self.peak_since[row])
        self.peak_before[row], self.peak[row] = before, np.maximum(peak, rarity)
        return np.maximum(before, peak)
