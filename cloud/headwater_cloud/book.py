"""The rules of the cloud side as shards have them: one record of all, applied by every shard at its place in the log."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["info", "warning", "critical"]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one evidence of a pattern must be; globs match any text with * and ?. Times in microseconds."""

    kind: Literal["anomaly", "peer", "window", "device", "command"]
    name: str = "*"
    """Glob of the rule, status or command's name."""
    series: str = "*"
    """Glob of `site/device/metric`, of a device for status and commands."""
    severity: Severity = "info"
    """The least."""
    status: str = "*"
    """Of a command: how it ended."""
    level: str = ""
    """Of a window; then one of `above` and `below`, of its mean."""
    above: float | None = None
    below: float | None = None
    for_us: int = 0
    """It lasted at least so long."""
    absent: bool = False
    """There is none: between its neighbours, or after the last one until `within` is over."""


class Pattern(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pattern over evidence of a device, site or cohort."""

    name: str
    per: Literal["device", "site", "cohort"] = "device"
    within_us: int = 0
    """From the first evidence's begin to the last one's."""
    sequence: tuple[Step, ...] = ()
    all: tuple[Step, ...] = ()
    of: Step | None = None
    count: int = 0
    distinct: Literal["", "device", "series"] = ""
    for_us: int = 0
    calm_us: int = 0
    severity: Severity = "warning"
    text: str = ""
    do: str = ""
    link: str = ""
    since_us: int = 0
    """When this text of it was put in."""


class Compare(msgspec.Struct, frozen=True, omit_defaults=True):
    """How devices of a cohort are compared in one metric."""

    name: str
    metric: str
    cohort: str = "*"
    level: str = "1m"
    away: float = 6.0
    """In spreads of the cohort: scaled median absolute deviations."""
    least: float = 0.0
    """In the metric's unit: nearer is never an anomaly."""
    peers: int = 5
    """Fewer are too few to say anything."""
    severity: Severity = "warning"
    text: str = ""


class AlertPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How evidence becomes alerts, and alerts incidents."""

    own: tuple[str, ...] = ("*",)
    """Globs of rules of anomalies and comparisons that are alerts by themselves."""
    calm_us: int = 0
    group_us: int = 120_000_000
    grow_us: int = 300_000_000
    escalate_us: int = 0
    """Nobody acknowledged for so long; 0: never."""


class Inhibit(msgspec.Struct, frozen=True, omit_defaults=True):
    """While an alert of rule `by` fires, those of `rules` (globs) of the same device or site are muted."""

    by: str
    rules: tuple[str, ...]
    per: Literal["device", "site"] = "site"


class Maintenance(msgspec.Struct, frozen=True, omit_defaults=True):
    """A time in which alerts of a site or device are muted."""

    id: str
    subject: str
    """Glob of `site/device`."""
    begin_us: int
    end_us: int
    who: str = ""
    why: str = ""


class Book(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it."""

    patterns: tuple[Pattern, ...] = ()
    compare: tuple[Compare, ...] = ()
    alerts: AlertPolicy = AlertPolicy()
    inhibit: tuple[Inhibit, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    time_us: int = 0
    """When it was put in."""
