"""River's detectors: by name and parameters, the same as the bare library, the same to the last bit when run again."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
import zlib
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from river import anomaly as bare
from river import compose, preprocessing

from headwater_edge.detection.make import made
from headwater_edge.detection.models import digest
from headwater_edge.detection.river import River
from headwater_edge.detection.specs import Spec, words
from headwater_edge.detection.weigh import check_weight, weight
from headwater_shared.errors import SettingsError
from tests.edge.judging import EACH, again, anomaly, ensemble, points, tails, use, walk

METRICS = ("flow", "temp", "vibration")


def _bare(name: str, **parameters: Any) -> Any:
    """One of River's that it gives no types."""
    module, _, kind = name.rpartition(".")
    return getattr(import_module(f"river.{module}"), kind)(**parameters)


def _river(spec: Spec) -> River:
    (one,) = made([spec])
    assert isinstance(one, River)
    one.grow(3)
    return one


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        (EACH["StandardAbsoluteDeviation"], bare.StandardAbsoluteDeviation()),
        (EACH["GaussianScorer"], _bare("anomaly.GaussianScorer", window_size=40, grace_period=30)),
        (
            EACH["PredictiveAnomalyDetection, HoltWinters"],
            bare.PredictiveAnomalyDetection(
                _bare("time_series.HoltWinters", alpha=0.3, beta=0.1, gamma=0.5, seasonality=24)
            ),
        ),
    ],
    ids=["StandardAbsoluteDeviation", "GaussianScorer", "HoltWinters"],
)
def test_a_detector_that_judges_a_value_says_what_the_bare_library_says(spec: Spec, model: Any) -> None:
    """Fed with the same values one by one; nothing is asked for in the first windows, and a 0 of those that follow says nothing."""
    one, chance, said = _river(spec), random.Random(1), 0
    for at in range(200):
        y = chance.gauss(10, 1) + 5 * (at > 150)
        score = one.score(points(at, [y], [1]))[0]
        if not np.isnan(score):
            assert score == model.score_one({}, y)
            said += 1
        elif at >= 25:
            model.score_one({}, y)
        model.learn_one({}, y)
    assert said > 160
    assert not one.failures


def test_a_detector_that_judges_features_has_a_pipeline_before_it() -> None:
    """HalfSpaceTrees behind a scaler, seeded by the name of the series: what compose.Pipeline with that seed says."""
    one = _river(EACH["HalfSpaceTrees"])
    one.names = ["s1/d1/a", "s1/d1/b", "s1/d1/c"]
    model = compose.Pipeline(
        preprocessing.MinMaxScaler(),
        bare.HalfSpaceTrees(n_trees=3, height=4, window_size=30, seed=zlib.crc32(b"s1/d1/a")),
    )
    chance = random.Random(1)
    for at in range(120):
        x = chance.gauss(0, 1)
        score = one.score(points(at, [x], [0]))[0]
        if at >= 30:
            assert score == model.score_one({"value": x})
        else:
            assert np.isnan(score)
        model.learn_one({"value": x})


def test_of_a_device_one_metric_is_judged_and_the_others_help() -> None:
    """What is not there is left out; without the metric that is judged there is nothing to say, and nothing to learn."""
    one = _river(anomaly("PredictiveAnomalyDetection", metrics=METRICS))
    assert one.WHOLE_DEVICES
    model, chance = bare.PredictiveAnomalyDetection(), random.Random(1)
    for at in range(80):
        flow, temp = chance.gauss(5, 1), chance.gauss(20, 1)
        row = [flow, temp, np.nan] if at % 5 else [np.nan, temp, 3.0]
        score = one.score(points(at, [row], [2]))[0]
        if not at % 5:
            assert np.isnan(score)
            continue
        if one.learnt[2] > 10:
            assert score == model.score_one({"temp": temp}, flow)
        model.learn_one({"temp": temp}, flow)
    assert one.learnt.tolist() == [0, 0, 64]


def test_of_a_device_all_metrics_are_features() -> None:
    """One that judges features has those of the metrics that are there, by their names."""
    one = _river(anomaly("OneClassSVM", metrics=METRICS))
    model, chance = _bare("anomaly.OneClassSVM"), random.Random(1)
    for at in range(60):
        row = [chance.gauss(0, 1) for _ in METRICS]
        row[at % 3] = np.nan if at % 4 == 0 else row[at % 3]
        x = {name: v for name, v in zip(METRICS, row, strict=True) if not np.isnan(v)}
        score = one.score(points(at, [row], [0]))[0]
        if at >= 10:
            assert score == model.score_one(x)
        model.learn_one(x)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("metrics", [(), METRICS], ids=["a series", "a device"])
def test_r31_the_same_windows_give_the_same_scores_from_any_snapshot(
    name: str, metrics: tuple[str, ...]
) -> None:
    """Run again, one by one, and through a snapshot in the middle: the same to the last bit, and the models are the same, too."""
    plain = EACH[name]
    spec = Spec(plain.use, plain.parameters, plain.before, metrics)
    one, single = ensemble(spec), ensemble(spec)
    back = None
    for at, some in enumerate(walk(120, 3, len(metrics))):
        judged = one.judge(some)
        assert not judged.stopped
        for each in range(len(some)):
            alone = single.judge(some.take([each]))
            assert alone.tails.tobytes() == judged.tails[each].tobytes()
        if back is not None:
            assert tails(back.judge(some)) == tails(judged)
        if at % 40 == 39:
            back = again(one, spec)
    assert np.isfinite(judged.tails).any() or "Filter" in name or "HoltWinters" in name
    assert back is not None
    assert not back.detectors[0].lost  # type: ignore[attr-defined]
    models = [[digest(m) for m in e.detectors[0]._models] for e in (one, single, back)]  # type: ignore[attr-defined]
    assert models[0] == models[1] == models[2]


