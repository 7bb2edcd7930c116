"""The picture of models that go on learning: all of one tick, signed in the file, and the loop is held up a little at a time (R15, R21)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from headwater_edge import snapshot
from headwater_edge.detection.models import Cut, Models, digest, digests
from headwater_edge.detection.signed import Seal
from headwater_edge.settings import step_settings
from headwater_edge.snapshot import Picture
from headwater_edge.state import State
from tests.edge.judging import EACH, ensemble, points, tails, walk
from tests.edge.running import edge_settings

SEAL = Seal(b"k" * 32, "pi")
PAD = EACH["PredictiveAnomalyDetection"]


def _digests(one: Any) -> list[bytes]:
    return [digest(model) for model in one.detectors[0]._models]


@pytest.mark.parametrize("name", ["PredictiveAnomalyDetection", "HalfSpaceTrees", "QuantileFilter"])
def test_r15_all_models_in_a_picture_are_of_the_tick_of_its_cut(name: str) -> None:
    """Some are pickled at leisure, some because they are asked next (which changes a model, too): all are as they were at the cut,
    and the detector that is restored goes on from there to the last bit.
    """
    one = ensemble(EACH[name], rows=8)
    windows = list(walk(80, 8))
    for some in windows[:50]:
        one.judge(some)
    before, columns = _digests(one), one.dump()
    cut = columns["0.models"]
    assert isinstance(cut, Cut)
    said, wholes = [], []
    for at, some in enumerate(windows[50:]):
        if at % 2:
            cut.some(0.0)
        said.append(tails(one.judge(some)))
        wholes.append(cut.is_whole)
    assert wholes[-1]
    assert [hashed for _, _, hashed in digests(cut)] == before
    assert _digests(one) != before
    back = ensemble(EACH[name], rows=8)
    back.load(columns)
    assert [tails(back.judge(some)) for some in windows[50:]] == said


def test_r15_a_row_that_is_forgotten_is_in_the_picture_as_it_was() -> None:
    """What happens after the cut is not in it: a series that is let go, a new one."""
    one = ensemble(PAD)
    for some in walk(30, 3):
        one.judge(some)
    before, cut = _digests(one), one.dump()["0.models"]
    one.forget(np.array([1]))
    one.grow(5, ["a", "b", "c", "d", "e"])
    one.judge(points(31, [1, 2, 3, 4, 5]))
    cut.some(math.inf)
    assert [hashed for _, _, hashed in digests(cut)] == before
    assert list(cut.names.values()) == ["s1/d1/m0", "s1/d1/m1", "s1/d1/m2"]


def test_a_picture_takes_one_model_at_least_at_a_time() -> None:
    """However little time there is, it comes to its end; two cuts at once do not know of each other."""
    one = ensemble(PAD, rows=4)
    for some in walk(20, 4):
        one.judge(some)
    first, second = one.dump()["0.models"], one.dump()["0.models"]
    assert [first.some(0.0) for _ in range(4)] == [False, False, False, True]
    assert not second.is_whole
    one.judge(points(21, [1, 2, 3, 4]))
    assert second.is_whole
    assert first.pickles == second.pickles


def _picture() -> tuple[Picture, Cut]:
    """A picture of a state, and in it models that are not all copied yet."""
    one = ensemble(PAD)
    for some in walk(30, 3):
        one.judge(some)
    cut = one.dump()["0.models"]
    picture = snapshot.take(State(step_settings(edge_settings())))
    picture.arrays["x.models"] = cut
    return picture, cut


def test_r21_models_go_into_the_file_signed() -> None:
    """Written and read with the key they are there; without it, or with another, the rest of the snapshot is good and they are not."""
    picture, cut = _picture()
    assert not picture.some(0.0)
    rows = snapshot.encode(picture, SEAL)
    assert cut.is_whole
    found = snapshot.decode(picture.tick, rows, SEAL)
    assert found.arrays["x.models"].pickles == cut.pickles
    for seal in (Seal(), Seal(b"f" * 32, "pi")):
        other = snapshot.decode(picture.tick, rows, seal).arrays["x.models"]
        assert isinstance(other, Models)
        assert (other.pickles, sum(other.lost.values())) == ({}, 3)
        assert isinstance(snapshot.restore(snapshot.decode(picture.tick, rows, seal)), State)
    unsigned = snapshot.decode(picture.tick, snapshot.encode(picture), SEAL).arrays["x.models"]
    assert unsigned.pickles == {}
