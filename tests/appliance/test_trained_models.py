"""The models that ship: they do what their manifests say, and the script that made them makes such again."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from headwater_appliance import train_models
from headwater_appliance.train_models import MOST_BYTES, Size
from headwater_edge.detection import onnx_model
from headwater_edge.detection.onnx_detector import OnnxDetector
from headwater_edge.detection.points import Floats, Points
from tests.support import lacking

SHORT = Size(pumps=2, days=3, rounds=2)


def shipped(name: str) -> Path:
    return Path(str(resources.files("headwater_appliance") / "models" / f"{name}.onnx"))


def scores(path: Path, metrics: list[str], values: Floats) -> tuple[OnnxDetector, Floats]:
    """Judge windows of pumps, shape (pumps, windows, metrics); scores have shape (windows, pumps)."""
    one = OnnxDetector(onnx_model.read(path))
    one.name = f"onnx:{path.name}"
    pumps = len(values)
    one.grow(pumps)
    found = []
    for window in range(values.shape[1]):
        value = values[:, window]
        if not one.WHOLE_DEVICES:
            value = value[:, metrics.index("temperature")]
        row, start = np.arange(pumps), np.full(pumps, window * one.length_us)
        some = Points(
            row,
            row,
            start,
            value,
            value,
            value,
            np.zeros_like(value),
            np.ones(value.shape, np.int64),
            one.length_us,
        )
        found.append(one.score(some))
        if window < values.shape[1] - 1:
            one.learn(some)
    return one, np.array(found)


@pytest.mark.parametrize("name", ["pumps", "temperature"])
def test_a_model_that_ships_is_small_and_does_what_its_manifest_says(name: str) -> None:
    """Its golden scores, which scikit-learn worked out, are those of onnxruntime; it is below 50 KB."""
    model = onnx_model.read(shipped(name))
    assert shipped(name).stat().st_size < MOST_BYTES
    assert model.manifest.opset == train_models.OPSET
    assert len(model.manifest.golden) >= 3


def test_the_shipped_models_see_a_pump_shake_and_get_warm() -> None:
    """Of pumps that they never saw: one that shakes by 1 mm/s more is the strangest of days, and blamed rightly; so is one too warm."""
    metrics, values = train_models.healthy(Size(pumps=2, days=2), seed=7)
    shaking = values.copy()
    shaking[1, -6:, metrics.index("vibration")] += 1.0
    pumps, found = scores(shipped("pumps"), metrics, shaking)
    usual = found[10:-6]
    assert np.isfinite(usual).all()
    assert found[-1, 1] > 1.5 * usual[:, 1].max()
    assert (found[-1, [0, 2, 3]] < 1.5 * usual[:, [0, 2, 3]].max(axis=0)).all()
    assert pumps._last_seen is not None
    assert pumps.blames(pumps._last_seen.points, 1) == metrics.index("vibration")
    words = pumps.words(pumps._last_seen.points, 1)
    assert words.startswith("vibration is ")
    assert " times further than usual from what flow, pressure, temperature and current suggest (3" in words
    warm = values.copy()
    warm[0, -1, metrics.index("temperature")] += 5.0
    temperature, found = scores(shipped("temperature"), metrics, warm)
    assert found[-1, 0] > 3 * np.nanmax(found[:-1, 0])
    assert temperature._last_seen is not None
    assert " times further than usual from what onnx:temperature.onnx foretells (" in temperature.words(
        temperature._last_seen.points, 0
    )


def test_the_script_makes_models_again(tmp_path: Path) -> None:
    """Shorter trainings, twice: the same bytes of weights, golden scores that hold, small files."""
    if importlib.util.find_spec("skl2onnx") is None:
        lacking("train", "skl2onnx is not installed: uv sync --inexact --extra train")
    first = train_models.write(tmp_path / "a", SHORT)
    second = train_models.write(tmp_path / "b", SHORT)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.with_suffix(".toml").read_text() == other.with_suffix(".toml").read_text()
        assert one.stat().st_size < MOST_BYTES
    assert [path.name for path in first] == ["pumps.onnx", "temperature.onnx"]
