"""`detect-default` and `detect-nab-dev`: what the default ensemble costs a scored point, and how good it is.

NAB is the development half of the corpus in ../shared/data/nab-dev: the files of one step are the columns of one ensemble, so a detector knows
nothing but the rows so far. Beside the oracle threshold of NAB (tuned on the labels that it scores) stands the *frozen* one, chosen on the
other folds (siblings are one fold), and the *shipped* one, a constant of the product: alarms as they begin. VUS-PR is that of the degree.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.degree import Degree
from headwater_edge.detection.ensemble import Ensemble
from headwater_edge.detection.fuse import Fuse
from headwater_edge.detection.make import DEFAULT, made
from headwater_edge.detection.points import Points
from tests.bench.results import Result

_SHARED = Path(__file__).parents[3] / "shared"
_START = 1_795_046_400_000_000
_SERIES, _METRICS = 1000, 4
_WARM, _CALLS = 200, 300
_NEVER = -99.0
_REST = 150
_PROFILE = "standard"

Scores = dict[str, NDArray[np.float64]]


def _calls(series: int, n: int, length: int) -> Iterator[Points]:
    chance = np.random.default_rng(1)
    row, count = np.arange(series), np.full(series, 10)
    for at in range(n):
        value = 20 + chance.normal(size=series)
        spread = np.abs(chance.normal(size=series))
        yield Points(
            row, row // _METRICS, np.full(series, _START + at * length), value, value - spread, value + spread, spread, count,
            length,
        )  # fmt: skip


def _us_a_point(detectors: list[str], length: int = 10_000_000) -> float:
    one = Ensemble(made(detectors))
    one.grow(_SERIES)
    calls = list(_calls(_SERIES, _WARM + _CALLS, length))
    for points in calls[:_WARM]:
        one.judge(points)
    spent = []
    for points in calls[_WARM:]:
        began = time.process_time_ns()
        one.judge(points)
        spent.append(time.process_time_ns() - began)
    return sorted(spent)[len(spent) // 2] / 1000 / _SERIES


def default(_: Path) -> Iterator[Result]:
    """Score, tail, fuse, degree and learn of 1,000 series of 250 devices; beside it one detector alone."""
    figure = _us_a_point(["default"])
    alone = {name: round(_us_a_point([name]), 3) for name in DEFAULT}
    one = Ensemble(made(["default"]))
    yield Result(
        "detect-default", figure, "us of CPU a scored point", alone["sudden"], "in the same process: `sudden` alone, all else the same",
        "none: in memory",
        {
            "each alone": alone, "with windows of 10 min, where there is a season": round(_us_a_point(["default"], 600_000_000), 3),
            "bytes a series": sum(part.bytes_of_a_row() for part in one.parts),
        },
    )  # fmt: skip


class _File(NamedTuple):
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]
    step_us: int


def _tools() -> tuple[Any, Any]:
    folder = str(_SHARED / "tools")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("nab_score"), import_module("vus_pr")


def _files(corpus: dict[str, Any]) -> dict[str, _File]:
    files = {}
    for name, (texts, values, _) in corpus.items():
        stamps = np.array(
            [int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000 for text in texts], np.int64
        )  # fmt: skip
        step = int(np.median(np.diff(stamps)))
        for at in range(1, len(stamps)):  # an hour that comes twice
            stamps[at] = max(stamps[at], stamps[at - 1] + 1)
        files[name] = _File(stamps, values, step)
    return files


def _judged(files: dict[str, _File]) -> tuple[dict[str, Scores], dict[str, Scores], Scores]:
    """Return excess and degree, by detector and file, and where alarms begin; `default` is all together."""
    names = ["default", *DEFAULT]
    excess: dict[str, Scores] = {name: {} for name in names}
    degree: dict[str, Scores] = {name: {} for name in names}
    begins: Scores = {}
    for step in sorted({file.step_us for file in files.values()}):
        columns = sorted((n for n in files if files[n].step_us == step), key=lambda n: -len(files[n].values))
        rows = np.array([len(files[n].values) for n in columns])
        shape = (len(names), len(columns), rows[0])
        over, much, began = np.full(shape, _NEVER), np.zeros(shape), np.zeros(shape[1:])
        one = Ensemble(made(["default"]))
        alone = [(Fuse(), Degree()) for _ in DEFAULT]
        one.grow(len(columns))
        for pair in alone:
            for part in pair:
                part.grow(len(columns))
        for at in range(rows[0]):
            row = np.arange(int((rows > at).sum()))
            value = np.array([files[columns[k]].values[at] for k in row])
            start = np.array([files[columns[k]].stamps[at] for k in row])
            points = Points(
                row, row, start, value, value, value, np.zeros(len(row)), np.ones(len(row), np.int64), step
            )
            judged = one.judge(points)
            over[0, row, at] = np.maximum(judged.fused.excess, _NEVER)
            much[0, row, at], began[row, at] = judged.fused.degree, judged.fused.begins
            for k, (fuse, deg) in enumerate(alone):
                fused = fuse.fuse(points, judged.tails[:, [k]])
                over[k + 1, row, at] = np.maximum(fused.excess, _NEVER)
                much[k + 1, row, at] = deg.take(points, fused.rarity)
        for k, name in enumerate(columns):
            for of, detector in enumerate(names):
                excess[detector][name], degree[detector][name] = (
                    over[of, k, : rows[k]],
                    much[of, k, : rows[k]],
                )
            begins[name] = began[k, : rows[k]]
    return excess, degree, begins


def _river() -> dict[str, Callable[[], Any]]:
    anomaly, compose, preprocessing, time_series = (
        import_module(f"river.{name}") for name in ("anomaly", "compose", "preprocessing", "time_series")
    )

    def features(model: Any) -> Any:
        return compose.Pipeline(preprocessing.MinMaxScaler(), model)

    return {
        "river StandardAbsoluteDeviation": anomaly.StandardAbsoluteDeviation,
        "river GaussianScorer(1000)": lambda: anomaly.GaussianScorer(window_size=1000, grace_period=100),
        "river PredictiveAnomalyDetection, Holt-Winters": lambda: anomaly.PredictiveAnomalyDetection(
            time_series.HoltWinters(alpha=0.3, beta=0.01, gamma=0.3, seasonality=288), horizon=1, n_std=3.0, warmup_period=600
        ),
        "river HalfSpaceTrees": lambda: features(anomaly.HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=1)),
        "river LODA": lambda: anomaly.LODA(n_random_cuts=50, seed=1),
        "river OneClassSVM": lambda: compose.Pipeline(preprocessing.StandardScaler(), anomaly.OneClassSVM(nu=0.1)),
    }  # fmt: skip


def _rested(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores where they beat all of the last 150 rows, as DETECTION.md's table has them."""
    padded = np.concatenate([np.full(_REST, -np.inf), scores])
    before = np.lib.stride_tricks.sliding_window_view(padded, _REST)[:-1].max(axis=1)
    return np.where(scores > before, scores, _NEVER)


