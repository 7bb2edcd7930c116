"""What a model's score means, in a sentence for a person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.onnx_manifest import Manifest
from headwater_edge.detection.points import Floats

Singles = NDArray[np.float32]

_MANY = 4
"""More metrics are counted, not named."""


def blamed(off: Singles, usual: Singles) -> int:
    """Return the channel that adds the most to the score beyond what it does as a rule: a score is the root of the sum of their squares."""
    more = off.astype(np.float64) ** 2 - np.nan_to_num(usual).astype(np.float64) ** 2
    return int(np.argmax(more))


def words_of(
    of: Manifest, name: str, score: float, off: Singles, usual: Singles, value: Floats, spread: Floats
) -> str:
    """Say how far what is how far off, and what would have been as usual.

    Args:
        of: the model's.
        name: of the detector.
        score: of the window.
        off: how far each channel of the newest window is from what came out, scaled; of scores: the score.
        usual: how far each is as a rule.
        value: the newest window's channels, as measured.
        spread: by which each was divided.
    """
    if of.output == "score":
        return f"{name} gives {score:.3g}, usually {usual[0]:.3g}"
    channel = blamed(off, usual)
    away, as_a_rule = abs(float(off[channel])), float(usual[channel])
    times = away / as_a_rule if as_a_rule > 0 else np.inf
    further = f"{times:.1f} times further than usual from" if np.isfinite(times) else "for once away from"
    measured = float(value[channel])
    instead = f"({measured:.4g} instead of {measured + float(off[channel]) * float(spread[channel]):.4g})"
    if of.output == "reconstruction" and not of.metrics:
        what = "the window is" if of.windows == 1 else f"the last {of.windows} windows are"
        return f"{what} {further} what {name} knows"
    source = f"what {name} foretells"
    if of.output == "reconstruction" and len(of.metrics) > 1:
        metric = of.metrics[channel // len(of.values)]
        others = [one for one in of.metrics if one != metric]
        suggest = _listed(others) if len(others) <= _MANY else f"the other {len(others)} metrics"
        source = f"what {suggest} suggest{'s' if len(others) == 1 else ''}"
    return f"{_subject(of, channel)} is {further} {source} {instead}"


def _subject(of: Manifest, channel: int) -> str:
    what = {"mean": "the mean", "low": "the minimum", "high": "the maximum", "spread": "the spread"}[
        of.values[channel % len(of.values)]
    ]
    if not of.metrics:
        return what
    metric = of.metrics[channel // len(of.values)]
    return metric if what == "the mean" else f"{what} of {metric}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
