"""A device against its peers: by the median of its cohort, the same findings in the end whatever came first (R25)."""

from __future__ import annotations

import random
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater_cloud import cohorts as cohorts_module
from headwater_cloud import compare
from headwater_cloud.cohorts import KEEP_US, PATIENCE_US, Cohorts
from headwater_cloud.findings import MOST, step
from tests.cloud.cohorts import Held, Made, patient, wanted
from tests.cloud.made import T0, S
from tests.cloud.on_pieces import Kept

NAMES = [f"s{n % 3}/d{n}" for n in range(9)]
ALIKE = {name: 12.0 + 0.1 * n for n, name in enumerate(NAMES)}
SOME = settings(max_examples=max(60, settings().max_examples - 40))

LARGEST = float(np.finfo(np.float64).max)
reals = st.one_of(st.sampled_from((0.0, 12.0, 12.1, -12.0, 1e6, 1e300, 1e-300)), st.floats(-1e9, 1e9))
chances = st.randoms(use_true_random=False)


@SOME
@example([[1e300, 0.0, 0.0, 0.0]], random.Random(1))
@given(st.lists(st.lists(reals, min_size=1, max_size=12), min_size=1, max_size=6), chances)
def test_medians_and_spreads_are_those_of_each_group(
    groups: list[list[float]], chance: random.Random
) -> None:
    """All groups at once, their values in any order: as `statistics.median` has it of each alone."""
    rows = [(value, number) for number, group in enumerate(groups) for value in group]
    chance.shuffle(rows)
    values, of = np.array([value for value, _ in rows]), np.array([number for _, number in rows])
    n = len(groups)
    found = compare.judge(values, of, np.full(n, 6.0), np.zeros(n), np.zeros(n, np.int64))
    for row, (value, number) in enumerate(rows):
        group = groups[number]
        middle = median(group)
        wide = 1.4826 * (1 + 80 / max(len(group) - 2, 1) ** 2) * median(abs(one - middle) for one in group)
        spread = max(wide, 1e-6 * abs(middle), 1e-12)
        assert found.median[row] == pytest.approx(middle, rel=1e-12)
        assert found.spread[row] == pytest.approx(spread, rel=1e-9, abs=1e-9 * max(map(abs, group)))
        assert found.peers[row] == len(group) - 1
        assert np.isfinite(found.away[row])
        with np.errstate(over="ignore"):
            away = min(abs(value - found.median[row]) / found.spread[row], LARGEST)
        assert found.away[row] == pytest.approx(away, rel=1e-9)


def test_healthy_devices_are_hardly_ever_outliers_however_few_they_are() -> None:
    """Of normal values at six spreads less than one in 5,000, for six peers as for fifty: few have a wider spread."""
    chance = np.random.default_rng(5)
    for size in (6, 7, 8, 11, 20, 50):
        n = 150_000 // size
        group = np.repeat(np.arange(n), size)
        found = compare.judge(
            chance.normal(20, 3, n * size), group, np.full(n, 6.0), np.zeros(n), np.full(n, 5)
        )
        assert found.outlier.mean() < 1 / 5_000, size


def outliers(means: dict[str, float], **rule: Any) -> list[str]:
    """Of one window of one shard."""
    held = Held()
    held.take(step(Cohorts(Kept()), [Made(1, 0, 70, means, **rule).record()]))
    return sorted(device for _, device in held.outliers())


def test_one_that_is_far_from_its_peers_is_an_outlier() -> None:
    """And it does not hide itself, nor another one, by being far off."""
    assert outliers(ALIKE) == []
    assert outliers({**ALIKE, "s9/x": 40.0}) == ["s9/x"]
    assert outliers({**ALIKE, "s9/x": 40.0, "s9/y": -1e9, "s9/z": 1e300}) == ["s9/x", "s9/y", "s9/z"]