def test_r31_randomness_is_of_the_series_name() -> None:
    """Another process, with another hash seed, gives the same bits; another series has other trees."""
    text = (
        "from tests.edge.judging import *\n"
        "import hashlib\n"
        "one = ensemble(EACH['HalfSpaceTrees'], EACH['LODA'], EACH['OneClassSVM'])\n"
        "said = b''.join(tails(one.judge(some)) for some in walk(60, 3))\n"
        "print(hashlib.sha256(said).hexdigest())"
    )
    run = [
        subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert run[0] == run[1]
    one = ensemble(EACH["HalfSpaceTrees"])
    for at in range(40):
        one.judge(points(at, [at % 7] * 3))
    trees = [digest(model) for model in one.detectors[0]._models]  # type: ignore[attr-defined]
    assert len(set(trees)) == 3


def test_a_digest_tells_models_apart() -> None:
    """One more window, another parameter: another digest; a copy has the same."""
    one = ensemble(EACH["HalfSpaceTrees"])
    for some in walk(40, 3):
        one.judge(some)
    model = one.detectors[0]._models[0]  # type: ignore[attr-defined]
    before = digest(model)
    assert digest(copy.deepcopy(model)) == before
    model.learn_one({"value": 3.0})
    assert digest(model) != before


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (Spec("river.anomaly.HalfSpaceForest"), r"use: there is no 'river.anomaly.HalfSpaceForest' here"),
        (Spec("river.datasets.Bananas"), r"there is river.anomaly.GaussianScorer, river.anomaly.HalfSpaceTrees"),
        (anomaly("HalfSpaceTrees", {"n_tree": 3}), r"parameters.n_tree: .* no such parameter\n.*it has n_trees, height"),
        (anomaly("LODA", before=("river.preprocessing.OneHotEncoder",)), r"before\[0\].use: there is no .*OneHotEncoder"),
        (
            anomaly("PredictiveAnomalyDetection", {"predictive_model": use("time_series.HoltWinters", alpa=0.3)}),
            r"parameters.predictive_model.parameters.alpa: river.time_series.HoltWinters has no such parameter",
        ),
        (
            anomaly("PredictiveAnomalyDetection", {"predictive_model": use("tree.HoeffdingTreeRegressor")}),
            r"parameters.predictive_model.use: there is no",
        ),
        (
            anomaly("PredictiveAnomalyDetection", {"predictive_model": {"use": "river.stats.Mean", "with": 3}}),
            r"parameters.predictive_model: .*unknown field `with`",
        ),
        (
            anomaly("PredictiveAnomalyDetection", {"predictive_model": use("time_series.HoltWinters")}),
            r"cannot be made with these parameters: .*alpha",
        ),
        (
            anomaly("GaussianScorer", before=("river.preprocessing.StandardScaler",)),
            r"before: river.anomaly.GaussianScorer judges a value",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_settings_error(spec: Spec, says: str) -> None:
    """It names the key, and says what there is."""
    with pytest.raises(SettingsError, match=says):
        made([spec])


def test_parameters_that_it_cannot_learn_with_are_found_before_it_is_put_to_work() -> None:
    """A model is tried out when it is weighed."""
    with pytest.raises(SettingsError, match="LODA cannot learn with these parameters: TypeError"):
        weight(anomaly("LODA", {"n_random_cuts": "many"}))


@pytest.mark.parametrize(
    ("spec", "least", "most"),
    [
        (EACH["StandardAbsoluteDeviation"], 300, 2_000),
        (anomaly("PredictiveAnomalyDetection"), 2_000, 10_000),
        (anomaly("GaussianScorer", {"window_size": 1000}), 50_000, 300_000),
        (anomaly("LODA"), 100_000, 300_000),
        (anomaly("HalfSpaceTrees"), 800_000, 2_000_000),
    ],
)
def test_a_detector_is_weighed(spec: Spec, least: int, most: int) -> None:
    """About what was measured of River by other means; above 1,000 series the heavy ones are refused, with their weight."""
    assert least < weight(spec) < most
    assert least < check_weight(spec, 1_000) < most
    if least < 20_000:
        assert check_weight(spec, 20_000) < most
        return
    with pytest.raises(SettingsError, match=rf"{spec.use} takes \d+ KB a series .*for 1,001"):
        check_weight(spec, 1_001)


def test_specs_have_words_of_their_own() -> None:
    """State is known again by them: the same spec, the same words, whatever the order of its parameters."""
    assert words(Spec("river.anomaly.LODA")) == "river.anomaly.LODA"
    one = Spec("x", {"a": 1, "b": 2.5})
    assert words(one) == words(Spec("x", {"b": 2.5, "a": 1})) != words(Spec("x", {"a": 1}))


def test_river_stays_unimported_unless_named() -> None:
    """An agent without it never loads it: it costs 90 MB and two seconds."""
    text = (
        "import sys; import headwater_edge.pipeline, headwater_edge.process\n"
        "from headwater_edge.detection.make import made; made(['default'])\n"
        "from headwater_edge.detection import signed, key, unpickle, models, ensemble\n"
        "print([name for name in sys.modules if name.partition('.')[0] in {'river', 'scipy'}])"
    )
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"


def test_what_a_series_takes_can_be_asked_for() -> None:
    """Of a few models: the bytes that they are pickled; 0 before there is one."""
    one = _river(EACH["GaussianScorer"])
    assert one.bytes_of_a_row() == 0
    for at in range(60):
        one.score(points(at, [1.0 + at % 5] * 3))
    assert 500 < one.bytes_of_a_row() < 20_000
