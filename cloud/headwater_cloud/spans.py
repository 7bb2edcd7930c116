"""Chains of evidence that satisfy a pattern, all of them: told as spans, one for each evidence that chains begin with.

A chain names an evidence for each step. There may be very many; what matters of those that begin with the same evidence is
only from when to when they are, which evidence is in any of them, and when the first and the last of them was complete. That
is found without going through them one by one. Times in microseconds of event time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from headwater_cloud.book import Pattern, Step
from headwater_cloud.evidence import Evidence

NEVER = 2**62

Some = Sequence[Evidence]
"""Of one step, in the order of `place`."""


class Span(NamedTuple):
    """What the chains that begin with one evidence come to."""

    begin_us: int
    done_us: int
    """When the first of them was complete,"""
    last_us: int
    """and the last."""
    members: tuple[Evidence, ...]
    """What is in any of them."""
    until_us: int = 0
    """Something is missing until then: it is not over before."""


class Known:
    """How much is known: by the shard's clock, and of each agent. Gathers what a decision waits for."""

    def __init__(self, clock_us: int, complete_of: Callable[[str], int]) -> None:
        self.clock_us = clock_us
        self.complete_of = complete_of
        self.at_us: int | None = None
        """The clock at which to look again, if anything waits for it;"""
        self.waits: dict[str, int] = {}
        """agents, and up to when they must be complete."""

    def wait(self, agent: str, until_us: int) -> None:
        """Something is decided once an agent is complete up to then."""
        self.waits[agent] = min(self.waits.get(agent, until_us), until_us)

    def wait_clock(self, until_us: int) -> None:
        """Something is decided by the clock."""
        self.at_us = until_us if self.at_us is None else min(self.at_us, until_us)

    def until(self, agent: str, time_us: int) -> bool:
        """Tell whether all is known of an agent up to a time; if not, it is waited for."""
        if self.complete_of(agent) >= time_us:
            return True
        self.wait(agent, time_us)
        return False

    def held(self, one: Evidence) -> tuple[int, bool]:
        """Return until when an evidence is known to be so, and whether it may still be."""
        if one.end_us is None:
            return max(one.begin_us, self.complete_of(one.agent)), True
        if one.next_us and not self.until(one.agent, one.end_us + one.next_us):
            return one.end_us, True
        return one.end_us, False

    def lasted(self, one: Evidence, for_us: int) -> bool:
        """Tell whether an evidence is known to have been so for so long."""
        if not for_us:
            return True
        held_us, still = self.held(one)
        if held_us - one.begin_us >= for_us:
            return True
        if still:
            self.wait(one.agent, one.begin_us + for_us)
        return False


def place(one: Evidence) -> tuple[int, str]:
    """Order evidence: by its begin."""
    return one.begin_us, one.id


def steps_of(pattern: Pattern) -> tuple[Step, ...]:
    """Return the steps of a pattern of any kind."""
    return pattern.sequence or pattern.all or (() if pattern.of is None else (pattern.of,))


def spans(pattern: Pattern, by_step: Sequence[Some], known: Known) -> list[Span]:
    """Find all chains.

    Args:
        by_step: for each of `steps_of(pattern)` the evidence that can be it, in any order.
    """
    if not all(some or step.absent for step, some in zip(steps_of(pattern), by_step, strict=True)):
        return []
    lasted = [
        sorted((one for one in some if known.lasted(one, step.for_us)), key=place)
        for step, some in zip(steps_of(pattern), by_step, strict=True)
    ]
    if pattern.sequence:
        return list(_Sequence(pattern, lasted, known).spans())
    if pattern.all:
        return _all(pattern, lasted)
    return _count(pattern, lasted[0])


def _count(pattern: Pattern, some: Some) -> list[Span]:
    """So many, or of so many devices or series, that begin within the time."""
    assert pattern.of is not None
    wait_us, out = pattern.of.for_us, []
    for at, first in enumerate(some):
        own, others, last_us = told_apart(pattern, first), dict[str, int](), first.begin_us
        members = [first]
        for one in some[at + 1 :]:
            if one.begin_us > first.begin_us + pattern.within_us or pattern.count == 1:
                break
            of = told_apart(pattern, one)
            if of != own:
                members.append(one)
                if of not in others and len(others) < pattern.count - 1:
                    others[of] = last_us = one.begin_us
        if len(others) >= pattern.count - 1:
            out.append(
                Span(first.begin_us, last_us + wait_us, members[-1].begin_us + wait_us, tuple(members))
            )
    return out


def told_apart(pattern: Pattern, one: Evidence) -> str:
    """Return what evidence is told apart by."""
    return {"": one.id, "device": one.device, "series": one.subject}[pattern.distinct]


def _all(pattern: Pattern, lasted: Sequence[Some]) -> list[Span]:
    """One of each, in any order, that begin within the time; one evidence may be several of them."""
    waits = [step.for_us for step in pattern.all]
    begins = [[one.begin_us for one in some] for some in lasted]
    firsts: dict[str, tuple[Evidence, list[int]]] = {}
    for number, some in enumerate(lasted):
        for one in some:
            firsts.setdefault(one.id, (one, []))[1].append(number)
    out = []
    for first, numbers in firsts.values():
        end_us = first.begin_us + pattern.within_us
        inside = [
            some[bisect_left(of, first.begin_us) : bisect_right(of, end_us)]
            for some, of in zip(lasted, begins, strict=True)
        ]
        if not all(inside):
            continue
        members, done_us, last_us = {first.id: first}, NEVER, 0
        for mine in numbers:
            others = [number for number in range(len(lasted)) if number != mine]
            own_us = first.begin_us + waits[mine]
            done_us = min(done_us, max([own_us, *(inside[n][0].begin_us + waits[n] for n in others)]))
            last_us = max([last_us, own_us, *(inside[n][-1].begin_us + waits[n] for n in others)])
            members |= {one.id: one for n in others for one in inside[n]}
        out.append(Span(first.begin_us, done_us, last_us, tuple(members.values())))
    return out


