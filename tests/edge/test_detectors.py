"""The detectors of all kinds against plain Python: the same is found wherever ticks end, over snapshots, and under other rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_edge.detectors import Detectors
from headwater_edge.rules import (
    Change,
    JumpRule,
    LimitRule,
    MissingRule,
    MoreRules,
    RangeRule,
    RateRule,
    Rule,
    StuckRule,
)
from tests.edge.plain_rules import Plain, Told

NAMES = ["s1/d1/temp", "s1/d1/flow", "s1/d2/temp", "s2/d3/flow"]
S = 1_000_000
VALUES = (-3.0, -0.0, 0.0, 0.0, 1.0, 1.0, 5.0)
STEPS = (0, 1, S // 2, S, 2 * S, 5 * S, 11 * S, 30 * S, -S, -7 * S, -40 * S)
"""How far the next reading of a series is from the one before."""

patterns = st.sampled_from(("*", "*/temp", "s1/*", "*/d3/*", "s?/d[13]/flow", "s1/d2/temp", "none"))
spans = st.sampled_from((0, 1, S, 3 * S, 10 * S))
some = st.sampled_from((S, 3 * S, 10 * S))
bounds = st.sampled_from((0.0, 0.5, 1.0, 2.0))


def _rule(number: int, draw: st.DrawFn) -> Rule:
    name, series = f"rule {number}", draw(patterns)
    last = "warning", ""
    kind = draw(st.sampled_from((LimitRule, RangeRule, RateRule, StuckRule, MissingRule, JumpRule)))
    clear, limit = sorted((draw(bounds), draw(bounds)))
    if kind is LimitRule:
        sign = draw(st.sampled_from((1.0, -1.0)))
        return LimitRule(name, series, sign, sign * limit, sign * clear, *last, draw(spans))
    if kind is RangeRule:
        return RangeRule(
            name, series, -limit, limit, draw(st.sampled_from((0.0, limit / 2))), *last, draw(spans)
        )
    if kind is RateRule:
        sign = draw(st.sampled_from((1.0, -1.0, 0.0)))
        return RateRule(name, series, sign, limit, clear, S, draw(some), *last, draw(spans))
    if kind is StuckRule:
        return StuckRule(name, series, draw(bounds), *last, draw(some))
    if kind is MissingRule:
        return MissingRule(name, series, *last, draw(some))
    return JumpRule(name, series, limit, clear, draw(some), *last)


@st.composite
def rules_of(draw: st.DrawFn) -> list[Rule]:
    return [_rule(number, draw) for number in range(draw(st.integers(0, 5)))]


readings = st.tuples(st.integers(0, 3), st.sampled_from(STEPS), st.sampled_from(VALUES))
acts = st.lists(
    st.one_of(
        st.lists(readings, min_size=1, max_size=12).map(lambda said: ("tick", said)),
        st.sampled_from((S, 4 * S, 20 * S)).map(lambda us: ("time", us)),
        st.just(("snapshot", 0)),
    ),
    max_size=14,
)


def detectors(rules: Sequence[Rule], names: Sequence[str] = NAMES) -> Detectors:
    """Make the detectors of rules of any kind."""
    of = {
        kind: [rule for rule in rules if isinstance(rule, kind)]
        for kind in (LimitRule, RangeRule, RateRule, StuckRule, MissingRule, JumpRule)
    }
    more = MoreRules(*(tuple(of[kind]) for kind in (RangeRule, RateRule, StuckRule, MissingRule, JumpRule)))  # type: ignore[arg-type]
    made = Detectors(of[LimitRule], more)  # type: ignore[arg-type]
    made.grow(names)
    return made


def told(changes: Sequence[Change]) -> list[Told]:
    return [Told(c.rule.name, c.series, c.begins, c.begin_us, c.time_us, c.value, c.limit) for c in changes]


NONE = np.zeros(0, np.int32)


def run(made: Detectors, said: list[tuple[int, int, float]], mono: int) -> list[Change]:
    """Give a tick's readings: series, event time, value."""
    series = np.array([s for s, _, _ in said], np.int32)
    event = np.array([t for _, t, _ in said], np.int64)
    return made.run(series, event, np.array([v for _, _, v in said], np.float64), mono)


