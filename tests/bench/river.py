"""`detect-river`: each of River's detectors, called by the agent's, beside the bare library: 1,000 series, a window each at once, in this process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headwater_edge.detection.models import Cut
from headwater_edge.detection.points import Points
from headwater_edge.detection.river import river
from headwater_edge.detection.river_models import maker
from headwater_edge.detection.specs import Spec
from tests.bench.results import Result

_SERIES = 1_000
_WARM, _MEASURED, _TURNS = 30, 12, 12
_LENGTH_US = 10_000_000


def _use(name: str, **parameters: Any) -> dict[str, Any]:
    return {"use": f"river.{name}", "parameters": parameters}


_HOLT_WINTERS = _use("time_series.HoltWinters", alpha=0.3, beta=0.1)
_SMALL_TREES = _use("anomaly.HalfSpaceTrees", n_trees=3, height=4, window_size=20)
EACH = {
    "StandardAbsoluteDeviation": Spec("river.anomaly.StandardAbsoluteDeviation"),
    "GaussianScorer": Spec("river.anomaly.GaussianScorer", {"grace_period": 20}),
    "GaussianScorer(100)": Spec("river.anomaly.GaussianScorer", {"window_size": 100, "grace_period": 20}),
    "PredictiveAnomalyDetection": Spec("river.anomaly.PredictiveAnomalyDetection"),
    "PredictiveAnomalyDetection, HoltWinters": Spec(
        "river.anomaly.PredictiveAnomalyDetection", {"predictive_model": _HOLT_WINTERS}
    ),
    "OneClassSVM": Spec("river.anomaly.OneClassSVM", before=("river.preprocessing.StandardScaler",)),
    "HalfSpaceTrees": Spec(
        "river.anomaly.HalfSpaceTrees", {"window_size": 20}, before=("river.preprocessing.MinMaxScaler",)
    ),
    "LODA": Spec("river.anomaly.LODA"),
    "LocalOutlierFactor": Spec("river.anomaly.LocalOutlierFactor"),
    "QuantileFilter": Spec("river.anomaly.QuantileFilter", {"q": 0.9, "anomaly_detector": _SMALL_TREES}),
    "ThresholdFilter": Spec(
        "river.anomaly.ThresholdFilter",
        {"threshold": 0.99, "anomaly_detector": _use("anomaly.GaussianScorer", grace_period=20)},
    ),
}
"""Each of River's detectors; the heavy ones over fewer series (`_FEWER`), as an agent would refuse them for all."""
_FEWER = {"HalfSpaceTrees": 100, "LODA": 100, "LocalOutlierFactor": 20}


def run(folder: Path) -> Iterator[Result]:
    """Measure: CPU time a window, scored and learnt, alternately; of several turns the least of each."""
    more: dict[str, Any] = {}
    worst = (0.0, 0.0, 0.0, "")
    for name, spec in EACH.items():
        ours, bare = _measured(spec, _FEWER.get(name, _SERIES))
        more[name] = {"us": round(ours, 3), "bare": round(bare, 3), "ratio": round(ours / bare, 3)}
        worst = max(worst, (ours / bare, ours, bare, name))
    more["pickling 1,000 PredictiveAnomalyDetection"] = _pickling()
    _, figure, baseline, which = worst
    yield Result(
        "detect-river", figure, "us of CPU a window", baseline, f"the bare library, {which} (the worst ratio)", "none: in memory", more,
    )  # fmt: skip


def _measured(spec: Spec, series: int) -> tuple[float, float]:
    windows = [_points(at, series) for at in range(_WARM + _MEASURED * _TURNS)]
    detector = river(spec)
    detector.grow(series)
    make, judges = maker(spec)
    models = [make(f"row {row}") for row in range(series)]
    call = _judge_values if judges else _judge_features
    for some in windows[:_WARM]:
        detector.learn(some)
        call(models, some.value.tolist(), lambda model: model is None)
    least = [float("inf")] * 2
    for turn in range(_TURNS):
        part = windows[_WARM + turn * _MEASURED : _WARM + (turn + 1) * _MEASURED]
        least[0] = min(least[0], _cpu(lambda part=part: _ours(detector, part)))  # type: ignore[misc]
        least[1] = min(least[1], _cpu(lambda part=part: [call(models, one.value.tolist()) for one in part]))  # type: ignore[misc]
    ours, bare = (1e6 * each / (series * _MEASURED) for each in least)
    return ours, bare


def _ours(detector: Any, part: list[Points]) -> None:
    for some in part:
        detector.score(some)
    assert not detector.failures


def _judge_values(models: list[Any], values: list[float], skip: Callable[[Any], bool] | None = None) -> None:
    nothing: dict[str, float] = {}
    if skip is not None:  # what is learnt before anything is asked for
        for model, y in zip(models, values, strict=True):
            model.learn_one(nothing, y)
        return
    for model, y in zip(models, values, strict=True):
        model.score_one(nothing, y)
        model.learn_one(nothing, y)


def _judge_features(
    models: list[Any], values: list[float], skip: Callable[[Any], bool] | None = None
) -> None:
    if skip is not None:
        for model, value in zip(models, values, strict=True):
            model.learn_one({"value": value})
        return
    for model, value in zip(models, values, strict=True):
        x = {"value": value}
        model.score_one(x)
        model.learn_one(x)


def _points(at: int, series: int) -> Points:
    chance = np.random.default_rng(at)
    value = 10 + chance.normal(0, 1, series)
    return Points(
        np.arange(series), np.arange(series), np.full(series, at * _LENGTH_US), value, value, value,
        np.zeros(series), np.ones(series, np.int64), _LENGTH_US,
    )  # fmt: skip


def _cpu(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    call()
    return time.process_time() - began


def _pickling() -> dict[str, float]:
    """What a snapshot of 1,000 models costs the loop: all at once, and a tick's share of it."""
    detector = river(EACH["PredictiveAnomalyDetection"])
    detector.grow(_SERIES)
    for at in range(_WARM):
        some = _points(at, _SERIES)
        detector.score(some)
    cut = detector.dump()["models"]
    assert isinstance(cut, Cut)
    longest, ticks = 0.0, 0
    while not cut.is_whole:
        began = time.perf_counter()
        cut.some(0.002)
        longest, ticks = max(longest, time.perf_counter() - began), ticks + 1
    cut = detector.dump()["models"]
    some = _points(_WARM, _SERIES)
    began = time.perf_counter()
    detector.score(some)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    detector.score(some)
    plain = time.perf_counter() - began
    return {
        "ms a tick at most": round(longest * 1e3, 2),
        "ticks": ticks,
        "ms if all windows close just after the cut": round((whole - plain) * 1e3, 1),
        "KB": round(cut.nbytes / 1e3, 1),
    }
