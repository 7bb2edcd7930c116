"""A detector that raises, gives no number or grows slow is set aside for its series; the others go on (R12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater_edge import journal
from headwater_edge.detect_settings import DetectSettings
from headwater_edge.detection import aside, slow
from headwater_edge.detection.detector import Detector
from headwater_edge.detection.ensemble import Ensemble
from headwater_edge.detection.points import Floats, Points
from headwater_edge.detection.slow import Stopwatch
from headwater_edge.detection.sudden import Sudden
from headwater_edge.events import DetectorSlow
from headwater_edge.tick import quiet_tick
from headwater_shared.clock import SetClock
from tests.edge.judging import EACH, S10, again, ensemble, points, tails, walk
from tests.edge.run import Run
from tests.edge.running import edge_settings, running
from tests.edge.test_agent import reading
from tests.edge.test_agent import run as run_async
from tests.edge.test_detection_in_step import TEMP, day, found, run_of
from tests.support import until_async

BAD = 666.0


class _Fails(Sudden):
    """Columnar: it raises, or says infinity, when it sees a certain value."""

    name = "fails"
    how = "score raises"

    def score(self, points: Points) -> Floats:
        bad = points.value == BAD
        if self.how == "score raises" and bad.any():
            raise ZeroDivisionError("on purpose")
        return np.where(bad & (self.how == "infinite"), np.inf, super().score(points))

    def learn(self, points: Points) -> None:
        super().learn(points)
        if self.how == "learn raises" and (points.value == BAD).any():
            raise ZeroDivisionError("on purpose")


class _Model:
    """In the place of one of River's: what it says and does of a bad value."""

    def __init__(self, score: Callable[[float], Any], learn: Callable[[float], Any]) -> None:
        self._score, self._learn, self.learnt = score, learn, 0

    def score_one(self, x: dict[str, float], y: float) -> Any:
        return self._score(y)

    def learn_one(self, x: dict[str, float], y: float) -> None:
        self.learnt += 1
        self._learn(y)


def _raises(value: float) -> float:
    if value == BAD:
        raise ZeroDivisionError("on purpose")
    return 1.0


RIVER = {
    "score raises": (_raises, lambda _: None, "it raised ZeroDivisionError: on purpose"),
    "learn raises": (lambda _: 1.0, _raises, "it raised ZeroDivisionError: on purpose"),
    "NaN": (lambda y: math.nan if y == BAD else 1.0, lambda _: None, "its score is not a number"),
    "infinite": (lambda y: math.inf if y == BAD else 1.0, lambda _: None, "its score is not a number"),
}


def _learnt(*detectors: Detector, rows: int = 4) -> Ensemble:
    one = Ensemble(detectors)
    one.grow(rows)
    for at in range(40):
        one.judge(points(at, [10 + at % 3] * rows))
    return one


@pytest.mark.parametrize("how", RIVER)
def test_r12_a_model_that_fails_is_set_aside_for_its_series_only(how: str) -> None:
    """By raising, or by a score that is no number: its series says so; other series, and other detectors of it, go on."""
    one = ensemble("sudden", EACH["StandardAbsoluteDeviation"], rows=4)
    score, learn, why = RIVER[how]
    river = one.detectors[1]
    for at in range(40):
        one.judge(points(at, [10 + at % 3] * 4))
        river._models[2] = _Model(score, learn)  # type: ignore[attr-defined]
    judged = one.judge(points(40, [11, 11, BAD, 11]))
    assert [tuple(each) for each in judged.stopped] == [
        (2, "river.anomaly.StandardAbsoluteDeviation", why, 40 * S10, aside.WINDOWS)
    ]
    assert np.isfinite(judged.tails[:, 0]).all()
    assert np.isfinite(judged.tails[[0, 1, 3], 1]).all()
    assert river._models[2] is None  # type: ignore[attr-defined]
    assert river.learnt.tolist() == [41, 41, 0, 41]  # type: ignore[attr-defined]
    for at in range(41, 41 + aside.WINDOWS):
        judged = one.judge(points(at, [11 + at % 2] * 4))
        assert math.isnan(judged.tails[2, 1])
        assert not judged.stopped
    assert one.stopped() == []
    assert river.learnt[2] == 0  # type: ignore[attr-defined]
    for at in range(1_000, 1_040):
        judged = one.judge(points(at, [11 + at % 2] * 4))
    assert np.isfinite(judged.tails).all()
    assert river.learnt[2] == 40  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["score raises", "learn raises", "infinite"])
