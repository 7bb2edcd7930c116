"""The chains of sequences, as spans: one evidence after the other, and nothing between or after them that must be absent."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headwater_cloud.book import Pattern
from headwater_cloud.evidence import Evidence
from headwater_cloud.spans import NEVER, Known, Some, Span


def spans(pattern: Pattern, lasted: Sequence[Some], known: Known) -> list[Span]:
    """Find all chains; `lasted`: of each step the evidence that lasted for long enough, in order."""
    return _Sequence(pattern, lasted, known).spans()


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
        if not all(self._layers):
            return []
        if not any(self._gap):
            return list(self._plain())
        found = (self._span(first) for first in self._layers[0])
        return [span for span in found if span is not None]

    def _plain(self) -> Iterator[Span]:
        """Where nothing must be absent, what chains reach of a step is one run of its evidence."""
        begins = [[one.begin_us for one in some] for some in self._layers]
        named = [0] * len(begins)
        for at, first in enumerate(self._layers[0]):
            earliest, runs = [first.begin_us], [(at, at + 1)]
            for of in begins[1:]:
                run = bisect_right(of, earliest[-1]), bisect_right(of, first.begin_us + self._within_us)
                if run[0] >= run[1]:
                    break
                runs.append(run)
                earliest.append(of[run[0]])
            else:
                last_us = 0
                members = list[Evidence]()
                for step in range(len(runs) - 1, -1, -1):
                    begin, end = runs[step]
                    if step < len(runs) - 1:  # what is before the latest of the next step
                        end = min(end, bisect_left(begins[step], begins[step + 1][runs[step + 1][1] - 1]))
                        runs[step] = begin, end
                    last_us = max(last_us, begins[step][end - 1] + self._waits[step])
                    members += self._layers[step][max(begin, named[step]) : end]
                    named[step] = max(named[step], end)
                done_us = max(begin + wait for begin, wait in zip(earliest, self._waits, strict=True))
                yield Span(first.begin_us, done_us, last_us, tuple({one.id: one for one in members}.values()))

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
