"""The rules said in plain Python, one reading and one rule after the other: what the detectors are held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from headwater_edge.rules import (
    JumpRule,
    LimitRule,
    MissingRule,
    RangeRule,
    RateRule,
    Rule,
    StuckRule,
)


class Told(NamedTuple):
    """What is compared of a change."""

    rule: str
    series: int
    begins: bool
    begin_us: int
    time_us: int
    value: float
    limit: float


@dataclass
class One:
    """What is known of one rule in one series."""

    begun: int | None = None
    since: int | None = None
    last: tuple[int, float] | None = None
    same_since: int = 0
    stuck_at: float = 0.0
    window: int | None = None
    total: float = 0.0
    count: int = 0
    mean: float | None = None
    heard: int = 0


@dataclass
class Plain:
    """All rules over all series."""

    rules: list[Rule]
    names: list[str]
    known: dict[tuple[str, int], One] = field(default_factory=lambda: defaultdict(One))

    def reading(self, series: int, event: int, value: float, mono: int) -> list[Told]:
        """Take a reading."""
        out: list[Told] = []
        for rule in self.rules:
            if fnmatchcase(self.names[series], rule.series):
                one = self.known[rule.name, series]
                said = _KINDS[type(rule)](rule, one, event, value, mono)
                out += [Told(rule.name, series, *told) for told in said]
        return out

    def passes(self, mono: int) -> list[Told]:
        """Let time pass."""
        out = []
        for rule in self.rules:
            if not isinstance(rule, MissingRule):
                continue
            for series in range(len(self.names)):
                one = self.known[rule.name, series]
                if one.last is not None and one.begun is None and mono - one.heard > rule.for_us:
                    one.begun = one.last[0]
                    s = rule.for_us / 1e6
                    out.append(Told(rule.name, series, True, one.begun, one.begun + rule.for_us, s, s))
        return out


Said = list[tuple[bool, int, int, float, float]]


def _turned(one: One, over: bool, under: bool, since: int, event: int, value: float, limit: float) -> Said:
    if over and one.begun is None:
        one.begun = since
        return [(True, since, event, value, limit)]
    if under and one.begun is not None:
        begun, one.begun = one.begun, None
        return [(False, begun, event, value, limit)]
    return []


def _lasting(one: One, over: bool, event: int, for_us: int) -> tuple[bool, int]:
    if not over:
        one.since = None
        return False, 0
    if not for_us:
        return True, event
    if one.since is None:
        one.since = event
    return event - one.since >= for_us, one.since


def limit(rule: LimitRule, one: One, event: int, value: float, _mono: int) -> Said:
    broken = value > rule.limit if rule.sign > 0 else value < rule.limit
    good = value < rule.clear if rule.sign > 0 else value > rule.clear
    lasts, since = _lasting(one, broken, event, rule.for_us)
    return _turned(one, lasts, good, since, event, value, rule.limit)


def within(rule: RangeRule, one: One, event: int, value: float, _mono: int) -> Said:
    broken = not rule.low <= value <= rule.high
    good = rule.low + rule.clear_by <= value <= rule.high - rule.clear_by
    lasts, since = _lasting(one, broken, event, rule.for_us)
    nearest = rule.high if abs(rule.high - value) <= abs(value - rule.low) else rule.low
    return _turned(one, lasts, good, since, event, value, nearest)


def rate(rule: RateRule, one: One, event: int, value: float, _mono: int) -> Said:
    before = one.last
    if before is not None and event // rule.apart_us <= before[0] // rule.apart_us:
        return []
    one.last = event, value
    if before is None:
        return []
    fast = (value - before[1]) * (rule.per_us / max(event - before[0], rule.apart_us))
    signed = abs(fast) if rule.sign == 0 else fast * rule.sign
    lasts, since = _lasting(one, signed > rule.limit, event, rule.for_us)
    bound = rule.limit * (rule.sign or (1 if fast >= 0 else -1))
    return _turned(one, lasts, signed < rule.clear, since, event, fast, bound)


def stuck(rule: StuckRule, one: One, event: int, value: float, _mono: int) -> Said:
    if one.last is not None and event <= one.last[0]:
        return []
    if one.last is None or value != one.last[1]:
        one.same_since = event
    one.last = event, value
    over = event - one.same_since >= rule.for_us
    if over:
        one.stuck_at = value
    under = not over and abs(value - one.stuck_at) > rule.clear_by
    return _turned(one, over, under, one.same_since, event, value, rule.for_us / 1e6)


def missing(rule: MissingRule, one: One, event: int, _value: float, mono: int) -> Said:
    out: Said = []
    longest = rule.for_us / 1e6
    if one.last is not None and one.begun is None and event - one.last[0] > rule.for_us:
        one.begun = one.last[0]
        out.append((True, one.begun, one.begun + rule.for_us, longest, longest))
    if one.begun is not None:
        out.append((False, one.begun, event, max(event - one.begun, 0) / 1e6, longest))
        one.begun = None
    one.last = (max(event, one.last[0]) if one.last else event), 0.0
    one.heard = mono
    return out


def jump(rule: JumpRule, one: One, event: int, value: float, _mono: int) -> Said:
    window = event // rule.length_us
    if one.window is not None and window < one.window:
        return []
    out: Said = []
    if one.window is not None and window > one.window:
        mean = one.total / one.count
        if one.mean is not None:
            step = mean - one.mean
            begun = one.window * rule.length_us
            bound = rule.limit if step >= 0 else -rule.limit
            out = _turned(one, abs(step) > rule.limit, abs(step) < rule.clear, begun, event, step, bound)
        one.mean = mean
    if window != one.window:
        one.window, one.total, one.count = window, 0.0, 0
    one.total += value
    one.count += 1
    return out


_KINDS: dict[type, Callable[..., Said]] = {
    LimitRule: limit,
    RangeRule: within,
    RateRule: rate,
    StuckRule: stuck,
    MissingRule: missing,
    JumpRule: jump,
}
