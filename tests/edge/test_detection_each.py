"""What holds for each detector: the same again, from any snapshot, in any batch, bounded, finite, and forgotten when told to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.make import DEFAULT, made
from tests.edge.detecting import SERIES, of, ready, run, state

WINDOWS = 400


def _settings(name: str) -> Callable[[], Detector]:
    return lambda: made([name])[0]


EACH: dict[str, Callable[[], Detector]] = {name: _settings(name) for name in DEFAULT}
"""A detector of any kind joins with a line: its name, and what makes a fresh one.

For instance `EACH["river.anomaly.GaussianScorer"] = _settings("river.anomaly.GaussianScorer")`.
"""
WITHIN_A_DEVICE = {"relation"}
"""Those that look at other series of the same device: a batch is cut between devices only."""
MOST_BYTES = 1024

each = pytest.mark.parametrize("name", EACH)


@each
def test_the_same_windows_give_the_same_scores_to_the_last_bit(name: str) -> None:
    """Two that are fed alike say and remember alike."""
    one, two = ready(EACH[name]()), ready(EACH[name]())
    assert run(one, of(one, WINDOWS)) == run(two, of(two, WINDOWS))
    assert state(one) == state(two)


@each
def test_a_detector_goes_on_from_any_snapshot(name: str) -> None:
    """Put into a fresh one now and then, what is remembered makes the very scores that would have come without."""
    whole, cut = ready(EACH[name]()), ready(EACH[name]())
    said = of(whole, WINDOWS)
    expected, at = run(whole, said), 0
    for until in (1, 2, 33, 65, 140, 141, WINDOWS):
        assert run(cut, said[at:until]) == expected[at:until]
        at, kept = until, cut.dump()
        cut = ready(EACH[name]())
        cut.load(kept)
    assert state(cut) == state(whole)


@each
def test_a_batch_equals_its_parts(name: str) -> None:
    """Series by series, or device by device, the scores are those of all at once."""
    whole, apart = ready(EACH[name]()), ready(EACH[name]())
    for points in of(whole, WINDOWS):
        parts = np.arange(len(points)) if name not in WITHIN_A_DEVICE else points.device
        scores = np.full(len(points), np.nan)
        for part in np.unique(parts):
            some = points.take(np.flatnonzero(parts == part))
            scores[parts == part] = apart.score(some)
            if not apart.LEARNS_AS_IT_SCORES:
                apart.learn(some)
        assert scores.tobytes() == np.ascontiguousarray(whole.score(points)).tobytes()
        if not whole.LEARNS_AS_IT_SCORES:
            whole.learn(points)
    assert state(apart) == state(whole)


@each
def test_what_is_remembered_is_bounded(name: str) -> None:
    """It is the same after 400 windows as after 40, and small."""
    one = ready(EACH[name]())
    said = of(one, WINDOWS)
    run(one, said[:40])
    before = {column: len(bits) for column, bits in state(one).items()}
    run(one, said[40:])
    assert {column: len(bits) for column, bits in state(one).items()} == before
    assert sum(before.values()) <= MOST_BYTES * SERIES
    assert one.bytes_of_a_row() <= MOST_BYTES


@each
def test_scores_are_finite_whatever_sensors_say(name: str) -> None:
    """Of values to the ends of the range of floats, constants, denormals and jumps: a number or none, and state stays finite."""
    one = ready(EACH[name]())
    spoke = np.zeros(SERIES, np.bool_)
    for points in of(one, WINDOWS, seed=5):
        score = one.score(points)
        assert score.shape == (len(points),)
        assert score.dtype == np.float64
        assert not np.isinf(score).any()
        spoke[points.row] |= np.isfinite(score)
        if not one.LEARNS_AS_IT_SCORES:
            one.learn(points)
    assert spoke.any()
    for column in one.dump().values():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            assert np.isfinite(column).all()


@each
def test_what_is_forgotten_is_blank(name: str) -> None:
    """Rows that are forgotten are as new ones are, and learn as new ones do; the others do not notice."""
    one, fresh = ready(EACH[name]()), ready(EACH[name]())
    said = of(one, WINDOWS)
    run(one, said[:200])
    gone = np.arange(3)
    others = state(one, np.arange(3, SERIES))
    one.forget(gone)
    assert state(one, gone) == state(fresh, gone)
    assert state(one, np.arange(3, SERIES)) == others
    parts = [points.take(points.row < len(gone)) for points in said[200:]]
    parts = [points for points in parts if len(points)]
    assert run(one, parts) == run(fresh, parts)


@each
def test_new_rows_are_blank_and_old_ones_stay(name: str) -> None:
    """Room for further series does not touch what is known."""
    one, fresh = ready(EACH[name]()), ready(EACH[name]())
    run(one, of(one, 50))
    before = state(one)
    one.grow(SERIES + 2)
    fresh.grow(SERIES + 2)
    assert state(one, slice(SERIES)) == before
    assert state(one, slice(SERIES, None)) == state(fresh, slice(SERIES, None))


@each
def test_another_detectors_columns_are_refused(name: str) -> None:
    """A snapshot without a column, or with one of another shape, is an error, not a wrong state."""
    one = ready(EACH[name]())
    kept = one.dump()
    with pytest.raises((ValueError, KeyError)):
        one.load(dict(list(kept.items())[1:]))
    with pytest.raises((ValueError, KeyError)):
        one.load({column: values[:-1] for column, values in kept.items()})


@each
def test_words_are_for_a_person_and_change_nothing(name: str) -> None:
    """Each window has a reason of a line, asked for between score and learn; scores are the same with and without."""
    one, quiet = ready(EACH[name]()), ready(EACH[name]())
    said = of(one, 250)
    bits = []
    for points in said:
        bits.append(np.ascontiguousarray(one.score(points)).tobytes())
        for at in range(len(points)):
            words = one.words(points, at)
            assert words.strip()
            assert "\n" not in words
            assert len(words) < 120
        if not one.LEARNS_AS_IT_SCORES:
            one.learn(points)
    assert bits == run(quiet, said)
