"""Chains of evidence that satisfy a pattern, all of them: told as spans, one for each evidence that chains begin with.

A chain names an evidence for each step. There may be very many; what matters of those that overlap is only from when to when
they are, which evidence is in any of them, and when the first and the last of them was complete. That is found without going
through them one by one, and what an earlier span names, a later one need not: they overlap. Times in microseconds of event time.
"""

from __future__ import annotations

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
    """What is in any of them, but for what is in the spans before."""
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


def told_apart(pattern: Pattern, one: Evidence) -> str:
    """Return what evidence is told apart by."""
    if pattern.distinct == "device":
        return one.device
    return one.subject if pattern.distinct else one.id
