"""What a model says of windows: by series and by device, with gaps, after restarts, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater_edge.detection import onnx_model
from headwater_edge.detection.onnx_detector import OnnxDetector
from headwater_edge.detection.points import Floats, Points
from tests.edge import onnx_files as files
from tests.edge.onnx_files import BEFORE, TOGETHER, placed

S10 = 10_000_000
NAN = np.nan


def detector(folder: Path, body: bytes, manifest: str, rows: int) -> OnnxDetector:
    made = OnnxDetector(onnx_model.read(placed(folder / "m.onnx", body, manifest)))
    made.name = "onnx:m.onnx"
    made.grow(rows)
    return made


def points(window: int, values: Any, rows: Any = None) -> Points:
    """Windows of 10 s; of series, or, with a list of values each, of devices."""
    value = np.asarray(values, np.float64)
    row = np.arange(len(value)) if rows is None else np.asarray(rows)
    return Points(
        row, row, np.full(len(value), window * S10), value, value - 1, value + 1, np.abs(value) / 10,
        np.where(np.isnan(value), 0, 1), S10,
    )  # fmt: skip


def through(one: OnnxDetector, *some: Points) -> list[Floats]:
    scores = []
    for each in some:
        scores.append(one.score(each))
        one.learn(each)
    return scores


def test_a_forecast_is_held_against_what_comes(tmp_path: Path) -> None:
    """The score is the distance in spreads; there is none before all its windows are there."""
    one = detector(tmp_path, files.foretells(), BEFORE, 2)
    found = through(
        one, points(0, [20, 0]), points(1, [24, 8]), points(2, [22, 6]), points(3, [22.5, 36.5]),
    )  # fmt: skip
    assert np.isnan(found[0]).all()
    assert np.isnan(found[1]).all()
    # A quarter of the older and three of the newer foretell 23 and 6; then 22.5 and 6.5.
    assert found[2].tolist() == pytest.approx([0.5, 0.0])
    assert found[3].tolist() == pytest.approx([0.0, 15.0])


def test_a_window_that_is_missing_is_no_input(tmp_path: Path) -> None:
    """A gap of a window is waited out; with `most` and `fill` what was before it stands for it."""
    windows = [points(0, [20]), points(1, [24]), points(3, [22]), points(4, [22]), points(5, [22])]
    assert [score[0] for score in through(detector(tmp_path, files.foretells(), BEFORE, 1), *windows)] == (
        pytest.approx([NAN, NAN, NAN, NAN, 0.0], nan_ok=True)
    )
    lenient = BEFORE.replace("windows = 2", 'windows = 2\nmissing = { fill = "last", most = 1 }')
    # At 3: 24 and, for what is missing, 24; at 4: what is missing is the older one, for which the centre, 20, stands.
    assert [score[0] for score in through(detector(tmp_path, files.foretells(), lenient, 1), *windows)] == (
        pytest.approx([NAN, 2.0, 1.0, 0.25, 0.0], nan_ok=True)
    )


def test_a_device_is_judged_by_all_its_metrics_together(tmp_path: Path) -> None:
    """Scaled by its own first windows, and blamed is the metric that the others do not explain."""
    one = detector(tmp_path, files.together(), TOGETHER, 2)
    rng = np.random.default_rng(1)
    for window in range(80):
        load = rng.standard_normal(2)
        both = np.stack([100 + 10 * load, 5 + load, 2 + load / 10], axis=1) * [[1.0], [7.0]]
        score = one.score(points(window, both))
        assert np.isnan(score).all() == (window < 20)
        one.learn(points(window, both))
    assert (score < 0.1).all()
    worn = np.array([[100.0, 5.0, 2.4], [700.0, 35.0, 14.0]])
    now = points(80, worn)
    score = one.score(now)
    assert score[0] > 1
    assert score[1] < 0.2
    assert one.blames(now, 0) == 2
    words = one.words(now, 0)
    assert words.startswith("vibration is ")
    assert " times further than usual from what flow and power suggest (2.4 instead of " in words


def test_a_metric_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    """Up to `most` of them; the distance is that of the others."""
    one = detector(tmp_path, files.together(), TOGETHER, 1)
    for window in range(20):
        one.learn(points(window, [[window % 2, window % 2, window % 2]]))
    # Scaled by centre 0.5 and spread 0.5: 1, -, 3.
    assert one.score(points(20, [[1.0, NAN, 2.0]]))[0] == pytest.approx(1.9039433)
    assert np.isnan(one.score(points(20, [[1.0, NAN, NAN]]))[0])


def test_a_series_that_never_moved_has_a_scale_and_the_furthest_value_a_score(tmp_path: Path) -> None:
    """No infinity and no NaN comes out, however far a value is from what was."""
    one = detector(tmp_path, files.together(), TOGETHER, 1)
    for window in range(20):
        one.learn(points(window, [[1.0, 1.0, 0.0]]))
    for value in (1e-9, 1.0, 1e300, -1e300):
        assert np.isfinite(one.score(points(20, [[1.0, 1.0, value]]))[0])


@pytest.mark.parametrize("kind", ["reconstruction", "forecast", "score"])
def test_a_batch_equals_one_by_one(kind: str, tmp_path: Path) -> None:
    """Many series together, and each alone, through gaps and metrics that are missing: the same scores to 1e-6, and the same kept."""
    of = _network(kind)
    together, alone = (detector(tmp_path, *of, 40) for _ in range(2))
    for some in _rounds(40):
        whole = through(together, some)[0]
        parts = np.concatenate([through(alone, some.take(np.array([at])))[0] for at in range(len(some))])
        assert whole.tolist() == pytest.approx(parts.tolist(), rel=1e-6, abs=1e-6, nan_ok=True)
    assert np.isfinite(whole).any()
    for name in together.KEPT:
        assert getattr(together, name).tolist() == [
            pytest.approx(one, rel=1e-5, abs=1e-6, nan_ok=True) if np.ndim(one) < 2 else [
                pytest.approx(part, nan_ok=True) for part in one
            ] for one in getattr(alone, name).tolist()
        ]  # fmt: skip


def _network(kind: str) -> tuple[bytes, str]:
    """Four windows of two values of two metrics; the golden score is what the model says: here only its own bits matter."""
    outputs = {"reconstruction": 16, "forecast": 4, "score": 1}[kind]
    body = files.network(16, 9, outputs)
    golden = "next = [0.0, 0.0, 0.0, 0.0]\n" if kind == "forecast" else ""
    manifest = f"""[model]
