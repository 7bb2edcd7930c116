"""Patterns said in plain Python: every chain of evidence, one after the other. What the matcher is held against.

No chain is left out for being like another one, nothing is remembered, and all is done by the words of docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise, permutations, product
from math import inf
from typing import NamedTuple

from headwater_cloud.book import Pattern, Step
from headwater_cloud.evidence import Evidence
from headwater_cloud.matching import can_be

CompleteOf = Callable[[str], int]


class Chain(NamedTuple):
    """One way in which a pattern is satisfied."""

    evidence: frozenset[Evidence]
    begin: int
    done: float
    end: float
    """Infinite: not over."""
    sure: float
    """Until when it is known to be so."""
    missing: int
    """Until when something is missing after it; 0: nothing has to be."""


class Plain(NamedTuple):
    """What is compared of an episode."""

    begin: int
    fired: float | None
    end: float | None
    last: float
    evidence: frozenset[str]


def open_(one: Evidence, complete_of: CompleteOf) -> bool:
    """It is not over, or it is of windows of which the next one is not known yet."""
    return one.end_us is None or (one.next_us > 0 and complete_of(one.agent) < one.end_us + one.next_us)


def end(one: Evidence, complete_of: CompleteOf) -> float:
    if open_(one, complete_of):
        return inf
    assert one.end_us is not None
    return one.end_us


def sure(one: Evidence, complete_of: CompleteOf) -> float:
    """Up to when it is known to be so."""
    return max(one.begin_us, complete_of(one.agent)) if one.end_us is None else one.end_us


def meets(step: Step, one: Evidence, complete_of: CompleteOf) -> bool:
    return can_be(step, one) and sure(one, complete_of) - one.begin_us >= step.for_us


def chains(pattern: Pattern, evidence: Sequence[Evidence], complete_of: CompleteOf) -> Iterator[Chain]:
    """Yield every chain."""
    if pattern.of is not None:
        step = pattern.of
        for some in combinations([one for one in evidence if meets(step, one, complete_of)], pattern.count):
            which = {"": "id", "device": "device", "series": "subject"}[pattern.distinct]
            if len({getattr(one, which) for one in some}) == pattern.count and _within(pattern, some):
                yield _chain(some, max(one.begin_us + step.for_us for one in some), complete_of)
    elif pattern.all:
        candidates = [[one for one in evidence if meets(step, one, complete_of)] for step in pattern.all]
        for some in product(*candidates):
            if _within(pattern, some):
                done = max(one.begin_us + step.for_us for one, step in zip(some, pattern.all, strict=True))
                yield _chain(some, done, complete_of)
    else:
        yield from _sequences(pattern, evidence, complete_of)


def _sequences(pattern: Pattern, evidence: Sequence[Evidence], complete_of: CompleteOf) -> Iterator[Chain]:
    steps = [step for step in pattern.sequence if not step.absent]
    for some in permutations(evidence, len(steps)):
        if not all(meets(step, one, complete_of) for step, one in zip(steps, some, strict=True)):
            continue
        if any(a.begin_us >= b.begin_us for a, b in pairwise(some)):
            continue
        if not _within(pattern, some):
            continue
        deadline = some[0].begin_us + pattern.within_us
        done = max(one.begin_us + step.for_us for one, step in zip(some, steps, strict=True))
        good, at, missing = True, -1, 0
        for step in pattern.sequence:
            if not step.absent:
                at += 1
                continue
            before = some[at]
            against = [n for n in evidence if meets(step, n, complete_of) and n.id != before.id]
            if at + 1 < len(some):
                after = some[at + 1]
                good = good and not any(
                    n.id != after.id and n.begin_us < after.begin_us and end(n, complete_of) > before.begin_us
                    for n in against
                )
                good = good and min(complete_of(before.agent), complete_of(after.agent)) >= after.begin_us
            else:
                good = good and not any(
                    n.begin_us <= deadline and end(n, complete_of) > before.begin_us for n in against
                )
                good = good and complete_of(before.agent) >= deadline
                done = max(done, deadline)
                came = min(
                    (n.begin_us for n in against if n.begin_us > deadline),
                    default=deadline + pattern.within_us,
                )
                came = min(came, deadline + pattern.within_us)
                missing = min(missing, came) if missing else came
        if good:
            yield _chain(some, done, complete_of, missing)


def _within(pattern: Pattern, some: Sequence[Evidence]) -> bool:
    begins = [one.begin_us for one in some]
    return max(begins) - min(begins) <= pattern.within_us


def _chain(some: Sequence[Evidence], done: int, complete_of: CompleteOf, missing: int = 0) -> Chain:
    return Chain(
        frozenset(some), min(one.begin_us for one in some), done,
        max([missing, *(end(one, complete_of) for one in some)]), max(sure(one, complete_of) for one in some), missing,
    )  # fmt: skip


def episodes(
    pattern: Pattern, evidence: Sequence[Evidence], clock_us: int, complete_of: CompleteOf
) -> list[Plain]:
    """Join chains that touch, until none does."""
    groups = [[chain] for chain in chains(pattern, evidence, complete_of)]
    joined = True
    while joined:
        joined = False
        for a, b in combinations(groups, 2):
            if any(_touch(x, y, pattern.calm_us) for x in a for y in b):
                a.extend(b)
                groups.remove(b)
                joined = True
                break
    out = [_plain(group, pattern, clock_us) for group in groups]
    return sorted((one for one in out if one is not None), key=lambda one: one.begin)


def _touch(x: Chain, y: Chain, calm: int) -> bool:
    return x.begin <= y.end + calm and y.begin <= x.end + calm


def _plain(group: list[Chain], pattern: Pattern, clock_us: int) -> Plain | None:
    done = min(chain.done for chain in group)
    last_end = max(chain.end for chain in group)
    over: float | None = None
    if last_end < inf:
        waits_by_clock = pattern.calm_us or last_end in {chain.missing for chain in group}
        over = None if waits_by_clock and clock_us < last_end + pattern.calm_us else last_end
    at = done + pattern.for_us
    held = pattern.for_us == 0 or max(chain.sure for chain in group) >= at
    held = held or (max(chain.missing for chain in group) >= at and clock_us >= at)
    if not held and over is not None:
        return None
    ids = frozenset(one.id for chain in group for one in chain.evidence)
    return Plain(
        min(chain.begin for chain in group),
        at if held else None,
        over,
        max(chain.done for chain in group),
        ids,
    )
