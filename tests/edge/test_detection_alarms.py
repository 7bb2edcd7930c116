"""The default ensemble: seldom a false alarm, whatever the noise and however long the windows; what is unlike before is found, with reasons."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater_edge.detection.ensemble import Ensemble, Judged
from headwater_edge.detection.fuse import ALARMS, Fuse, rest, threshold
from headwater_edge.detection.make import made
from headwater_edge.detection.points import Points
from headwater_edge.detection.tail import Tails
from tests.edge.detecting import SERIES, calls
from tests.edge.streams import DAY, WEEK, quiet, windows_of

MINUTES_5 = 300.0


def default(rows: int) -> Ensemble:
    made_one = Ensemble(made(["default"]))
    made_one.grow(rows, [f"s1/d{at}/m" for at in range(rows)])
    return made_one


def alarms(columns: NDArray[np.float64], step_s: float) -> NDArray[np.int64]:
    """Return how many alarms begin in each week of each stream; shape (weeks, streams)."""
    one = default(columns.shape[1])
    weeks = np.zeros((int(np.ceil(len(columns) * step_s / WEEK)), columns.shape[1]), np.int64)
    for at, points in enumerate(windows_of(columns, step_s)):
        weeks[int(at * step_s / WEEK)] += one.judge(points).fused.begins
    return weeks


def _promised(step_s: float, weeks: float, seeds: int, first_week: float = 3.0) -> None:
    windows = int(weeks * WEEK / step_s)
    some = [quiet(windows, step_s, seed) for seed in range(seeds)]
    columns = np.array([column for one in some for column in one.values()]).T
    found = alarms(columns, step_s).reshape(-1, seeds, len(some[0])).mean(axis=1)
    assert found[0].mean() <= first_week
    if len(found) > 1:
        assert found[1:].mean() <= 1.25 * ALARMS
        for kind, per_week in zip(some[0], found[1:].mean(axis=0), strict=True):
            assert per_week <= 2.5 * ALARMS, kind


def test_in_streams_in_which_nothing_happens_alarms_are_as_seldom_as_promised() -> None:
    """In windows of 5 minutes: about one in a stream-week in the mean after the first, and not many more for any kind of noise."""
    _promised(MINUTES_5, 3, 1)


def test_windows_of_an_hour_alarm_as_seldom() -> None:
    """The threshold follows from the length of the windows."""
    _promised(3600.0, 8, 1)


@pytest.mark.fault
def test_windows_of_ten_seconds_alarm_as_seldom() -> None:
    """60,480 windows a week, and no more alarms."""
    _promised(10.0, 2, 1)


def test_the_bar_holds_what_comes_time_and_again() -> None:
    """A stream that goes beyond the threshold each day has but one alarm a week in the long run, for each raises the bar."""
    fuse = Fuse()
    fuse.grow(1)
    length, weeks = 3_600_000_000, np.zeros(40)
    for at in range(40 * WEEK // 3600):
        rarity = 2.5 if at % 24 == 0 else 0.1
        begins = fuse.fuse(_one(1.0, at, length), np.array([[rarity]])).begins[0]
        weeks[at * 3600 // WEEK] += begins
    assert weeks[:1].sum() >= 3
    assert weeks[20:].mean() <= ALARMS


def test_windows_of_10_ms_and_of_an_hour_have_thresholds_that_promise_the_same() -> None:
    """A hundred times as many windows a week ask for two decades more, unless a rest holds many of them; a rest is half a day, of 12 to 360 windows."""
    assert threshold(10_000) == pytest.approx(threshold(1_000_000) + 2)
    assert threshold(300_000_000) == pytest.approx(threshold(3_600_000_000) + np.log10(12), abs=0.05)
    assert [rest(length) for length in (10_000, 10_000_000, 300_000_000, 3_600_000_000)] == [
        360,
        360,
        150,
        12,
    ]


def _one(value: float, at: int, length: int) -> Points:
    there = np.array([value])
    none = np.zeros(1, np.int64)
    start = np.array([1_795_046_400_000_000 + at * length])
    return Points(none, none, start, there, there, there, np.zeros(1), none + 1, length)


@pytest.mark.parametrize("kind", ["normal", "exponential", "student t of 3", "whole numbers"])
def test_a_tail_is_a_probability(kind: str) -> None:
    """Of 200,000 scores of any distribution at most three in a thousand have a tail of three decades, and at least one in 10,000; it never ends."""
    chance = np.random.default_rng(3)
    n, steps = 200, 2000
    size = (steps, n)
    scores = {
        "normal": np.abs(chance.normal(size=size)),
        "exponential": chance.exponential(size=size),
        "student t of 3": np.abs(chance.standard_t(3, size)),
        "whole numbers": np.round(3 * np.abs(chance.normal(size=size))),
    }[kind]
    tails, row, seen = Tails(), np.arange(n), []
    tails.grow(n)
    for score in scores:
        seen.append(tails.of(row, score))
        tails.take(row, score)
    late = np.array(seen[steps // 2 :])
    assert np.isfinite(late).all()
    assert 1e-4 <= (late >= 3).mean() <= 3e-3
    far, farther = (float(tails.of(row[:1], np.array([x]))[0]) for x in (1e3, 1e6))
    assert 3 < far < farther


def test_a_jump_a_new_extreme_and_noise_are_found_with_their_reasons() -> None:
    """Each begins an alarm within a few windows and ends; the reasons say what it is."""
    chance = np.random.default_rng(7)
    step, at = MINUTES_5, 5 * DAY // 300
    t = np.arange(at + 150)
    usual = 15 + 5 * np.sin(t / 288 * 2 * np.pi)[:, None] + 0.3 * chance.normal(size=(len(t), 3))
    usual[at:, 0] += 12  # new level
    usual[at, 1] += 25  # one window
    usual[at : at + 40, 2] += 4 * chance.normal(size=40)  # restless
    one = default(3)
    ended: set[int] = set()
    found: dict[int, tuple[int, list[str]]] = {}
    for k, points in enumerate(windows_of(usual, step)):
        judged = one.judge(points)
        for series in np.flatnonzero(judged.fused.begins).tolist():
            if k >= at:
                found.setdefault(series, (k - at, judged.words[series]))
        if k > at:
            ended |= set(np.flatnonzero(judged.fused.ends).tolist())
    assert set(found) == {0, 1, 2}
    assert all(late <= 12 for late, _ in found.values())
    assert "new maximum" in " ".join(found[1][1])
    assert "times the usual spread" in " ".join(found[0][1])
    assert 1 in ended


def test_a_metric_that_leaves_its_relation_is_found() -> None:
    """Two metrics of a device that go together: a value that is usual for each alone, but not together, is told by the relation."""
    chance = np.random.default_rng(8)
    one = default(2)
    scores, words = [], ""
    for at in range(1500):
        load = chance.uniform(0, 10)
        value = np.array([load, 2 * load + 0.1 * chance.normal()])
        if at == 1490:
            value = np.array([2.0, 16.0])
        row = np.arange(2)
        points = Points(
            row, np.zeros(2, np.int64), np.full(2, 1_795_046_400_000_000 + at * 10_000_000), value, value, value,
            np.zeros(2), np.ones(2, np.int64), 10_000_000,
        )  # fmt: skip
        if at == 1490:
            words = one.detectors[-1].words(points, 1)
        scores.append(one.judge(points).tails[:, -1].max())
    assert max(scores[1000:1490]) < 5
    assert scores[1490] > 6
    assert "s1/d0/m" in words


def _bits(judged: Judged) -> tuple[bytes, ...]:
    fused = judged.fused
    return (
        judged.tails.tobytes(), fused.rarity.tobytes(), fused.degree.tobytes(), fused.begins.tobytes(),
        fused.ends.tobytes(),
    )  # fmt: skip


def test_the_ensemble_is_the_same_over_snapshots_and_device_by_device() -> None:
    """Tails, rarity, degree and alarms, to the last bit; of all that sensors say, degrees are from 0 to 1."""
    whole, cut, apart = default(SERIES), default(SERIES), default(SERIES)
    for at, points in enumerate(one for one in calls(260) if len(one)):
        judged = whole.judge(points)
        assert ((judged.fused.degree >= 0) & (judged.fused.degree <= 1)).all()
        assert not np.isinf(judged.tails).any()
        assert _bits(cut.judge(points)) == _bits(judged)
        for device in np.unique(points.device):
            of = np.flatnonzero(points.device == device)
            part = apart.judge(points.take(of))
            assert part.tails.tobytes() == np.ascontiguousarray(judged.tails[of]).tobytes()
            assert part.fused.degree.tobytes() == judged.fused.degree[of].tobytes()
            assert part.fused.begins.tobytes() == judged.fused.begins[of].tobytes()
        if at in {3, 40, 130, 250}:
            kept = cut.dump()
            cut = default(SERIES)
            cut.load(kept)


def test_what_the_ensemble_remembers_of_a_series_is_small() -> None:
    """At most 2 KB, detectors, tails and all."""
    one = default(10)
    assert sum(column.nbytes for column in one.dump().values()) / 10 <= 2048
