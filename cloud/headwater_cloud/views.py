"""What the reading side shows of the cloud's file: a row of each kind, as it is said to people and programs."""

from __future__ import annotations

from typing import Literal

import msgspec


class AlertView(msgspec.Struct, frozen=True):
    """An alert as it stands; times in microseconds of event time."""

    id: str
    rule: str
    subject: str
    state: Literal["firing", "resolved"]
    severity: str
    text: str
    episode_us: int
    time_us: int
    value: float


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
