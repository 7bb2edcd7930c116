"""Rules as a person writes them: one table a kind, under [edge] or in a file of their own; checked, and resolved for the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headwater_edge.rules import (
    JumpRule,
    LimitRule,
    MissingRule,
    MoreRules,
    RangeRule,
    RateRule,
    StuckRule,
)
from headwater_shared.errors import SettingsError
from headwater_shared.rule_files import Fault, of_pattern, twice
from headwater_shared.settings import Duration, Section, duration

Name = Annotated[str, Meta(description="Name of the rule, one of its kind among all rules; alerts bear it.")]
Pattern = Annotated[
    str,
    Meta(description="Series it is for: site/device/metric, * and ? match any text.", examples=["*/temp"]),
]
Severity = Annotated[Literal["info", "warning", "critical"], Meta(description="Of the alert.")]
Text = Annotated[str, Meta(description="What a person is told.")]
For = Annotated[
    Duration, Meta(description="How long it must be so, by the readings' times, before it is an anomaly.")
]

_LONGEST_US = 30 * 86_400_000_000
_SECOND_US = 1_000_000


class LimitSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A limit on the series that match: an anomaly begins when it is broken and ends past `clear`."""

    name: Name
    series: Pattern
    above: Annotated[float | None, Meta(description="Broken by a value above this ...")] = None
    below: Annotated[float | None, Meta(description="... or by one below this; one of the two.")] = None
    clear: Annotated[
        float | None,
        Meta(description="Over when a value is back past this (hysteresis); the limit itself by default."),
    ] = None
    for_: For = msgspec.field(name="for", default="0s")
    severity: Severity = "warning"
    text: Text = ""


class RangeSettings(Section, frozen=True, forbid_unknown_fields=True):
    """The range that values may have: an anomaly begins outside of it."""

    name: Name
    series: Pattern
    low: Annotated[float, Meta(description="The least value that is good ...", examples=[2.0])]
    high: Annotated[float, Meta(description="... and the largest.", examples=[8.0])]
    clear_by: Annotated[
        float, Meta(description="Over when a value is back inside by so much (hysteresis).")
    ] = 0.0
    for_: For = msgspec.field(name="for", default="0s")
    severity: Severity = "warning"
    text: Text = ""


class RateSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How fast values may change, from one reading to the next: an anomaly begins when they change faster."""

    name: Name
    series: Pattern
    rises: Annotated[float | None, Meta(description="Broken by a rise of more than this in `per` ...")] = None
    falls: Annotated[float | None, Meta(description="... or by such a fall ...")] = None
    changes: Annotated[
        float | None, Meta(description="... or by such a change either way; one of the three.")
    ] = None
    per: Annotated[Duration, Meta(description="The time that the change is given for.")] = "1m"
    clear: Annotated[
        float | None, Meta(description="Over at a change of less than this in `per`; as given by default.")
    ] = None
    apart: Annotated[
        Duration,
        Meta(
            description="Of readings that are closer than about this only one is looked at: noise that is sampled fast is no rate."
        ),
    ] = "1s"
    for_: For = msgspec.field(name="for", default="0s")
    severity: Severity = "warning"
    text: Text = ""


class StuckSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A value that must not stay the very same: an anomaly begins when it has for so long."""

    name: Name
    series: Pattern
    for_: Annotated[Duration, Meta(description="How long the value may stay the same.", examples=["10m"])] = (
        msgspec.field(name="for")
    )
    clear_by: Annotated[
        float, Meta(description="Over when a value is farther than this from the one that stayed.")
    ] = 0.0
    severity: Severity = "warning"
    text: Text = ""


class MissingSettings(Section, frozen=True, forbid_unknown_fields=True):
    """Series that must be heard: an anomaly begins when one has sent no reading for so long, and ends with the next."""

    name: Name
    series: Pattern
    for_: Annotated[Duration, Meta(description="How long none may come.", examples=["5m"])] = msgspec.field(
        name="for"
    )
    severity: Severity = "warning"
    text: Text = ""


class JumpSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How far the mean of a base window may be from that of the window before: an anomaly begins when it is farther."""

    name: Name
    series: Pattern
    by: Annotated[
        float, Meta(description="Broken by a difference of more than this, up or down.", examples=[5.0])
    ]
    clear: Annotated[
        float | None,
        Meta(description="Over at a difference of less than this (hysteresis); `by` by default."),
    ] = None
    severity: Severity = "warning"
    text: Text = ""


OneRule = LimitSettings | RangeSettings | RateSettings | StuckSettings | MissingSettings | JumpSettings


class RuleTables(Section, frozen=True, forbid_unknown_fields=True):
    """A file of rules: what stands under [edge] otherwise."""

    limit: Annotated[tuple[LimitSettings, ...], Meta(description="Limits.")] = ()
    range: Annotated[tuple[RangeSettings, ...], Meta(description="Ranges.")] = ()
    rate: Annotated[tuple[RateSettings, ...], Meta(description="Rates of change.")] = ()
    stuck: Annotated[tuple[StuckSettings, ...], Meta(description="Values that stay the same.")] = ()
    missing: Annotated[tuple[MissingSettings, ...], Meta(description="Series that are not heard.")] = ()
    jump: Annotated[tuple[JumpSettings, ...], Meta(description="Jumps between windows.")] = ()


KINDS: dict[str, type[Section]] = {
    "limit": LimitSettings,
    "range": RangeSettings,
    "rate": RateSettings,
    "stuck": StuckSettings,
    "missing": MissingSettings,
    "jump": JumpSettings,
}
"""The tables of rules by their name."""


def rules_of(tables: RuleTables, base_us: int) -> tuple[list[LimitRule], MoreRules]:
    """Resolve rules for the step.

    Args:
        base_us: length of the base window.

    Raises:
        SettingsError: a rule that cannot be, or two of one name.
    """
    seen: set[str] = set()
    for kind in KINDS:
        for rule in getattr(tables, kind):
            if rule.name in seen:
                raise SettingsError(*twice(rule.name)[:1], hint=twice(rule.name)[1])
            seen.add(rule.name)
            for fault in faults(kind, rule):
                raise SettingsError(fault.what, hint=fault.remedy)
    return [_limit(one) for one in tables.limit], MoreRules(
        tuple(
            RangeRule(r.name, r.series, r.low, r.high, r.clear_by, r.severity, r.text, duration(r.for_))
            for r in tables.range
        ),
        tuple(_rate(one) for one in tables.rate),
        tuple(
            StuckRule(r.name, r.series, r.clear_by, r.severity, r.text, duration(r.for_))
            for r in tables.stuck
        ),
        tuple(MissingRule(r.name, r.series, r.severity, r.text, duration(r.for_)) for r in tables.missing),
        tuple(
            JumpRule(
                r.name, r.series, r.by, r.by if r.clear is None else r.clear, base_us, r.severity, r.text
            )
            for r in tables.jump
        ),
    )


def names_of(tables: RuleTables) -> list[str]:
    """Return the names of all rules."""
    return [rule.name for kind in KINDS for rule in getattr(tables, kind)]


def faults(kind: str, rule: OneRule) -> Iterator[Fault]:
    """Tell what is wrong with a rule."""
    who = f"{kind} {rule.name!r}"
    if not rule.name.strip():
        yield Fault("name", f"a {kind} has no name", "alerts are told apart by it: write a word or two")
    yield from of_pattern(who, rule.series)
    numbers = [name for name in rule.__struct_fields__ if isinstance(getattr(rule, name), float)]
    wrong = [name for name in numbers if not isfinite(getattr(rule, name))]
    for name in wrong:
        yield Fault(name, f"{who}: {name} is no number", f"write {name} = 80.0, for example")
    if not wrong:
        yield from _OF_KIND[type(rule)](who, rule)  # type: ignore[operator]
    if not isinstance(rule, JumpSettings):
        yield from _of_duration(who, kind, duration(rule.for_))


def _of_duration(who: str, kind: str, for_us: int) -> Iterator[Fault]:
    if for_us > _LONGEST_US:
        yield Fault(
            "for", f"{who}: for is longer than 30 days", "such a rule would hardly ever find anything"
        )
    elif kind == "stuck" and not for_us:
        yield Fault("for", f"{who}: every value is the same for 0 s", 'write for = "10m", for example')
    elif kind == "missing" and for_us < _SECOND_US:
        yield Fault(
            "for", f"{who}: silence is looked for once a second, so for is at least 1s", 'write for = "5m"'
        )


def _of_limit(who: str, rule: LimitSettings) -> Iterator[Fault]:
    if (rule.above is None) == (rule.below is None):
        yield Fault("", f"{who} needs either above or below", "write above = 80.0, for example")
        return
    sign, limit = _side(rule)
    if rule.clear is not None and rule.clear * sign > limit * sign:
        yield Fault(
            "clear",
            f"{who}: clear = {rule.clear} is on the broken side of {limit}",
            "clear lies on the good side of the limit",
        )


def _of_range(who: str, rule: RangeSettings) -> Iterator[Fault]:
    if rule.low >= rule.high:
        yield Fault(
            "low", f"{who}: low = {rule.low} is not below high = {rule.high}", "the least comes first"
        )
    elif rule.clear_by < 0 or 2 * rule.clear_by > rule.high - rule.low:
        yield Fault(
            "clear_by",
            f"{who}: no value is inside by clear_by = {rule.clear_by}",
            f"at least 0 and at most half of the range: {(rule.high - rule.low) / 2}",
        )


def _of_rate(who: str, rule: RateSettings) -> Iterator[Fault]:
    given = [one for one in (rule.rises, rule.falls, rule.changes) if one is not None]
    if len(given) != 1:
        yield Fault("", f"{who} needs one of rises, falls and changes", "write rises = 5.0, for example")
        return
    key = next(name for name in ("rises", "falls", "changes") if getattr(rule, name) is not None)
    if given[0] < 0:
        yield Fault(key, f"{who}: {key} = {given[0]} is below 0", f"write {key} = {-given[0]}")
    elif rule.clear is not None and not 0 <= rule.clear <= given[0]:
        yield Fault(
            "clear", f"{who}: clear = {rule.clear} is not from 0 to {given[0]}", "clear is a slower change"
        )
    for name in ("per", "apart"):
        if not 0 < duration(getattr(rule, name)) <= _LONGEST_US:
            yield Fault(name, f"{who}: {name} is 0 s or longer than 30 days", f'write {name} = "1m"')


def _of_stuck(who: str, rule: StuckSettings) -> Iterator[Fault]:
    if rule.clear_by < 0:
        yield Fault("clear_by", f"{who}: clear_by is below 0", "write how far away a value must be")


def _of_missing(_who: str, _rule: MissingSettings) -> Iterator[Fault]:
    yield from ()


def _of_jump(who: str, rule: JumpSettings) -> Iterator[Fault]:
    if rule.by <= 0:
        yield Fault("by", f"{who}: by = {rule.by} is not above 0", "write by = 5.0, for example")
    elif rule.clear is not None and not 0 <= rule.clear <= rule.by:
        yield Fault(
            "clear", f"{who}: clear = {rule.clear} is not from 0 to {rule.by}", "clear is a smaller step"
        )


_OF_KIND: dict[type, object] = {
    LimitSettings: _of_limit,
    RangeSettings: _of_range,
    RateSettings: _of_rate,
    StuckSettings: _of_stuck,
    MissingSettings: _of_missing,
    JumpSettings: _of_jump,
}


def _side(rule: LimitSettings) -> tuple[float, float]:
    if rule.above is not None:
        return 1.0, rule.above
    assert rule.below is not None
    return -1.0, rule.below


def _limit(rule: LimitSettings) -> LimitRule:
    sign, limit = _side(rule)
    clear = limit if rule.clear is None else rule.clear
    return LimitRule(
        rule.name, rule.series, sign, limit, clear, rule.severity, rule.text, duration(rule.for_)
    )


def _rate(rule: RateSettings) -> RateRule:
    of: Sequence[tuple[float, float | None]] = ((1.0, rule.rises), (-1.0, rule.falls), (0.0, rule.changes))
    sign, limit = next((sign, limit) for sign, limit in of if limit is not None)
    return RateRule(
        rule.name, rule.series, sign, limit, limit if rule.clear is None else rule.clear,
        duration(rule.per), duration(rule.apart), rule.severity, rule.text, duration(rule.for_),
    )  # fmt: skip
