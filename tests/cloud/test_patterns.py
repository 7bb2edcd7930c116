"""The matcher against the plain one, and what docs/rules.md says of it to the letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud.book import Pattern, Step
from headwater_cloud.evidence import Evidence
from headwater_cloud.matching import can_be
from headwater_cloud.patterns import episodes
from headwater_cloud.spans import steps_of
from tests.cloud import plain_patterns
from tests.cloud.plain_patterns import CompleteOf, Plain

TIMES = st.integers(0, 9)
SHORT = st.sampled_from([0, 0, 0, 1, 2, 4])


def evidence(
    number: int, name: str, begin: int, length: int | None, device: int, agent: str, more: int
) -> Evidence:
    """An evidence of rule `name`; `length` None: not over."""
    series = f"s/d{device}/m"
    last = None if length is None else begin + length
    return Evidence(
        f"e{number}", "anomaly", name, series, f"s/d{device}", begin, last, agent=agent,
        next_us=more if last is not None else 0,
    )  # fmt: skip


SOME = st.lists(
    st.tuples(
        st.sampled_from("abc"), TIMES, st.sampled_from([None, 0, 0, 1, 2, 3, 5]), st.integers(0, 2),
        st.sampled_from(["x", "y"]), st.sampled_from([0, 0, 0, 2]),
    ),
    max_size=6,
).map(lambda rows: [evidence(number, *row) for number, row in enumerate(rows)])  # fmt: skip


def steps(absent: bool) -> st.SearchStrategy[Step]:
    return st.builds(
        Step, st.just("anomaly"), st.sampled_from(["a", "b", "c", "*", "*", "[ab]"]),
        st.sampled_from(["*", "*", "*/d1/*"]), for_us=SHORT, absent=st.just(absent),
    )  # fmt: skip


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Step, ...]:
    kinds = [False, *draw(st.lists(st.sampled_from([False, False, True]), max_size=3))]
    return tuple(draw(steps(absent)) for absent in kinds)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Draw a pattern of any kind."""
    more: dict[str, Any] = {
        "within_us": draw(st.integers(1, 8)),
        "for_us": draw(SHORT),
        "calm_us": draw(SHORT),
    }
    kind = draw(st.sampled_from(["sequence", "all", "count"]))
    if kind == "sequence":
        return Pattern("p", sequence=draw(sequences()), **more)
    if kind == "all":
        return Pattern("p", all=tuple(draw(st.lists(steps(False), min_size=1, max_size=3))), **more)
    distinct: Any = draw(st.sampled_from(["", "device", "series"]))
    return Pattern("p", of=draw(steps(False)), count=draw(st.integers(1, 4)), distinct=distinct, **more)


def found(pattern: Pattern, some: Sequence[Evidence], clock_us: int, complete_of: CompleteOf) -> list[Plain]:
    by_step = [[one for one in some if can_be(step, one)] for step in steps_of(pattern)]
    return [
        Plain(
            group.episode.begin_us, group.episode.fired_us, group.episode.end_us, group.episode.last_us,
            frozenset(one.id for one in group.members),
        )
        for group in episodes(pattern, "s/d", by_step, clock_us, complete_of).groups
    ]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(patterns(), SOME, st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.randoms())
def test_the_matcher_finds_what_every_interleaving_gives(
    pattern: Pattern, some: list[Evidence], clock: int, x: int, y: int, chance: object
) -> None:
    """Sequence, all, count, absence, negation, durations, calm; open intervals, equal times; in any order."""

    def complete_of(agent: str) -> int:
        return {"x": x, "y": y}[agent]

    wanted = plain_patterns.episodes(pattern, some, clock, complete_of)
    assert found(pattern, some, clock, complete_of) == wanted
    chance.shuffle(some)  # type: ignore[attr-defined]
    assert found(pattern, some, clock, complete_of) == wanted