def test_r12_a_columnar_detector_that_fails_is_set_aside_for_the_rows_of_the_call(how: str) -> None:
    """It does not say which row it was, so all of the call are; of infinity it is known. It forgets them; others know theirs."""
    fails = _Fails()
    fails.how = how
    one = _learnt(Sudden(), fails)
    judged = one.judge(points(40, [11, BAD, 11], [0, 1, 3]))
    stopped = [1] if how == "infinite" else [0, 1, 3]
    assert [each.row for each in judged.stopped] == stopped
    assert [each.row for each in one.stopped()] == stopped
    assert {each.why for each in one.stopped()} == {"it failed"}
    assert fails.count.tolist() == [0 if row in stopped else 41 if row != 2 else 40 for row in range(4)]
    assert one.detectors[0].count.tolist() == [41, 41, 40, 41]  # type: ignore[attr-defined]
    assert np.isfinite(judged.tails[:, 0]).all()


def test_r12_what_is_set_aside_is_state() -> None:
    """It stays so through a snapshot, and a journal run again comes to the same, to the last bit."""
    specs = ("sudden", EACH["StandardAbsoluteDeviation"])
    one, other = ensemble(*specs), ensemble(*specs)
    windows = list(walk(120, 3))
    for at, some in enumerate(windows):
        if at == 50:
            one.set_aside("river.anomaly.StandardAbsoluteDeviation", np.array([1]), 77)
            other.set_aside("river.anomaly.StandardAbsoluteDeviation", np.array([1]), 77)
        if at == 80:
            other = again(other, *specs)
            assert [tuple(each) for each in other.stopped()] == [tuple(each) for each in one.stopped()]
            assert one.stopped()[0].since_us == 77
        assert tails(one.judge(some)) == tails(other.judge(some))


def test_what_a_detector_says_in_vain_does_not_reach_its_tail() -> None:
    """A score that is infinite is no score; the next one is compared with good ones only."""
    fails = _Fails()
    fails.how = "infinite"
    one = _learnt(fails)
    before = one.tails[0].count.copy()
    one.judge(points(40, [11, BAD, 11, 11]))
    assert (one.tails[0].count - before).tolist() == [1, 0, 1, 1]