def test_a_cohort_that_moves_together_is_no_anomaly() -> None:
    """A hot day: all are far from what they were, and none from its peers."""
    assert outliers({name: mean + 1000 for name, mean in ALIKE.items()}) == []


def test_a_small_cohort_is_silent() -> None:
    """Five peers are the least by default; a rule may ask for more, or for fewer."""
    few = dict.fromkeys(NAMES[:5], 12.0)
    assert outliers({**few, "s9/x": 40.0}) == ["s9/x"]
    assert outliers({**dict(list(few.items())[:4]), "s9/x": 40.0}) == []
    assert outliers({**few, "s9/x": 40.0}, peers=6) == []
    assert outliers({**dict(list(few.items())[:2]), "s9/x": 40.0}, peers=2) == ["s9/x"]


def test_what_is_nearer_than_the_least_is_no_outlier() -> None:
    """However many spreads that is: sensors of few steps are mostly equal."""
    equal = dict.fromkeys(NAMES, 12.0)
    assert outliers({**equal, "s9/x": 12.5}) == ["s9/x"]
    assert outliers({**equal, "s9/x": 12.5}, least=1.0) == []
    assert outliers({**equal, "s9/x": 13.0}, least=1.0) == ["s9/x"]
    assert outliers({**equal, "s9/x": 12.0 + 1e-6}) == []


def test_a_cohort_of_two_kinds_is_silent() -> None:
    """Half are on and half are off: the spread is as wide as the gap; or most are equal, and more than a third differ."""
    for on in range(1, 9):
        found = outliers({name: 100.0 * (n < on) for n, name in enumerate(NAMES)})
        assert found == (NAMES[:on] if on <= 3 else sorted(NAMES[on:]) if on >= 6 else []), on


def test_of_many_outliers_the_furthest_are_said() -> None:
    """A bound on what one window of a cohort puts on the bus."""
    means = {f"s/{n:04}": 12.0 for n in range(1000)} | {f"t/{n:04}": 100.0 + n for n in range(400)}
    assert outliers(means) == [f"t/{n:04}" for n in range(400 - MOST, 400)]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((21.4, 12.1, 0.8, 11.625, 37), "21.4, where 37 peers have 12.1 give or take 0.8: 11.6 spreads away"),
        ((1013.9, 1013.25, 0.05, 13.0, 20), "1013.90, where 20 peers have 1013.25 give or take 0.05: 13.0 spreads away"),
        ((-4000, 250.2, 120.0, 35.4, 9), "-4000, where 9 peers have 250 give or take 120: 35.4 spreads away"),
        ((5.0, 0.0, 1e-12, 5e12, 8), "5, where 8 peers have 0, most of them alike"),
        ((12.5, 12.0, 12e-6, 41666.0, 8), "12.5, where 8 peers have 12.0, most of them alike"),
        ((1e300, 1e5, 300.0, 8e200, 20), "1e+300, where 20 peers have 100000 give or take 300: more than 1000 spreads away"),
    ],
)  # fmt: skip
def test_a_finding_says_how_far_against_how_many(
    numbers: tuple[float, float, float, float, int], text: str
) -> None:
    """In as many digits as the spread needs."""
    assert compare.words(*numbers) == text


means_of = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from((11.9, 12.0, 12.1, 12.2, 12.3, 40.0, -3.0)), max_size=9
)


@st.composite
def histories(draw: st.DrawFn) -> list[Made]:
    """What three shards say of three windows, revised, under a rule that changes, and in pieces."""
    out: list[Made] = []
    for minute in range(draw(st.integers(1, 3))):
        for shard in range(3):
            clock = 60 * minute + 62
            for _ in range(draw(st.integers(0, 3))):
                clock += draw(st.integers(0, 40))
                means = {name: mean for name, mean in draw(means_of).items() if name[1] == str(shard)}
                rule: dict[str, Any] = draw(
                    st.sampled_from(({}, {"away": 3.0, "rules_us": 2}, {"peers": 3, "rules_us": 3}))
                )
                one = Made(shard, minute, clock, means, **rule)
                both = len(means) > 1 and draw(st.booleans())
                names, at = list(means), len(means) // 2
                for piece, some in enumerate((names[:at], names[at:]) if both else (names,)):
                    part = {name: means[name] for name in some}
                    out.append(
                        one._replace(means=part, piece=piece, pieces=1 + both, readings=10 * len(means))
                    )
    return _one_of_a_clock(out)


