"""All chains of evidence that satisfy a pattern, as spans: which kind is found how."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

from headwater_cloud import sequences
from headwater_cloud.book import Pattern
from headwater_cloud.evidence import Evidence
from headwater_cloud.spans import NEVER, Known, Some, Span, place, steps_of, told_apart


def spans(pattern: Pattern, by_step: Sequence[Some], known: Known) -> list[Span]:
    """Find all chains.

    Args:
        by_step: for each of `steps_of(pattern)` the evidence that can be it, in any order.
    """
    if not all(some or step.absent for step, some in zip(steps_of(pattern), by_step, strict=True)):
        return []
    lasted = [
        sorted([one for one in some if known.lasted(one, step.for_us)] if step.for_us else some, key=place)
        for step, some in zip(steps_of(pattern), by_step, strict=True)
    ]
    if pattern.sequence:
        return sequences.spans(pattern, lasted, known)
    if pattern.all:
        return _all(pattern, lasted)
    return _count(pattern, lasted[0])


def _count(pattern: Pattern, some: Some) -> list[Span]:
    """So many, or of so many devices or series, that begin within the time."""
    assert pattern.of is not None
    wait_us, out = pattern.of.for_us, list[Span]()
    apart = [told_apart(pattern, one) for one in some]
    inside: Counter[str] = Counter()
    """How many of each are in the time from the first one on."""
    end, unnamed = 0, list[int]()
    named = [False] * len(some)
    for at, first in enumerate(some):
        while end < len(some) and some[end].begin_us <= first.begin_us + pattern.within_us:
            inside[apart[end]] += 1
            unnamed.append(end)
            end += 1
        if len(inside) >= pattern.count:
            others = [n for n in unnamed if n > at and apart[n] != apart[at]] if pattern.count > 1 else []
            members = [first, *(some[n] for n in others)]
            done_us = (
                NEVER if named[at] else _reached_us(pattern, some, apart, at)
            )  # the one that names it is earlier
            out.append(
                Span(first.begin_us, done_us + wait_us, members[-1].begin_us + wait_us, tuple(members))
            )
            for n in (at, *others):
                named[n] = True
            unnamed = [n for n in unnamed if not named[n]]
        inside[apart[at]] -= 1
        if not inside[apart[at]]:
            del inside[apart[at]]
    return out


def _reached_us(pattern: Pattern, some: Some, apart: Sequence[str], at: int) -> int:
    """Return when the number is reached, from one evidence on."""
    of: set[str] = set()
    for n in range(at, len(some)):
        of.add(apart[n])
        if len(of) == pattern.count:
            return some[n].begin_us
    raise AssertionError(at)


def _all(pattern: Pattern, lasted: Sequence[Some]) -> list[Span]:
    """One of each, in any order, that begin within the time; one evidence may be several of them."""
    waits = [step.for_us for step in pattern.all]
    begins = [[one.begin_us for one in some] for some in lasted]
    named = [0] * len(lasted)
    firsts: dict[str, tuple[Evidence, list[int]]] = {}
    for number, some in enumerate(lasted):
        for one in some:
            firsts.setdefault(one.id, (one, []))[1].append(number)
    out = []
    for first, numbers in sorted(firsts.values(), key=lambda of: place(of[0])):
        left = [bisect_left(of, first.begin_us) for of in begins]
        right = [bisect_right(of, first.begin_us + pattern.within_us) for of in begins]
        if any(a == b for a, b in zip(left, right, strict=True)):
            continue
        members, done_us, last_us = {first.id: first}, NEVER, 0
        for mine in numbers:
            others = [number for number in range(len(lasted)) if number != mine]
            own_us = first.begin_us + waits[mine]
            done_us = min(done_us, max([own_us, *(begins[n][left[n]] + waits[n] for n in others)]))
            last_us = max([last_us, own_us, *(begins[n][right[n] - 1] + waits[n] for n in others)])
            for n in others:
                members |= {one.id: one for one in lasted[n][max(left[n], named[n]) : right[n]]}
        for n in range(len(lasted)):
            if numbers != [n]:
                named[n] = right[n]
        out.append(Span(first.begin_us, done_us, last_us, tuple(members.values())))
    return out