class _Clock:
    """A stopwatch's clock that a detector moves on."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class _Slow(Sudden):
    """Takes so long for each window of a certain row."""

    name = "slow"
    ONE_BY_ONE = True

    def __init__(self, clock: _Clock, row: int, ns: int) -> None:
        super().__init__()
        self._clock, self._row, self._ns = clock, row, ns

    def score(self, points: Points) -> Floats:
        self._clock.ns += 1_000 * len(points) + self._ns * int((points.row == self._row).sum())
        return super().score(points)


@pytest.mark.parametrize(
    ("by_row", "ns", "rows"), [(True, slow.CALL_NS, [2]), (False, slow.CALL_NS, [0, 1, 2])]
)
def test_a_slow_detector_is_found_beside_the_step(by_row: bool, ns: int, rows: list[int]) -> None:
    """Three times in a row too slow: that is told, for the row if it can be known; nothing that is judged has changed."""
    clock = _Clock()
    slow_one, quick = _Slow(clock, 2, ns), Sudden()
    slow_one.ONE_BY_ONE = by_row  # type: ignore[misc]
    one, plain = Ensemble([slow_one, quick]), Ensemble([_Slow(_Clock(), 2, ns), Sudden()])
    one.grow(3)
    plain.grow(3)
    one.stopwatch = Stopwatch(2, clock)
    found = []
    for at in range(3):
        some = points(at, [1, 2, 3])
        assert tails(one.judge(some)) == tails(plain.judge(some))
        found.append(one.stopwatch.drain())
    assert found == [[], [], [(0, rows)]]
    assert one.stopwatch.points == [9, 9]
    assert one.stopped() == []
    one.set_aside("slow", np.array(rows), 123)
    assert {(each.row, each.why, each.since_us) for each in one.stopped()} == {
        (row, "it was slow", 123) for row in rows
    }


def test_once_slow_is_not_slow() -> None:
    """The machine may have been busy: a quick call in between begins the count anew."""
    clock = _Clock()
    watch = Stopwatch(1, clock)
    row = np.arange(5)
    for ns in (slow.CALL_NS + 1, slow.CALL_NS + 1, 1_000, slow.CALL_NS + 1, slow.CALL_NS + 1):
        watch.took(0, row, [ns])
    assert watch.drain() == []


def test_a_slow_detector_is_a_journaled_event() -> None:
    """Only what the journal says sets a detector aside, so a replay does the same."""
    event = DetectorSlow("bearings", "river.anomaly.LODA", ["s1/d1/temp", "s1/d2/temp"])
    tick = quiet_tick(SetClock().now(), event)
    assert journal.decode(journal.encode(tick)).events == tick.events


_FAILS = """
import numpy as np

from headwater_edge.detection.detector import Detector


class Fails(Detector):
    def score(self, points):
        if (points.value > 70).any():
            raise ZeroDivisionError("on purpose")
        return np.zeros(len(points))
"""


def test_r12_a_detector_that_fails_in_the_step_is_said_with_its_reason(tmp_path: Path) -> None:
    """The tick warns once, of the detector, its series and what it raised; the others find what there is, and a replay says the same."""
    (tmp_path / "fails.py").write_text(_FAILS)
    rule = DetectSettings("watched", "*", ("default", f"{tmp_path}/fails.py:Fails"))
    run = run_of((rule,))
    for message in day(1, 120, 90):
        run.tick(message)
    said = [warning for output in run.outputs for warning in output.warnings]
    assert said == [
        f"fails.py:Fails of watched is set aside for {TEMP}: it raised ZeroDivisionError: on purpose"
    ]
    assert [one.phase for one in found(run)] == ["begin", "end"]
    run.crash()


def test_r12_a_slow_detector_is_set_aside_by_its_event() -> None:
    """From the tick that has the event on, for the series that it names."""
    run = run_of()
    for message in day(1, 30, -1):
        run.tick(message)
    run.tick(events=(DetectorSlow("unusual", run_detector(run), [TEMP]),))
    (judge,) = run.state.detection.judges
    assert [(one.row, one.why) for one in judge.alone.ensemble.stopped()] == [(0, "it was slow")]
    run.crash()


def test_a_detector_that_was_slow_is_set_aside_though_nobody_sends_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of the next tick begins that tick: no burst need come, and none is waited for."""
    monkeypatch.setattr(slow, "POINT_NS", -1)  # whatever takes any time is slow
    settings = edge_settings(windows={"lateness": "0s"}, detect=(DetectSettings("watched", "*"),))

    async def test() -> None:
        async with running(tmp_path, settings) as box:
            await box.publish(*(reading(10 * at, 20.0 + at % 3) for at in range(60)))
            (judge,) = box.agent.state.detection.judges
            await until_async(judge.alone.ensemble.stopped, what="it is set aside")
            assert {one.why for one in judge.alone.ensemble.stopped()} == {"it was slow"}

    run_async(test())


def run_detector(run: Run) -> str:
    """The name of the first of its detectors."""
    (judge,) = run.state.detection.judges
    return judge.alone.ensemble.detectors[0].name