def restored(made: Detectors, rules: Sequence[Rule]) -> Detectors:
    after = detectors(rules)
    after.load(made.dump())
    return after


@settings(max_examples=500)
@given(rules_of(), acts, st.randoms())
def test_detectors_find_what_plain_python_finds_wherever_ticks_end(
    rules: list[Rule], todo: list[tuple[str, object]], chance: object
) -> None:
    """Whole, cut at random, and reading by reading: the same of each series, in the same order, also over snapshots."""
    whole, cut, plain = detectors(rules), detectors(rules), Plain(rules, NAMES)
    newest, mono = [1_000 * S] * len(NAMES), 50 * S
    found: list[list[Told]] = [[], [], []]
    for name, what in todo:
        mono += 1000
        if name == "tick":
            said = []
            for series, step, value in what:  # type: ignore[attr-defined]
                newest[series] += step
                said.append((series, newest[series], value))
            found[0] += told(run(whole, said, mono))
            at = chance.randint(0, len(said))  # type: ignore[attr-defined]
            for part in (said[:at], said[at:]):
                found[1] += told(run(cut, part, mono)) if part else []
                found[1] += told(cut.passed(mono, NONE))
            for one in said:
                found[2] += plain.reading(*one, mono)
        elif name == "time":
            assert isinstance(what, int)
            mono += what
            due = whole.is_due(mono)
            passed = told(whole.passed(mono, NONE))
            assert due == bool(passed)
            found[0] += passed
            found[1] += told(cut.passed(mono, NONE))
            found[2] += plain.passes(mono)
        else:
            cut = restored(cut, rules)
        orders = [
            sorted(one, key=lambda t: (t.series, t.rule)) for one in found
        ]  # stable: in the order of arrival
        assert orders[0] == orders[2]
        assert orders[1] == orders[2]


@given(rules_of(), rules_of(), acts)
def test_rules_that_stay_go_on_and_others_end_what_they_found(
    before: list[Rule], after: list[Rule], todo: list[tuple[str, object]]
) -> None:
    """What is broken by a rule of the same kind and name over a series that it still watches stays; all else is an orphan."""
    made = detectors(before)
    at = [1_000 * S] * len(NAMES)
    begun: dict[tuple[str, int], Change] = {}
    changes = []
    for name, what in todo:
        if name == "tick":
            said = []
            for series, step, value in what:  # type: ignore[attr-defined]
                at[series] += step
                said.append((series, at[series], value))
            changes += run(made, said, 0)
    for change in changes:
        if change.begins:
            begun[change.rule.name, change.series] = change
        else:
            del begun[change.rule.name, change.series]
    new = detectors(after)
    kinds = {rule.name: type(rule) for rule in after}
    watched = {
        (one.rules[rule].name, series)
        for one in new.by_kind.values()
        for rule, series in zip(one.rule.tolist(), one.series.tolist(), strict=True)
    }
    stay = {
        key
        for key, change in begun.items()
        if key in watched and _family(kinds[key[0]]) == _family(type(change.rule))
    }
    limits, more = new.limits, new
    rules = [rule for rule in limits.rules if isinstance(rule, LimitRule)], MoreRules(
        tuple(rule for rule in limits.rules if isinstance(rule, RangeRule)),
        tuple(more.rates.rules), tuple(more.stuck.rules), tuple(more.missing.rules), tuple(more.jumps.rules),
    )  # fmt: skip
    orphans = made.orphans(*rules, NAMES)
    assert {(one.rule.name, one.series): one.begin_us for one in orphans} == {
        key: change.begin_us for key, change in begun.items() if key not in stay
    }
    followed = made.followed_by(*rules, NAMES)
    active = {
        (one.rules[one.rule[pair]].name, int(one.series[pair])): int(one.begin[pair])
        for one in followed.by_kind.values()
        for pair in np.flatnonzero(one.active).tolist()
    }
    assert active == {key: begun[key].begin_us for key in stay}


def _family(kind: type) -> type:
    return LimitRule if kind is RangeRule else kind