def _one_of_a_clock(some: list[Made]) -> list[Made]:
    """Leave out what no shard makes: two that differ at one clock with as many readings in as many pieces."""
    kept: dict[tuple[int, int, tuple[int, int, int]], list[Made]] = {}
    for one in some:
        head = one.record().head
        known = kept.setdefault((one.minute, one.shard, (one.clock, head.readings, one.pieces)), [])
        if all(one.piece > before.piece for before in known):
            known.append(one)
    return [one for known in kept.values() if len(known) == known[0].pieces for one in known]


@SOME
@given(histories(), chances)
def test_r25_findings_are_those_of_the_latest_records_whatever_came_first(
    some: list[Made], chance: random.Random
) -> None:
    """Any order, repetition and cut into batches, with starts between them: in the end what is held is what the definition says
    of the latest records of all shards, taken back where it held before.
    """
    again = [*some, *chance.choices(some, k=len(some) // 2)] if some else []
    chance.shuffle(again)
    pieces, held = Kept(), Held()
    cohorts = Cohorts(pieces)
    while again:
        size = chance.randint(1, 5)
        batch, again = again[:size], again[size:]
        held.take(step(cohorts, [one.record() for one in batch]))
        if chance.random() < 0.3:
            cohorts = Cohorts(pieces)
    patient(cohorts, held)
    must = wanted(some)
    found = held.outliers()
    assert found.keys() == must.keys()
    for place, (value, middle) in must.items():
        assert found[place] == pytest.approx((value, middle), rel=1e-12)
    said = held.said
    held.take(step(cohorts, [one.record() for one in some]))
    patient(cohorts, held)
    assert held.said == said, "what came again is no news"


def halves() -> tuple[Made, Made]:
    """Two shards with five devices of a cohort each; the first one alone would find the last device."""
    low = dict.fromkeys([f"s1/d{n}" for n in range(5)], 12.0)
    high = dict.fromkeys([f"s2/d{n}" for n in range(5)], 40.0)
    return Made(1, 0, 62, {**low, "s1/x": 40.0}), Made(2, 0, 63, high)


def test_r25_half_a_cohort_makes_no_findings() -> None:
    """Once it is known that two shards have devices of it, a window waits for both."""
    one, two = halves()
    cohorts = Cohorts(Kept())
    step(cohorts, [one.record(), two.record()])
    later = one._replace(minute=1, clock=122)
    assert step(cohorts, [later.record()]) == []
    assert step(cohorts, [two._replace(minute=1, clock=123).record()]) == []
    assert step(cohorts, [later.record()]) == []


def test_r25_what_is_found_otherwise_at_the_same_clock_is_later() -> None:
    """The latest word on a window counts: one that takes a finding back is never of its time."""
    one, two = halves()
    cohorts = Cohorts(Kept())
    (found,) = step(cohorts, [one.record()])
    (back,) = step(cohorts, [two._replace(clock=one.clock).record()])
    assert (found.outlier, back.outlier, found.id) == (True, False, back.id)
    assert found.made_us < back.made_us


def test_r25_of_two_rules_of_a_window_the_later_one_counts() -> None:
    """Two shards went by other rules when they closed it: the one that was put in last asks for less, whichever comes first."""
    means = {f"s1/d{n}": 12.0 + n % 3 for n in range(9)}
    one, two = (
        Made(1, 0, 62, {**means, "s1/x": 24.0}, away=100.0),
        Made(2, 0, 63, {"s2/d": 12.0}, rules_us=2, away=3.0),
    )
    for some in ((one, two), (two, one)):
        held, cohorts = Held(), Cohorts(Kept())
        held.take(step(cohorts, [made.record() for made in some]))
        patient(cohorts, held)
        assert held.outliers().keys() == {(0, "s1/x")} == wanted(some).keys()


def test_r25_a_record_in_pieces_is_judged_whole() -> None:
    """The half that is there first would find the last device; the clock of both is one."""
    one, two = halves()
    whole = {**one.means, **two.means}
    first = Made(1, 0, 62, one.means, pieces=2, readings=10 * len(whole))
    pieces = Kept()
    cohorts = Cohorts(pieces)
    assert step(cohorts, [first.record()]) == []
    assert step(cohorts, [first._replace(means=two.means, piece=1).record()]) == []
    assert step(cohorts, [Made(1, 0, 70, one.means).record()])[0].device == "s1/x"
    assert len([name for name in pieces if name.startswith("peers/")]) == 1, (
        "nothing of the one before is left"
    )


def test_r25_a_shard_that_says_nothing_is_waited_for_for_a_while() -> None:
    """Half a minute by the clock, also over a start; after ten windows without devices of the cohort it is not waited for at all."""
    one, two = halves()
    pieces = Kept()
    cohorts = Cohorts(pieces)
    step(cohorts, [one.record(), two.record()])
    later = one._replace(minute=1, clock=122)
    assert step(cohorts, [later.record()]) == []
    assert step(cohorts, [], T0 + 122 * S + PATIENCE_US - 1) == []
    cohorts = Cohorts(pieces)
    assert [found.device for found in step(cohorts, [], T0 + 122 * S + PATIENCE_US)] == ["s1/x"]
    back = step(cohorts, [two._replace(minute=1, clock=200).record()])
    assert [(found.device, found.outlier) for found in back] == [("s1/x", False)]
    assert "no longer far" in back[0].text
    assert [found.device for found in step(cohorts, [one._replace(minute=12, clock=782).record()])] == [
        "s1/x"
    ]


def test_r25_a_device_whose_window_is_gone_is_no_outlier() -> None:
    """Its shard has nothing of the cohort any more, and says so."""
    cohorts = Cohorts(Kept())
    one = Made(1, 0, 62, {**ALIKE, "s9/x": 40.0})
    assert len(step(cohorts, [one.record()])) == 1
    (back,) = step(cohorts, [one._replace(means={}, clock=70).record()])
    assert (back.device, back.outlier, back.shard, back.agent) == ("s9/x", False, 1, "agent-1")


@pytest.mark.covers("R24")
def test_r24_the_state_of_a_comparison_is_small_pieces_and_goes_by_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand devices for hours: each piece below 256 KB (`Kept` looks), old windows are deleted, memory holds the newest."""
    monkeypatch.setattr(cohorts_module, "_SPAN", 10)
    means = {f"site-{n % 7}/some-device-{n:05}": 12.0 + n % 13 for n in range(1000)} | {"s/x": 900.0}
    pieces = Kept()
    cohorts = Cohorts(pieces)
    for minute in range(30):
        step(cohorts, [Made(n, minute, 60 * minute + 62, means).record() for n in range(3)])
    assert len(cohorts._windows) <= 4
    windows = [name for name in pieces if name.startswith("window/")]
    assert len(windows) == 30
    for _ in range(3):
        step(cohorts, [], T0 + KEEP_US + 21 * 60 * S)
    kept = sorted(int(name.rpartition("/")[2]) - T0 for name in pieces if name.startswith("window/"))
    assert kept == [minute * 60 * S for minute in range(20, 30)]
    assert len([name for name in pieces if name.startswith("peers/")]) == 3 * len(kept)
    assert step(cohorts, [Made(1, 0, 62, means).record()]) == []
    assert cohorts.late == 1
