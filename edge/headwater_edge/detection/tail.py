"""From scores to probabilities: how rare a score is among the recent ones of its own series and detector.

A score is measured from its usual value, u = score - mean. Of these, a bound that about one in 32 exceeds is followed by stochastic
approximation (Robbins and Monro 1951; of quantiles: Tierney 1983, "A space-efficient recursive procedure for estimating a quantile").
Beyond the bound the tail is a power law with Hill's exponent (Hill 1975; probabilities far outside of what was seen: Weissman 1978),

    y = ln(u / bound),   P(score as large) = rate * (1 + y / (k * mean y)) ** -k

where k exceedances were seen: for exponential y this is the exact probability of the next one, given the mean of k others (it is an
F(2, 2k) ratio), so few exceedances promise little; eight that are made up, of a usual mean, stand for what noise is like (the conjugate prior). As it is a logarithm, it does not saturate, and as it is a power law, heavy-tailed
noise does not alarm. What has been there of late is never rarer than that says: it is at least one in 16,384 (the empirical tail). All fades,
so that it follows drift.
"""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints

_FEW = 20
"""Scores before there are probabilities; the largest of them is the first bound."""
_RATE = 1.0 / 32
_MEMORY = 4096
"""Scores that the bound, its rate and the usual score remember, about."""
_EXCEEDANCES = 64
"""Those that the exponent remembers, about."""
_BEFOREHAND = 8.0
_USUALLY = 0.35
"""It starts as if it had seen so many exceedances of this mean: noise that is somewhat heavy-tailed."""
_LIGHTEST = 0.15
"""No tail is taken to be lighter than u ** (-1 / this): bounded and quantised scores have none to be measured."""
_STEP = 2.0
_LONG = 16384
"""A score (nearly) as large as one of the last so many has no smaller probability than one in so many."""
_NEAR = 0.2
_NONE = -1000.0
_LEAST = 1e-150
_RELATIVE = 1e-9
"""A score that differs from the usual one by less than such a share is the usual one."""
_MOST = 1e150


class Tails(Detector):
    """What is known of the scores of one detector, by row."""

    KEPT = {
        "count": 0,
        "usual": 0.0,
        "bound": 0.0,
        "rate": _RATE,
        "over": 0.0,
        "excess": 0.0,
        "top": _NONE,
        "top_before": _NONE,
    }
    count: Ints
    usual: Floats
    bound: Floats
    """Logarithm of what one in 32 exceeds."""
    rate: Floats
    over: Floats
    """Exceedances remembered."""
    excess: Floats
    """Mean logarithm of how many times the bound they are."""
    top: Floats
    """Logarithm of the largest score of late, and of the largest before that."""
    top_before: Floats

    def of(self, row: Ints, score: Floats) -> Floats:
        """Return -log10 of the probability of a score as large as this; NaN where there is none, or too few came before; shape (n,)."""
        there = np.isfinite(score)
        usual = self.usual[row]
        floor = _floor(usual)
        away = np.log(_away(score, usual))
        y = away - np.maximum(self.bound[row], np.log(floor))
        k = self.over[row] + _BEFOREHAND
        excess = (self.over[row] * self.excess[row] + _BEFOREHAND * _USUALLY) / k
        excess = np.maximum(excess, _LIGHTEST)
        beyond = np.where(y > 0, k * np.log1p(np.maximum(y, 0.0) / (k * excess)), y / excess)
        exceeds = np.maximum((beyond - np.log(self.rate[row])) / np.log(10.0), 0.0)
        scale = self.bound[row] > np.log(
            floor
        )  # a constant has none: only that it was never seen before says something
        exceeds = np.where(scale, exceeds, np.minimum(exceeds, np.log10(self.count[row] + 1.0)))
        exceeds = np.where(away > np.log(floor), exceeds, 0.0)
        known = away < np.maximum(self.top[row], self.top_before[row]) + _NEAR
        exceeds = np.where(known, np.minimum(exceeds, np.log10(_LONG)), exceeds)
        return np.where(there & (self.count[row] >= _FEW), exceeds, np.nan)

    def take(self, row: Ints, score: Floats) -> None:
        """Take scores into the recent ones; NaN is none."""
        there = np.isfinite(score)
        if not there.all():
            row, score = row[there], score[there]
        count, usual = self.count[row], self.usual[row]
        bound = np.maximum(self.bound[row], np.log(_floor(usual)))
        away = np.log(_away(score, usual))
        turns = count % _LONG == 0
        top = self.top[row]
        self.top_before[row] = np.where(turns, top, self.top_before[row])
        self.top[row] = np.maximum(np.where(turns, _NONE, top), away)
        y = away - bound
        started = count >= _FEW
        beyond = started & (y > 0)
        share = 1.0 / np.minimum(count + 1.0, _MEMORY)
        self.count[row] = count + 1
        # of a score far beyond the bound no more than the bound's double counts, so that one does not hide the next
        most = np.where(started, 2.0 * np.exp(np.minimum(bound, 300.0)), _MOST)
        off = np.minimum(np.clip(score, -_MOST, _MOST) - usual, most)
        self.usual[row] = usual + share * off
        over, excess = self.over[row], self.excess[row]
        k = np.minimum(over + 1.0, _EXCEEDANCES)
        self.over[row] = np.where(beyond, k, over)
        self.excess[row] = np.where(beyond, excess + (y - excess) / k, excess)
        gain = _STEP * share * np.clip(excess, _LIGHTEST, 1.0)
        moved = np.maximum(bound + gain * (beyond / _RATE - 1.0), np.log(_LEAST))
        first = np.where(count == 0, away, np.maximum(bound, away))
        self.bound[row] = np.where(started, moved, first)
        rate = self.rate[row]
        self.rate[row] = np.where(started, rate + share * (beyond - rate), rate)


def _floor(usual: Floats) -> Floats:
    return np.abs(usual) * _RELATIVE + _LEAST


def _away(score: Floats, usual: Floats) -> Floats:
    """Return how far scores are above their usual value, bounded."""
    return np.fmax(np.clip(score, -_MOST, _MOST) - usual, _floor(usual))
