"""What patterns and alerts are made of: that something was so, of one series, device or agent, from when to when."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Literal

import msgspec

from headwater_shared.identity import device_of, stable_id
from headwater_shared.records import Anomaly, Command, Device, device_id

EvidenceKind = Literal["anomaly", "peer", "window", "device", "command", "agent"]

_TEXT = 400
"""Characters of a text that are kept."""

AGENT_SILENT = "agent-silent"
"""The rule of the alert that an agent is not heard."""


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """An interval of event time, in microseconds, in which something was so."""

    id: str
    """Of an anomaly its id: begin and end are one evidence."""
    kind: EvidenceKind
    name: str
    """The rule, the status or the command."""
    subject: str
    """The series, the device or the agent."""
    device: str
    """`site/device`, "" of an agent."""
    begin_us: int
    end_us: int | None = None
    """None: still so."""
    value: float = 0.0
    severity: str = "warning"
    text: str = ""
    agent: str = ""
    """Whose word it is: while it is silent, nothing more is known."""
    status: str = ""
    """Of a command: how it ended."""
    end_text: str = ""
    next_us: int = 0
    """It is made of windows that touch: whether it goes on is known so long after its end, and until then it may."""
    begun: bool = True
    """False: only its end has come, which says less of it."""
    sure: str = ""
    """How sure it is, in words."""


def joined(one: Evidence, other: Evidence) -> Evidence:
    """Return what two words about the same evidence say together, whichever came first."""
    a, b = sorted((one, other), key=_rank)
    ends = [each.end_us for each in (a, b) if each.end_us is not None]
    return msgspec.structs.replace(
        b, begin_us=min(a.begin_us, b.begin_us), end_us=max(ends, default=None), end_text=max(a.end_text, b.end_text)
    )  # fmt: skip


def _rank(one: Evidence) -> tuple[bool, float, str, str]:
    return one.begun, one.value, one.severity, one.text


def of_anomaly(row: Anomaly) -> Evidence:
    """Return what an anomaly's begin, or its end, is evidence of."""
    begins = row.phase == "begin"
    return Evidence(
        row.id, "anomaly", row.rule, row.series, device_of(row.series), row.begin_us,
        None if begins else max(row.begin_us, row.time_us), row.value, row.severity, row.text[:_TEXT], row.agent,
        end_text="" if begins else row.text[:_TEXT], begun=begins, sure=_sure(row),
    )  # fmt: skip


def _sure(row: Anomaly) -> str:
    """Say what it was compared with, or how rare it is by the detector that finds it rarest."""
    if row.scores:
        rarest = max(row.scores, key=lambda score: (score.rarity, score.detector))
        return f"as rare as 1 in {10 ** min(rarest.rarity, 12.0):,.0f} by {rarest.detector}"
    return f"{row.value:.6g}, limit {row.limit:.6g}" if isfinite(row.limit) else ""


def of_command(row: Command) -> Evidence | None:
    """Return that a command ended, and how, at a point in time; None while it is open."""
    if row.status == "open":
        return None
    return Evidence(
        stable_id("command", row.id, row.status), "command", row.name, row.device, row.device, row.time_us, row.time_us,
        text=row.reason[:_TEXT], agent=row.agent, status=row.status,
    )  # fmt: skip


def of_device(row: Device) -> Iterator[Evidence]:
    """Yield the status that a device has, and the one that it no longer has."""
    if row.before and 0 < row.before_us <= row.time_us:
        name = device_id(row.device, row.before, row.before_us)
        yield Evidence(
            name, "device", row.before, row.device, row.device, row.before_us, row.time_us, agent=row.agent, begun=False
        )  # fmt: skip
    yield Evidence(
        device_id(row.device, row.status, row.time_us), "device", row.status, row.device, row.device, row.time_us,
        text=row.reason[:_TEXT], agent=row.agent,
    )  # fmt: skip


def of_silence(agent: str, shard: int, since_us: int, heard_us: int | None) -> Evidence:
    """Return that a shard did not hear an agent; `heard_us`: when it did again."""
    return Evidence(
        stable_id(AGENT_SILENT, agent, shard, since_us), "agent", AGENT_SILENT, agent, "", since_us,
        None if heard_us is None else max(since_us, heard_us), severity="critical",
        text=f"{agent} is not heard any more: nothing is known of its devices since",
        end_text="" if heard_us is None else f"{agent} is heard again", sure="certain",
    )  # fmt: skip
