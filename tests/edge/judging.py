"""Ensembles and River's detectors in the tests: windows to judge, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headwater_edge.detection.ensemble import Ensemble, Judged
from headwater_edge.detection.make import made
from headwater_edge.detection.models import Cut, Models
from headwater_edge.detection.points import Points
from headwater_edge.detection.signed import Seal
from headwater_edge.detection.specs import Spec

S10 = 10_000_000


def anomaly(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> Spec:
    return Spec(f"river.anomaly.{name}", parameters or {}, **more)


def use(name: str, **parameters: Any) -> dict[str, Any]:
    return {"use": f"river.{name}", "parameters": parameters}


EACH = {
    "StandardAbsoluteDeviation": anomaly("StandardAbsoluteDeviation"),
    "StandardAbsoluteDeviation, median": anomaly(
        "StandardAbsoluteDeviation", {"sub_stat": use("stats.Quantile", q=0.5)}
    ),
    "GaussianScorer": anomaly("GaussianScorer", {"window_size": 40, "grace_period": 30}),
    "PredictiveAnomalyDetection": anomaly("PredictiveAnomalyDetection"),
    "PredictiveAnomalyDetection, HoltWinters": anomaly(
        "PredictiveAnomalyDetection",
        {"predictive_model": use("time_series.HoltWinters", alpha=0.3, beta=0.1, gamma=0.5, seasonality=24)},
    ),
    "PredictiveAnomalyDetection, SNARIMAX": anomaly(
        "PredictiveAnomalyDetection", {"predictive_model": use("time_series.SNARIMAX", p=3, d=1, q=2)}
    ),
    "PredictiveAnomalyDetection, scaled": anomaly(
        "PredictiveAnomalyDetection",
        {
            "predictive_model": {
                "use": "river.linear_model.LinearRegression",
                "parameters": {"optimizer": use("optim.Adam", lr=0.05)},
                "before": ["river.preprocessing.StandardScaler"],
            }
        },
    ),
    "HalfSpaceTrees": anomaly(
        "HalfSpaceTrees",
        {"n_trees": 3, "height": 4, "window_size": 30},
        before=("river.preprocessing.MinMaxScaler",),
    ),
    "LODA": anomaly("LODA", {"n_random_cuts": 10}),
    "OneClassSVM": anomaly(
        "OneClassSVM",
        before=("river.preprocessing.StandardScaler", "river.feature_extraction.PolynomialExtender"),
    ),
    "LocalOutlierFactor": anomaly("LocalOutlierFactor", {"n_neighbors": 3}),
    "QuantileFilter": anomaly(
        "QuantileFilter",
        {"q": 0.95, "anomaly_detector": use("anomaly.HalfSpaceTrees", n_trees=3, height=4, window_size=30)},
    ),
    "ThresholdFilter": anomaly(
        "ThresholdFilter",
        {"threshold": 0.99, "anomaly_detector": use("anomaly.GaussianScorer", grace_period=20)},
    ),
}
"""Each of River's detectors, in the forms that settings allow."""


def points(start: int, value: Any, row: Sequence[int] | None = None) -> Points:
    """Windows of so many rows (or those named), all beginning at `start` times ten seconds."""
    value = np.asarray(value, np.float64)
    rows = np.arange(len(value)) if row is None else np.array(row)
    return Points(
        rows, rows, np.full(len(rows), start * S10), value, value - 0.5, value + 0.5,
        np.zeros(value.shape), np.ones(value.shape, np.int64), S10,
    )  # fmt: skip


def walk(count: int, rows: int, metrics: int = 0, seed: int = 5) -> Iterator[Points]:
    """So many windows of each row: a wave with noise, now and then a jump; not every row has every window, nor every metric."""
    chance = np.random.default_rng(seed)
    shape = (rows, metrics) if metrics else (rows,)
    for at in range(count):
        value = 10 + np.sin(at / 8) + chance.normal(0, 0.2, shape)
        value[chance.random(shape) < 0.01] += 20
        if metrics:
            value[chance.random(shape) < 0.1] = math.nan
        there = np.flatnonzero(chance.random(rows) < 0.9)
        yield points(at, value[there], there.tolist())


def ensemble(*specs: str | Spec, rows: int = 3) -> Ensemble:
    made_of = Ensemble(made(specs))
    made_of.grow(rows, [f"s1/d1/m{row}" for row in range(rows)])
    return made_of


def tails(judged: Judged) -> bytes:
    """All that was judged, to the last bit."""
    return judged.tails.tobytes() + judged.fused.degree.tobytes()


def again(
    one: Ensemble, *specs: str | Spec, seal: Seal | None = None, reader: Seal | None = None
) -> Ensemble:
    """The ensemble as a snapshot brings it back, through bytes if there is a seal."""
    columns = one.dump()
    for name, column in columns.items():
        if isinstance(column, Cut):
            column.some(math.inf)
            if seal is not None:
                columns[name] = (reader or seal).read(seal.write(column))
    back = ensemble(*specs, rows=one.fuse.rows)
    back.load(columns)
    return back


def models_of(one: Ensemble) -> Models:
    """The models of its first detector, pickled."""
    (cut,) = (column for name, column in one.dump().items() if name == "0.models")
    assert isinstance(cut, Cut)
    cut.some(math.inf)
    return cut