_ERRORS = ValueError, ZeroDivisionError, OverflowError, IndexError


def _bare(make: Callable[[], Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the bare library says: of a value, or of a value and its step as features."""
    model, out, last = make(), np.zeros(len(values)), float(values[0])
    univariate = type(model).__name__ in {
        "StandardAbsoluteDeviation",
        "GaussianScorer",
        "PredictiveAnomalyDetection",
    }
    for at, value in enumerate(values.tolist()):
        x = {"value": value, "step": value - last}
        last = value
        said = (None, value) if univariate else (x,)
        with suppress(*_ERRORS):  # while they have not learnt enough some raise
            out[at] = model.score_one(*said)
        with suppress(*_ERRORS):
            model.learn_one(*said)
    return np.nan_to_num(np.abs(out), nan=0.0, posinf=1e12)


def _folds(names: list[str]) -> list[list[str]]:
    """Return folds: siblings, files whose names begin alike, are one."""
    folds: dict[str, list[str]] = {}
    for name in names:
        file = name.rpartition("/")[2]
        kind = file.partition("_")[0].partition("-")[0]
        folds.setdefault("6005" if "6005" in file else kind + ("_".join(file.split("_")[1:2]) if kind == "ec2" else ""), []).append(name)  # fmt: skip
    return list(folds.values())


class _Nab:
    def __init__(self) -> None:
        self.ns, self.vp = _tools()
        self.corpus = self.ns.load_corpus(str(_SHARED / "data" / "nab-dev"))
        self.weights = self.ns.PROFILES[_PROFILE]
        self.windows = sum(len(item[2]) for item in self.corpus.values())

    def line(self, scores: Scores, degree: Scores) -> dict[str, Any]:
        oracle = self.ns.evaluate(self.corpus, scores, bootstrap=1000)["profiles"][_PROFILE]
        raw, chosen = 0.0, []
        for fold in _folds(list(self.corpus)):
            rest = {n: item for n, item in self.corpus.items() if n not in fold}
            thresholds, found = self.ns.sweep(self.ns._prepare(rest, scores), self.weights)
            chosen.append(float(thresholds[int(np.argmax(found))]))
            here = self.ns._prepare({n: self.corpus[n] for n in fold}, scores)
            raw += sum(one["raw"] for one in self.ns.at_threshold(here, self.weights, chosen[-1]).values())
        alive = self.ns._prepare(self.corpus, scores)[6]
        return {
            "frozen": round(self.ns.normalise(raw, self.weights, self.windows, alive), 1),
            "frozen thresholds": [round(min(chosen), 3), round(max(chosen), 3)],
            "oracle": round(oracle["oracle"], 1),
            "oracle, 95% over files": [round(end, 1) for end in oracle["ci95_files_bootstrap"]],
            "VUS-PR": round(self.vus(degree), 3),
        }

    def vus(self, degree: Scores) -> float:
        found = []
        for name, item in self.corpus.items():
            _, _, labels = self.vp.tsbad_series(item)
            if labels.any():
                found.append(self.vp.vus_pr(labels[1:], degree[name][1:]))
        return float(np.mean(found))

    def at(self, scores: Scores, threshold: float) -> dict[str, Any]:
        found = self.ns.evaluate(self.corpus, scores, dict.fromkeys(self.ns.PROFILES, threshold))["profiles"][
            _PROFILE
        ]
        return {
            "score": round(found["transfer"], 1),
            "caught": found["transfer_caught"],
            "false": found["transfer_fp_rows"],
        }


def nab(_: Path) -> Iterator[Result]:
    """NAB's development half: the default ensemble, its detectors alone, and River's, bare, with DETECTION.md's rest of 150 rows."""
    nab = _Nab()
    files = _files(nab.corpus)
    began = time.process_time()
    excess, degree, begins = _judged(files)
    spent = time.process_time() - began
    table = {name: nab.line(excess[name], degree[name]) for name in excess}
    table["default"]["shipped"] = nab.at(begins, 0.5)
    rivers = {} if os.environ.get("HEADWATER_BENCH_RIVER") == "no" else _river()
    for name, make in rivers.items():
        began = time.process_time()
        raw = {file: _bare(make, files[file].values) for file in files}
        us = (time.process_time() - began) / sum(len(one) for one in raw.values()) * 1e6
        table[name] = nab.line({file: _rested(one) for file, one in raw.items()}, raw) | {
            "us a row": round(us, 1)
        }
    best = max((table[name]["frozen"] for name in rivers if name in table), default=0.0)
    yield Result(
        "detect-nab-dev", table["default"]["frozen"], "NAB, standard, frozen threshold", best,
        "the best of River's, bare library, frozen threshold, rest of 150 rows", "none: in memory",
        {"table": table, "files": len(files), "windows": nab.windows, "s of CPU, default": round(spent, 1)},
    )  # fmt: skip