class _Layer(NamedTuple):
    """The evidence of one step that chains reach, and when the earliest chain up to it was complete."""

    some: list[Evidence]
    done: list[int]


class _Sequence:
    """One after the other, each beginning later than the one before, within the time of the first."""

    def __init__(self, pattern: Pattern, lasted: Sequence[Some], known: Known) -> None:
        self._within_us, self._known = pattern.within_us, known
        self._layers: list[Some] = []
        self._waits: list[int] = []
        self._absent: list[list[Evidence]] = []
        """What must not be between a step and the next one, or after the last."""
        self._gap: list[bool] = []
        for step, some in zip(pattern.sequence, lasted, strict=True):
            if step.absent:
                self._absent[-1] += some
                self._gap[-1] = True
            else:
                self._layers.append(some)
                self._waits.append(step.for_us)
                self._absent.append([])
                self._gap.append(False)
        self._limits = [self._limits_after(at) for at in range(len(self._layers) - 1)]

    def spans(self) -> list[Span]:
        found = (self._span(first) for first in self._layers[0]) if all(self._layers) else ()
        return [span for span in found if span is not None]

    def _limits_after(self, at: int) -> dict[str, int]:
        """Return of each evidence of a step the latest begin that its successor may have.

        Nothing that must be absent touches the time between the two, and their agents are complete up to its end.
        """
        if not self._gap[at]:
            return {}
        known, after = self._known, self._layers[at + 1]
        self._layers[at + 1] = after = [one for one in after if known.until(one.agent, one.begin_us)]
        limits = {}
        for one in self._layers[at]:
            limit = min(
                (n.begin_us for n in self._absent[at] if n.id != one.id and self._touches(n, one.begin_us)),
                default=NEVER,
            )
            complete_us = known.complete_of(one.agent)
            beyond = (n.begin_us for n in after if max(complete_us, one.begin_us) < n.begin_us <= limit)
            if (next_us := min(beyond, default=None)) is not None:
                known.wait(one.agent, next_us)
            limits[one.id] = min(limit, complete_us)
        return limits

    def _touches(self, absent: Evidence, after_us: int) -> bool:
        """Tell whether what must be absent is still so after a time."""
        held_us, still = self._known.held(absent)
        return still or held_us > after_us

    def _span(self, first: Evidence) -> Span | None:
        end_us = first.begin_us + self._within_us
        layers = [_Layer([first], [first.begin_us + self._waits[0]])]
        for at, some in enumerate(self._layers[1:], 1):
            layer = self._next(layers[-1], at, some, end_us)
            if not layer.some:
                return None
            layers.append(layer)
        until_us = 0
        if self._gap[-1]:
            layers[-1], until_us = self._unanswered(layers[-1], end_us)
            if not layers[-1].some:
                return None
        done_us = min(layers[-1].done)
        members = self._alive(layers)
        last_us = max(
            one.begin_us + wait for some, wait in zip(members, self._waits, strict=True) for one in some
        )
        if self._gap[-1]:
            last_us = max(last_us, end_us)
        whole = {one.id: one for some in members for one in some}
        return Span(first.begin_us, done_us, last_us, tuple(whole.values()), until_us)

    def _next(self, before: _Layer, at: int, some: Some, end_us: int) -> _Layer:
        limits, wait_us = self._limits[at - 1], self._waits[at]
        out = _Layer([], [])
        begin = bisect_right(some, before.some[0].begin_us, key=_begin)
        best, left = NEVER, 0
        for one in some[begin:]:
            if one.begin_us > end_us:
                break
            if limits:
                best = min(
                    (
                        done
                        for p, done in zip(before.some, before.done, strict=True)
                        if p.begin_us < one.begin_us <= limits[p.id]
                    ),
                    default=NEVER,
                )
            else:
                while left < len(before.some) and before.some[left].begin_us < one.begin_us:
                    best = min(best, before.done[left])
                    left += 1
            if best < NEVER:
                out.some.append(one)
                out.done.append(max(best, one.begin_us + wait_us))
        return out

    def _unanswered(self, last: _Layer, end_us: int) -> tuple[_Layer, int]:
        """Keep those of the last step that nothing follows until the time is over; return until when nothing came after it.

        It is over when it comes, and after the same time again at the latest.
        """
        out, absent = _Layer([], []), self._absent[-1]
        for one, done in zip(last.some, last.done, strict=True):
            if any(
                n.begin_us <= end_us and n.id != one.id and self._touches(n, one.begin_us) for n in absent
            ):
                continue
            if self._known.until(one.agent, end_us):
                out.some.append(one)
                out.done.append(max(done, end_us))
        came = min((n.begin_us for n in absent if n.begin_us > end_us), default=NEVER)
        return out, min(came, end_us + self._within_us)

    def _alive(self, layers: list[_Layer]) -> list[list[Evidence]]:
        """Return of each step the evidence from which chains go on to the end."""
        out = [layers[-1].some]
        for at in range(len(layers) - 2, -1, -1):
            after, limits = [one.begin_us for one in out[-1]], self._limits[at]
            alive = []
            for one in layers[at].some:
                next_us = after[found] if (found := bisect_right(after, one.begin_us)) < len(after) else NEVER
                if next_us <= limits.get(one.id, NEVER - 1):
                    alive.append(one)
            out.append(alive)
        return out[::-1]


def _begin(one: Evidence) -> int:
    return one.begin_us
