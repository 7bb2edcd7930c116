"""Rules as a step knows them: one struct a kind, journaled with the settings (R12); and what a rule finds.

Every duration is in microseconds; `for_us` is how long it must be so before an anomaly begins, 0 for at once.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class LimitRule(msgspec.Struct, frozen=True):
    """A value beyond a limit; times `sign`, the value is compared with limit and clear from above."""

    name: str
    series: str
    sign: float
    limit: float
    clear: float
    severity: str
    text: str
    for_us: int = 0


class RangeRule(msgspec.Struct, frozen=True):
    """A value below `low` or above `high`; over once it is back inside by `clear_by`."""

    name: str
    series: str
    low: float
    high: float
    clear_by: float
    severity: str
    text: str
    for_us: int = 0


class RateRule(msgspec.Struct, frozen=True):
    """A change of more than `limit` in `per_us`; over once it is less than `clear`. `sign` 1: rising, -1: falling, 0: either.

    It is measured between readings at least about `apart_us` from each other.
    """

    name: str
    series: str
    sign: float
    limit: float
    clear: float
    per_us: int
    apart_us: int
    severity: str
    text: str
    for_us: int = 0


class StuckRule(msgspec.Struct, frozen=True):
    """The very same value for so long; over once a value is farther than `clear_by` from it."""

    name: str
    series: str
    clear_by: float
    severity: str
    text: str
    for_us: int


class MissingRule(msgspec.Struct, frozen=True):
    """No reading for longer than that."""

    name: str
    series: str
    severity: str
    text: str
    for_us: int


class JumpRule(msgspec.Struct, frozen=True):
    """The mean of a window of `length_us` is farther than `limit` from that of the one before; over once by less than `clear`."""

    name: str
    series: str
    limit: float
    clear: float
    length_us: int
    severity: str
    text: str


Rule = LimitRule | RangeRule | RateRule | StuckRule | MissingRule | JumpRule


class MoreRules(msgspec.Struct, frozen=True):
    """The rules of all kinds but limits, which were there before the others."""

    ranges: tuple[RangeRule, ...] = ()
    rates: tuple[RateRule, ...] = ()
    stuck: tuple[StuckRule, ...] = ()
    missing: tuple[MissingRule, ...] = ()
    jumps: tuple[JumpRule, ...] = ()


class Change(NamedTuple):
    """A rule began or ceased to be broken in a series."""

    rule: Rule
    series: int
    reading: int
    """Of the tick, that showed it; -1: the passing of time did."""
    begins: bool
    begin_us: int
    """Event time at which it began."""
    time_us: int
    """Event time at which it was found."""
    value: float
    """What was compared: a value, a change, seconds of silence."""
    limit: float
    """What it was compared with."""
