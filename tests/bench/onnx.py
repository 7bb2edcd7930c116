"""`detect-onnx`: models over many series by the agent's detector, beside bare onnxruntime with the same inputs at once, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from headwater_edge.detection import onnx_model
from headwater_edge.detection.onnx_detector import OnnxDetector
from headwater_edge.detection.points import Points
from tests.bench.results import Result

_ROWS = 1_000
_WARM, _MEASURED, _TURNS = 60, 50, 20


def run(folder: Path) -> Iterator[Result]:
    """Measure: a window of each of 1,000 series, scored and learnt, and bare calls, alternately; of several turns the least of each."""
    more: dict[str, Any] = {}
    found = {}
    for name in ("temperature", "pumps"):
        found[name] = ours, bare = _measured(name)
        more |= {f"{name}, us a row": ours, f"{name}, ratio": ours / bare}
    ours, bare = found["temperature"]
    yield Result(
        "detect-onnx", ours, "us a series and window", bare,
        "session.run of bare onnxruntime with the same rows, in a batch that is ready", "none: in memory", more,
    )  # fmt: skip


def _measured(name: str) -> tuple[float, float]:
    """Return what a row takes in us, with all that the detector does, and bare."""
    model = onnx_model.read(Path(str(resources.files("headwater_appliance") / "models" / f"{name}.onnx")))
    detector = OnnxDetector(model)
    detector.name = name
    detector.grow(_ROWS)
    rng = np.random.default_rng(1)
    of = model.manifest
    session, end = model._session, model._input
    number = 0

    def points() -> Points:
        nonlocal number
        number += 1
        row, start = np.arange(_ROWS), np.full(_ROWS, number * of.length_us)
        value = 50 + rng.standard_normal((_ROWS, len(of.metrics)) if of.metrics else _ROWS)
        return Points(
            row,
            row,
            start,
            value,
            value,
            value,
            np.zeros_like(value),
            np.ones(value.shape, np.int64),
            of.length_us,
        )

    for _ in range(_WARM):
        some = points()
        score = detector.score(some)
        detector.learn(some)
    assert np.isfinite(score).all()
    turns: list[tuple[float, float]] = []
    for _ in range(_TURNS):
        spent = [0.0, 0.0]
        for _ in range(_MEASURED):
            some = points()  # just made, as by the step
            begin = time.process_time()
            detector.score(some)
            detector.learn(some)
            spent[0] += time.process_time() - begin
            batch = rng.standard_normal((_ROWS, of.inputs), np.float32)
            begin = time.process_time()
            session.run(None, {end: batch})
            spent[1] += time.process_time() - begin
        turns.append((spent[0], spent[1]))
    ours, bare = (min(turn[at] for turn in turns) * 1e6 / _ROWS / _MEASURED for at in (0, 1))
    return ours, bare
