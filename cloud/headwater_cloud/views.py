"""What the reading side shows of the cloud's file: a row of each kind, as it is said to people and programs."""

from __future__ import annotations

from typing import Literal

import msgspec

from headwater_shared.alert_records import AlertStatus


class AlertView(msgspec.Struct, frozen=True):
    """An alert as it stands; times in microseconds of event time, `known_us` and `changed_us` by the cloud side's clock."""

    id: str
    rule: str
    subject: str
    state: AlertStatus
    severity: str
    text: str
    episode_us: int
    time_us: int
    value: float
    key: str = ""
    shard: int = -1
    site: str = ""
    device: str = ""
    incident: str = ""
    fired_us: int | None = None
    end_us: int | None = None
    acked: str = ""
    """Who acknowledged it."""
    muted: str = ""
    """Why nobody is told."""
    do: str = ""
    link: str = ""
    sure: str = ""
    model: str = ""
    place: str = ""
    owner: str = ""
    runbook: str = ""
    known_us: int = 0
    evidence: list[str] = []
    agents: list[str] = []


class AlertEventView(msgspec.Struct, frozen=True):
    """A change of an alert: what evidence did, or a person."""

    n: int
    what: str
    state: str
    severity: str
    text: str
    who: str
    why: str
    changed_us: int
    time_us: int
    """Event time of what it speaks of."""


class IncidentView(msgspec.Struct, frozen=True):
    """Alerts of one site that began near each other; times in microseconds of event time."""

    id: str
    site: str
    """Empty of cohorts and agents."""
    severity: str
    """The worst."""
    begin_us: int
    last_us: int
    """When its last alert began."""
    end_us: int | None
    """None: some are open."""
    members: int
    open: int
    acknowledged: int
    muted: int
    devices: int


class AnomalyView(msgspec.Struct, frozen=True):
    """An anomaly as it was found."""

    id: str
    phase: Literal["begin", "end"]
    agent: str
    rule: str
    series: str
    begin_us: int
    time_us: int
    value: float
    limit: float | None
    """None for what detectors found."""
    severity: str
    text: str
    samples: str
    """JSON: a list of times (microseconds) and a list of values."""
    scores: str
    """JSON: pairs of a detector and -log10 of its tail probability; none for what a rule found."""
    degree: float


class CommandView(msgspec.Struct, frozen=True):
    """A command to a device as it stands; times by its agent's clock."""

    id: str
    status: Literal["open", "done", "refused", "expired", "undone"]
    name: str
    device: str
    act: str
    rule: str
    series: str
    reason: str
    undoes: str
    agent: str
    anomaly: str
    arguments: str
    let_out_us: int
    """0: it never was."""
    changed_us: int


class DeviceView(msgspec.Struct, frozen=True):
    """A device's status as its agent said it last; times in microseconds of that agent's wall clock."""

    device: str
    status: Literal["online", "silent", "offline"]
    reason: str
    since_us: int
    heard_us: int
    agent: str


class DeviceChangeView(msgspec.Struct, frozen=True):
    """One change of a device's status."""

    device: str
    time_us: int
    status: Literal["online", "silent", "offline"]
    before: str
    reason: str
    heard_us: int
    agent: str


class ReportView(msgspec.Struct, frozen=True):
    """A report about an agent's stream."""

    time_us: int
    kind: str
    shard: int
    agent: str
    epoch: str
    text: str


class ProgressView(msgspec.Struct, frozen=True):
    """Up to when an agent's windows are complete in a shard."""

    shard: int
    agent: str
    epoch: str
    complete_us: int
    heard_us: int
    silent: bool
    waiting: int