opset = 17
level = "10s"
output = "{kind}"
metrics = ["a", "b"]
values = ["mean", "spread"]
windows = 4
scaling = {{ by = "own", windows = 5 }}
missing = {{ fill = "last", most = 6 }}
golden = [{{ input = {[0.0] * 16}, {golden.strip()}{", " if golden else ""}score = SCORE }}]
"""
    bias = np.random.default_rng(1)
    bias.standard_normal((16, 9)), bias.standard_normal((9, outputs))
    out = bias.standard_normal(outputs)
    score = out[0] if kind == "score" else np.sqrt(np.mean(out**2))
    return body, manifest.replace("SCORE", f"{score:.6f}")


def _rounds(rows: int) -> list[Points]:
    """Thirty windows; of some rows some are missing, and of some devices a metric."""
    rng = np.random.default_rng(2)
    found = []
    for window in range(30):
        row = np.flatnonzero(rng.random(rows) < (1.0 if window % 3 else 0.8))
        value = rng.standard_normal((len(row), 2)) * 5 + 50
        if window % 4 == 1:
            gone = rng.random(value.shape) < 0.2
            gone[gone.all(axis=1)] = False
            value[gone] = NAN
        found.append(points(window, value, row))
    return found


@pytest.mark.parametrize("kind", ["reconstruction", "forecast", "score"])
def test_r31_a_restart_at_any_window_changes_no_bit(kind: str, tmp_path: Path) -> None:
    """What is dumped and taken up by a fresh session scores as if nothing had been."""
    of = _network(kind)
    whole = detector(tmp_path, *of, 12)
    cut = detector(tmp_path, *of, 12)
    for some in _rounds(12):
        cut, before = detector(tmp_path, *of, 12), cut
        cut.load(before.dump())
        assert through(whole, some)[0].tobytes() == through(cut, some)[0].tobytes()
    for name, column in whole.dump().items():
        assert column.tobytes() == cut.dump()[name].tobytes()


def test_what_was_learnt_under_another_model_is_not_taken_up(tmp_path: Path) -> None:
    """Even if its columns have the same shape: the weights, or a word of the manifest, changed."""
    former = detector(tmp_path, files.foretells(), BEFORE, 3)
    kept = former.dump()
    detector(tmp_path, files.foretells(), BEFORE, 3).load(kept)
    for body, manifest in (
        (files.linear([[0.25], [0.75]], 1e-6), BEFORE), (files.foretells(), BEFORE.replace("opset", "about = 'x'\nopset")),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="another one than in the snapshot"):
            detector(tmp_path, body, manifest, 3).load(kept)


def test_rows_grow_are_forgotten_and_keep_their_size(tmp_path: Path) -> None:
    """A series that is let go begins anew, the others go on; a row weighs the same for ever."""
    one = detector(tmp_path, files.foretells(), BEFORE, 1)
    through(one, points(0, [20]), points(1, [24]))
    one.grow(3)
    through(one, points(2, [22, 1, 2]), points(3, [22, 1, 2]))
    size = sum(column.nbytes for column in one.dump().values())
    assert size == pytest.approx(3 * one.bytes_of_a_row())
    one.forget(np.array([0, 2]))
    assert np.isnan(one.score(points(4, [22, 1, 2]))).tolist() == [True, False, True]
    through(one, *(points(window, [22, 1, 2]) for window in range(4, 40)))
    assert sum(column.nbytes for column in one.dump().values()) == size


def test_all_series_are_one_call_of_the_session(tmp_path: Path) -> None:
    """A round over five hundred series calls onnxruntime once."""
    one = detector(tmp_path, files.foretells(), BEFORE, 500)
    through(one, points(0, np.full(500, 20.0)), points(1, np.full(500, 20.0)))
    calls = []
    session = one.model._session

    class Counted:
        def run(self, *arguments: Any) -> Any:
            calls.append(arguments)
            return session.run(*arguments)

    one.model._session = Counted()
    through(one, points(2, np.full(500, 20.0)), points(3, np.full(500, 20.0)))
    assert len(calls) == 2


def test_the_other_words(tmp_path: Path) -> None:
    """Of a forecast what it foretold, of a score itself and what it is as a rule, of one series' windows that they are strange."""
    one = detector(tmp_path, files.foretells(), BEFORE, 1)
    through(one, *(points(window, [20 + window % 2]) for window in range(60)))
    assert one.words(points(60, [35]), 0) == (
        "the mean is 19.0 times further than usual from what onnx:m.onnx foretells (35 instead of 20.75)"
    )
    score = BEFORE.replace('"forecast"', '"score"').replace("next = [22.0]\n", "").replace("0.5", "1.5")
    one = detector(tmp_path, files.foretells(), score, 1)
    through(one, *(points(window, [22]) for window in range(60)))
    assert one.words(points(60, [35]), 0) == "onnx:m.onnx gives 5.88, usually 1"
    windows = (
        BEFORE.replace('"forecast"', '"reconstruction"').replace("next = [22.0]\n", "").replace("0.5", "0.0")
    )
    one = detector(tmp_path, files.linear(np.eye(2), 1e-6), windows, 1)
    through(one, *(points(window, [22]) for window in range(60)))
    assert one.words(points(60, [35]), 0).startswith("the last 2 windows are 1.")
