"""What patterns and alerts are made of: that something was so, of one series, device or agent, from when to when."""

from __future__ import annotations

from typing import Literal

import msgspec

EvidenceKind = Literal["anomaly", "peer", "window", "device", "command", "agent"]


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
