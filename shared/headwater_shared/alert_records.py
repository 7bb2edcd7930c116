"""The records of alerts: how one stands after a change, and what a person did with it. `records` reads and writes them."""

from __future__ import annotations

from typing import Literal

import msgspec

AlertStatus = Literal["pending", "firing", "acknowledged", "resolved", "withdrawn"]
Doing = Literal["ack", "resolve", "mute", "unmute", "comment"]


class Alert(msgspec.Struct, frozen=True):
    """One alert as it stands after a change, and the change. What version 1 does not say is empty."""

    id: str
    rule: str
    subject: str
    state: AlertStatus
    severity: str
    text: str
    episode_us: int
    """Event time of the first evidence (R26)."""
    time_us: int
    """Event time of the end; of an open alert when it fired."""
    value: float
    anomaly: str
    """Id of the first evidence."""
    key: str = ""
    """What it is kept by: `site/device`, `site`, `+cohort`, `agent:NAME`."""
    shard: int = -1
    site: str = ""
    device: str = ""
    incident: str = ""
    fired_us: int | None = None
    end_us: int | None = None
    evidence: list[str] = []
    agents: list[str] = []
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
    """The shard's clock when it was found."""
    what: str = ""
    """The change: a state, `changed`, `muted`, `unmuted`, `described`, `grouped`; or what a person did (`Doing`)."""
    who: str = ""
    why: str = ""
    n: int = 0
    """Number of the event among those of the alert; of what is no event the last one's; negative: the alert was not in the state."""
    changed_us: int = 0
    """The shard's clock at the change; of what a person did when it was done."""


class Action(msgspec.Struct, frozen=True):
    """What a person did with an alert; the same id is the same action. Not of an agent's stream: it has no seq."""

    id: str
    shard: int
    alert: str
    """Its id as the person saw it; if late evidence has given it another one, it is found by the next four."""
    key: str
    rule: str
    subject: str
    begin_us: int
    what: Doing
    whole: bool
    """Of all alerts of its incident that had begun by then."""
    who: str
    why: str
    time_us: int
    until_us: int
    """Of `mute`: until when; 0 until it is unmuted."""
