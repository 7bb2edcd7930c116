"""The limit rule against a plain loop: hysteresis, and the same changes wherever ticks end."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.limits import Limits
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.rules import LimitRule
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.errors import SettingsError

NAMES = ["s1/d1/temp", "s1/d1/flow", "s1/d2/temp", "s2/d3/flow"]
LEVELS = (-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, 1e300)

Reading = tuple[int, float]
"""Series and value; its place in the list is its event time."""


class Change(NamedTuple):
    """What is compared of a change."""

    rule: int
    reading: int
    begins: bool
    begin_us: int


def rule(name: str, series: str, limit: float, clear: float, sign: float = 1.0) -> LimitRule:
    return LimitRule(name, series, sign, limit, clear, "warning", "")


@st.composite
def rules_of(draw: st.DrawFn) -> list[LimitRule]:
    """Rules with the clear on the good side of the limit, above or below."""
    out = []
    for number in range(draw(st.integers(0, 3))):
        low, high = sorted((draw(st.sampled_from(LEVELS)), draw(st.sampled_from(LEVELS))))
        sign = draw(st.sampled_from((1.0, -1.0)))
        limit, clear = (high, low) if sign > 0 else (low, high)
        series = draw(st.sampled_from(("*", "*/temp", "s1/*", "s?/d3/flow", "none")))
        out.append(rule(f"rule {number}", series, limit, clear, sign))
    return out


values = st.one_of(st.sampled_from(LEVELS), st.floats(-3, 3), st.sampled_from((-1e308, 1e308)))
readings = st.lists(st.tuples(st.integers(0, len(NAMES) - 1), values), max_size=40)


class Plain:
    """One reading and one rule after the other."""

    def __init__(self, rules: list[LimitRule]) -> None:
        self.rules = rules
        self.begun: dict[tuple[int, int], int] = {}

    def run(self, said: list[Reading], first: int) -> list[Change]:
        out = []
        for number, (series, value) in enumerate(said):
            for index, one in enumerate(self.rules):
                at = index, series
                if not fnmatchcase(NAMES[series], one.series):
                    continue
                broken = value > one.limit if one.sign > 0 else value < one.limit
                over = value < one.clear if one.sign > 0 else value > one.clear
                if broken and at not in self.begun:
                    self.begun[at] = first + number
                    out.append(Change(index, number, begins=True, begin_us=first + number))
                elif over and at in self.begun:
                    out.append(Change(index, number, begins=False, begin_us=self.begun.pop(at)))
        return out


def _run(limits: Limits, said: list[Reading], first: int) -> list[Change]:
    series = np.array([s for s, _ in said], np.int32)
    event = first + np.arange(len(said))
    numbers = {one.name: number for number, one in enumerate(limits.rules)}
    found = limits.run(series, event, np.array([v for _, v in said], np.float64))
    changes = [
        Change(numbers[change.rule.name], change.reading, change.begins, change.begin_us) for change in found
    ]
    return sorted(changes, key=lambda change: (change.reading, change.rule))


def _active(limits: Limits) -> dict[tuple[int, int], int]:
    """By (rule, series), what is broken and since when."""
    at = np.flatnonzero(limits.active)
    pairs = zip(limits.rule[at].tolist(), limits.series[at].tolist(), strict=True)
    return dict(zip(pairs, limits.begin[at].tolist(), strict=True))


def _limits(rules: list[LimitRule]) -> Limits:
    limits = Limits(rules)
    limits.grow(NAMES)
    return limits


@given(rules_of(), readings, st.lists(st.integers(0, 40), max_size=5))
def test_rules_find_what_a_plain_loop_finds_wherever_ticks_end(
    rules: list[LimitRule], said: list[Reading], cuts: list[int]
) -> None:
    """Begins and ends, in the order of arrival and with the time at which each began, however the readings are cut."""
    limits, plain = _limits(rules), Plain(rules)
    bounds = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    for begin, end in pairwise(bounds):
        assert _run(limits, said[begin:end], begin) == plain.run(said[begin:end], begin)
        assert _active(limits).keys() == plain.begun.keys()


@given(rules_of(), readings, readings)
def test_a_burst_that_turns_something_is_seen(
    rules: list[LimitRule], before: list[Reading], burst: list[Reading]
) -> None:
    """The cheap look misses nothing that the step will find, and changes nothing."""
    limits = _limits(rules)
    if before:
        _run(limits, before, 0)
    active = limits.active.copy()
    series = np.array([s for s, _ in burst], np.int32)
    seen = limits.turns(series, np.array([v for _, v in burst], np.float64))
    assert (limits.active == active).all()
    found = _run(limits, burst, 100) if burst else []
    assert seen or not found


@given(rules_of(), readings)
def test_a_burst_that_cannot_turn_anything_ends_no_tick(rules: list[LimitRule], said: list[Reading]) -> None:
    """A value that is still broken, or between limit and clear, asks for no early end."""
    limits = _limits(rules)
    if said:
        _run(limits, said, 0)
    for series, value in said:
        if limits.turns(np.array([series], np.int32), np.array([value])):
            assert _run(limits, [(series, value)], 100)


def test_hysteresis() -> None:
    """At the limit nothing begins, at the clear nothing ends, between them nothing changes; and each twice."""
    limits = _limits([rule("hot", "*/temp", 80.0, 70.0)])
    said = [80.0, 80.1, 90.0, 75.0, 70.0, 69.9, 75.0, 80.0, 81.0, 0.0]
    found = _run(limits, [(0, value) for value in said], 0)
    assert [(change.reading, change.begins, change.begin_us) for change in found] == [
        (1, True, 1), (5, False, 1), (8, True, 8), (9, False, 8)
    ]  # fmt: skip


def test_a_rule_is_for_the_series_that_match() -> None:
    """Also for those that come later; others are never broken."""
    limits = Limits([rule("hot", "*/temp", 80.0, 70.0), rule("all", "*", 80.0, 70.0)])
    limits.grow(NAMES[:1])
    _run(limits, [(0, 99.0)], 0)
    limits.grow(NAMES)
    assert [(c.rule, c.reading) for c in _run(limits, [(0, 99.0), (1, 99.0), (2, 99.0)], 1)] == [
        (1, 1),
        (0, 2),
        (1, 2),
    ]
    assert sorted(_active(limits)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]


@given(rules_of(), rules_of(), readings)
def test_other_rules_go_on_where_those_of_their_name_were(
    before: list[LimitRule], after: list[LimitRule], said: list[Reading]
) -> None:
    """What was broken stays so if a rule of that name still watches the series; everything else is an orphan."""
    limits, plain = _limits(before), Plain(before)
    if said:
        _run(limits, said, 0)
        plain.run(said, 0)
    followed = limits.followed_by(after, NAMES)
    orphans = [(one.rule, one.series, one.begin_us) for one in limits.orphans(after, NAMES)]
    kept, gone = {}, []
    for (index, series), begun in plain.begun.items():
        name = before[index].name
        heir = next((i for i, one in enumerate(after) if one.name == name), None)
        if heir is not None and fnmatchcase(NAMES[series], after[heir].series):
            kept[heir, series] = begun
        else:
            gone.append((before[index], series, begun))
    assert sorted(orphans, key=repr) == sorted(gone, key=repr)
    assert _active(followed) == kept


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (LimitSettings(name="x", series="*"), "either above or below"),
        (LimitSettings(name="x", series="*", above=1.0, below=0.0), "either above or below"),
        (LimitSettings(name="x", series="*", above=1.0, clear=2.0), "on the broken side"),
        (LimitSettings(name="x", series="*", below=1.0, clear=0.0), "on the broken side"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(setting: LimitSettings, says: str) -> None:
    """With what to write instead."""
    with pytest.raises(SettingsError, match=says) as refused:
        step_settings(EdgeSettings(limit=(setting,)))
    assert refused.value.hint


def test_without_a_clear_the_limit_is_it() -> None:
    """Above or below, a rule ends where it begins."""
    settings = EdgeSettings(
        limit=(
            LimitSettings(name="a", series="*", above=5.0),
            LimitSettings(name="b", series="*", below=-5.0),
        )
    )
    limits = _limits(step_settings(settings).rules)
    found = _run(limits, [(0, value) for value in (5.0, 6.0, 5.0, 4.9, -5.0, -6.0, -5.0, -4.9)], 0)
    assert [(change.rule, change.reading) for change in found] == [(0, 1), (0, 3), (1, 5), (1, 7)]
