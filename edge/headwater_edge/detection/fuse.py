"""From the probabilities of several detectors to an alarm (an event, yes or no) and a degree (how anomalous the moment is)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Mask

_ALARM = 6.0
"""Tail probability, -log10, at which an alarm begins."""
_REST = 30
"""Windows after an alarm in which none begins."""
_FADES = 0.7


@dataclass(slots=True)
class Fused:
    """By point; shape (n,)."""

    rarity: Floats
    """-log10 of the probability of all that the detectors say, NaN if none says anything."""
    degree: Floats
    """From 0, as usual, to 1."""
    begins: Mask
    """An alarm begins at this window."""
    ends: Mask
    """The one that was on is over at this window."""


class Fuse(Detector):
    """What is known of each row between windows."""

    KEPT = {"on": False, "rest": 0, "degree": 0.0}
    on: Mask
    rest: Ints
    degree: Floats

    def fuse(self, row: Ints, tails: Floats) -> Fused:
        """Fuse the probabilities of k detectors, -log10, NaN for none; shape (n, k)."""
        known = np.isfinite(tails)
        rarity = np.where(known, tails, 0.0).max(axis=1, initial=0.0)
        none = ~known.any(axis=1)
        level = 1.0 - np.exp(-rarity / _ALARM)
        degree = np.maximum(level, self.degree[row] * _FADES)
        on, rest = self.on[row], self.rest[row]
        begins = (rarity >= _ALARM) & ~on & (rest == 0)
        ends = on & (degree < 1.0 - np.exp(-0.5))
        self.degree[row], self.on[row] = degree, (on | begins) & ~ends
        self.rest[row] = np.where(begins, _REST, np.maximum(rest - 1, 0))
        return Fused(np.where(none, np.nan, rarity), degree, begins, ends)
