"""The cloud side's rules as a person writes them: one table a kind, under [cloud] or in a file of their own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headwater_cloud.book import AlertPolicy, Book, Compare, Inhibit, Pattern, Step
from headwater_shared.settings import Duration, Section, duration

Name = Annotated[str, Meta(description="Name of the rule, one of its kind among all rules; alerts bear it.")]
Severity = Annotated[Literal["info", "warning", "critical"], Meta(description="Of the alert.")]


class StepOfPattern(Section, frozen=True, forbid_unknown_fields=True):
    """What one evidence of a pattern must be: one of anomaly, peer, window, device and command, and what narrows it."""

    anomaly: Annotated[
        str, Meta(description="An anomaly of a rule of this name; * and ? match any text.")
    ] = ""
    peer: Annotated[
        str, Meta(description="A device that differs from its peers, by a [[cloud.compare]] of this name.")
    ] = ""
    window: Annotated[
        str, Meta(description='Windows of this level, such as "1m", whose mean is `above` or `below`.')
    ] = ""
    device: Annotated[str, Meta(description="A device's status: offline, silent or online.")] = ""
    command: Annotated[str, Meta(description="A command of this name that ended; see `status`.")] = ""
    series: Annotated[
        str,
        Meta(
            description="Of series that match, site/device/metric; for a status or a command, of devices: site/device."
        ),
    ] = "*"
    severity: Annotated[
        Literal["info", "warning", "critical"], Meta(description="Of an anomaly: at least this one.")
    ] = "info"
    status: Annotated[str, Meta(description="How the command ended: done, refused, expired or undone.")] = "*"
    above: Annotated[float | None, Meta(description="The mean of each window is above this ...")] = None
    below: Annotated[float | None, Meta(description="... or below this; one of the two.")] = None
    for_: Annotated[Duration, Meta(description="It lasted at least so long.")] = msgspec.field(
        name="for", default="0s"
    )
    not_: Annotated[
        bool,
        Meta(
            description="There is none between its neighbours or, as the last step, until `within` is over."
        ),
    ] = msgspec.field(name="not", default=False)


class PatternSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A pattern: what must be so of one device, site or cohort, within a time, for one alert; docs/rules.md."""

    name: Name
    per: Annotated[
        Literal["device", "site", "cohort"],
        Meta(description="What it is looked for in, and what the alert is about."),
    ] = "device"
    within: Annotated[
        Duration,
        Meta(
            description="From the begin of the first to the begin of the last of its evidence.",
            examples=["1h"],
        ),
    ] = "0s"
    sequence: Annotated[
        tuple[StepOfPattern, ...],
        Meta(
            description='Steps, each beginning later than the one before, such as { anomaly = "shakes", series = "*/vibration" }.'
        ),
    ] = ()
    all: Annotated[tuple[StepOfPattern, ...], Meta(description="Instead: steps in any order.")] = ()
    count: Annotated[int, Meta(ge=0, description="Instead: so many of what `of` says.")] = 0
    of: Annotated[StepOfPattern | None, Meta(description="What is counted.")] = None
    distinct: Annotated[
        Literal["", "device", "series"],
        Meta(description="Count devices, or series, and not what they put out."),
    ] = ""
    for_: Annotated[Duration, Meta(description="How long it must last before it fires.")] = msgspec.field(
        name="for", default="0s"
    )
    calm: Annotated[
        Duration,
        Meta(
            description="It is over when nothing of it was so for this long; what comes back before is the same alert."
        ),
    ] = "0s"
    severity: Severity = "warning"
    text: Annotated[
        str,
        Meta(
            description="What a person is told; {device}, {devices}, {site}, {subject} and {count} are put in."
        ),
    ] = ""
    do: Annotated[str, Meta(description="What is to be done.")] = ""
    link: Annotated[str, Meta(description="Where more is written about it.")] = ""


class CompareSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A comparison of devices with their peers in one metric, window by window."""

    name: Name
    metric: Annotated[str, Meta(description="What is compared.", examples=["temperature"])]
    cohort: Annotated[
        str,
        Meta(description="Of which cohorts (of the registry: cohort, else model); * and ? match any text."),
    ] = "*"
    level: Annotated[str, Meta(description="Windows of this level are compared.")] = "1m"
    away: Annotated[
        float,
        Meta(
            description="An outlier is farther than this from the median, in spreads of the cohort (scaled MAD) ..."
        ),
    ] = 6.0
    least: Annotated[float, Meta(description="... and farther than this, in the metric's unit.")] = 0.0
    peers: Annotated[int, Meta(ge=2, description="With fewer others nothing is said.")] = 5
    severity: Severity = "warning"
    text: Annotated[str, Meta(description="What a person is told.")] = ""


class InhibitSettings(Section, frozen=True, forbid_unknown_fields=True):
    """While an alert of one rule fires, those of others are muted."""

    by: Annotated[str, Meta(description="Name of the rule that mutes.", examples=["power-out"])]
    rules: Annotated[
        tuple[str, ...],
        Meta(description="Names of those that are muted; * and ? match any text.", examples=[["*"]]),
    ]
    per: Annotated[
        Literal["device", "site"], Meta(description="Those of the same device, or of the same site.")
    ] = "site"


class AlertsSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How what is found becomes alerts, and alerts incidents."""

    own: Annotated[
        tuple[str, ...],
        Meta(
            description="Anomalies and comparisons of these names are alerts by themselves; * and ? match any text."
        ),
    ] = ("*",)
    calm: Annotated[
        Duration,
        Meta(
            description="Such an alert is over when it was calm for this long; what comes back before is the same."
        ),
    ] = "0s"
    group: Annotated[
        Duration,
        Meta(description="Alerts of one site that begin within this of each other are one incident."),
    ] = "2m"
    grow: Annotated[
        Duration, Meta(description="That an incident has grown is told at most once in this time.")
    ] = "5m"
    escalate: Annotated[
        Duration,
        Meta(description='An alert that nobody acknowledged for so long is told again; "0s": never.'),
    ] = "0s"


class BookTables(Section, frozen=True, forbid_unknown_fields=True):
    """A file of rules of the cloud side: what stands under [cloud] otherwise."""

    pattern: Annotated[tuple[PatternSettings, ...], Meta(description="Patterns.")] = ()
    compare: Annotated[tuple[CompareSettings, ...], Meta(description="Comparisons with peers.")] = ()
    inhibit: Annotated[tuple[InhibitSettings, ...], Meta(description="What mutes what.")] = ()
    alerts: AlertsSettings = AlertsSettings()


def book_of(tables: BookTables) -> Book:
    """Resolve rules for the shards; they were found to be good (`book_faults`)."""
    alerts = tables.alerts
    return Book(
        tuple(map(_pattern, tables.pattern)),
        tuple(
            Compare(c.name, c.metric, c.cohort, c.level, c.away, c.least, c.peers, c.severity, c.text)
            for c in tables.compare
        ),
        AlertPolicy(
            alerts.own,
            duration(alerts.calm),
            duration(alerts.group),
            duration(alerts.grow),
            duration(alerts.escalate),
        ),
        tuple(Inhibit(i.by, i.rules, i.per) for i in tables.inhibit),
    )


def _pattern(one: PatternSettings) -> Pattern:
    return Pattern(
        one.name, one.per, duration(one.within), tuple(map(_step, one.sequence)), tuple(map(_step, one.all)),
        None if one.of is None else _step(one.of), one.count, one.distinct, duration(one.for_), duration(one.calm),
        one.severity, one.text, one.do, one.link,
    )  # fmt: skip


def kind_of(one: StepOfPattern) -> tuple[Literal["anomaly", "peer", "window", "device", "command"], str]:
    """Return what a step asks for, and its name; a step that names several is a mistake."""
    if one.anomaly:
        return "anomaly", one.anomaly
    if one.peer:
        return "peer", one.peer
    if one.window:
        return "window", "*"
    return ("device", one.device) if one.device else ("command", one.command)


def _step(one: StepOfPattern) -> Step:
    kind, name = kind_of(one)
    return Step(
        kind, name, one.series, one.severity, one.status, one.window, one.above, one.below, duration(one.for_), one.not_
    )  # fmt: skip
