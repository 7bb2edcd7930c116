"""Rows of series that are let go: forgotten, given to others, the same after a snapshot."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detection import Detection
from headwater_edge.detection.judge import Found
from headwater_edge.detection.points import Ints
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.specs import Spec
from headwater_edge.fine import Rows
from headwater_edge.ring import Panes
from headwater_shared.aggregates import of_readings
from headwater_shared.parts import Sketches

DEVICES = Spec("river.anomaly.StandardAbsoluteDeviation", metrics=("temp", "flow"))
RULE = DetectRule("unusual", "*", "10s", (Spec("default"), DEVICES), "warning", "")
NAMES = ["s1/d1/temp", "s1/d1/flow", "s1/d2/temp", "s1/d2/flow", "s1/d3/temp"]
NONE = np.zeros(0, np.int64)


def made(names: list[str], device: list[int]) -> Detection:
    detection = Detection([RULE])
    detection.grow(names, np.array(device))
    return detection


def closed(window: int, values: dict[int, float]) -> dict[str, list[Rows]]:
    """Windows of series, by number, of one reading each."""
    series: Ints = np.array(sorted(values), np.int64)
    n = len(series)
    start, value = np.full(n, window * 10_000_000), np.array([values[one] for one in series.tolist()])
    panes = Panes(
        np.full(n, -1), series, start, np.ones(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint8)
    )
    aggregates = of_readings(np.arange(n), start, value, np.ones(n, np.uint64))
    return {"10s": [Rows(panes, aggregates, Sketches(np.zeros(n, np.int64), NONE, NONE))]}


def fed(detection: Detection, first: int, last: int, names: list[str], seed: int = 3) -> list[Found]:
    found = []
    for window in range(first, last):
        chance = np.random.default_rng(seed + window)
        values = {
            at: float(20 + chance.normal() + 70 * (window == 190 and at == 0))
            for at, name in enumerate(names)
            if name
        }
        found += detection.take(closed(window, values), np.full(len(names), window * 10_000_000 + 10_000_000))
    return found


def test_a_number_that_another_series_has_begins_blank() -> None:
    """What is let go leaves nothing to the series that gets its row, which then learns as if it were the first there."""
    detection = made(NAMES, [0, 0, 1, 1, 2])
    fed(detection, 0, 60, NAMES)
    detection.let_go(np.array([0, 1]))
    names = ["s9/d9/temp", "s9/d9/flow", *NAMES[2:]]
    detection.take_up([0, 1], names, np.array([2, 2, 0, 0, 1]))
    detection.renumber(np.array([2, 2, 0, 0, 1]))
    judge = detection.judges[0]
    assert judge.names == names
    assert judge.whole[0][0].names == ["s9/d9", "s1/d2", "s1/d3"]
    assert judge.alone.windows.tolist() == [0, 0, 60, 60, 60]
    fed(detection, 60, 200, names)
    fresh = made(names, [2, 2, 0, 0, 1])
    fed(fresh, 60, 200, names)
    for name, column in fresh.judges[0].alone.dump().items():
        assert column[:2].tobytes() == detection.judges[0].alone.dump()[name][:2].tobytes(), name


def test_rows_are_the_same_after_a_snapshot_whatever_was_let_go() -> None:
    """Columns read back, in a file where numbers are free and rows are not in the order of numbers: what follows is the same, to the last bit."""
    detection = made(NAMES, [0, 0, 1, 1, 2])
    fed(detection, 0, 60, NAMES)
    detection.let_go(np.array([1, 2, 3]))
    names = [NAMES[0], "", "", "s7/d7/flow", NAMES[4]]
    device = np.array([0, 0, 0, 2, 1])
    detection.renumber(device)
    detection.take_up([3], names, device)
    fed(detection, 60, 120, names)
    columns = detection.dump()
    again = Detection([RULE])
    assert again.load(columns, names, device) == []
    assert again.judges[0].names == detection.judges[0].names
    assert again.judges[0].row.tolist() == detection.judges[0].row.tolist()
    assert again.judges[0].whole[0][0].names == detection.judges[0].whole[0][0].names
    assert repr(fed(again, 120, 200, names)) == repr(fed(detection, 120, 200, names))


def test_what_is_on_ends_when_its_series_is_let_go() -> None:
    """Nobody watches it any more: its end is told, of this series only."""
    detection = made(NAMES, [0, 0, 1, 1, 2])
    begun = [one for one in fed(detection, 0, 191, NAMES) if one.begins and one.begin_us == 1_900_000_000]
    assert {one.series for one in begun} == {0}
    assert detection.ends(np.array([1, 2, 3, 4]), "let go") == []
    ends = detection.ends(np.array([0]), "let go")
    assert {(one.series, one.begins, one.text) for one in ends} == {(0, False, "let go")}
