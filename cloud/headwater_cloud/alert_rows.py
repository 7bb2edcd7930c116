"""An alert as a shard keeps it: what its evidence says, what follows from that and from people, and what was told of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from headwater_cloud.book import Book
from headwater_cloud.episodes import Episode
from headwater_cloud.matching import index_of
from headwater_shared.alert_records import Action, Alert, AlertStatus
from headwater_shared.identity import stable_id
from headwater_shared.registry import Entry

RANK = {"info": 0, "warning": 1, "critical": 2}
OPEN: frozenset[AlertStatus] = frozenset({"firing", "acknowledged"})

_TEXT = 1_000
"""Characters of a text, and ids of evidence, that an alert keeps: rows stay small (R24)."""
_EVIDENCE = 20


class AlertRow(msgspec.Struct, frozen=True, array_like=True):
    """One alert. Times in microseconds: of event time, but for `known_us` and `told_us`, which are the shard's clock."""

    id: str
    key: str
    rule: str
    subject: str
    begin_us: int
    fired_us: int | None
    end_us: int | None
    severity: str
    text: str
    value: float
    evidence: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    sure: str = ""
    gone_us: int | None = None
    """When its rule was taken out while it was open."""
    lost: bool = False
    """Whether its evidence was let go; one that is open is ended by its end, if that comes, or by a person."""

    state: AlertStatus = "pending"
    over_us: int | None = None
    """When it was over: by its end, by a person, by the end of its rule."""
    acked: str = ""
    muted: str = ""
    incident: str = ""

    known_us: int = 0
    told_us: int = 0
    """When people heard of it, in whichever message; 0: they did not. Not what it is, but what was said of it."""

    @property
    def site(self) -> str:
        """What its incident is of: a site, or a cohort or agent by itself."""
        return site_of_key(self.key)


def site_of_key(key: str) -> str:
    """Return the site of a key; a cohort and an agent are their own."""
    return key if key.startswith(("+", "agent:")) else key.partition("/")[0]


def of_episode(key: str, episode: Episode) -> AlertRow:
    """Return the row of an episode as the evidence has it; its id hashes rule, subject and episode (R26)."""
    evidence = episode.evidence
    if len(evidence) > _EVIDENCE:
        evidence = evidence[: _EVIDENCE // 2] + evidence[-_EVIDENCE // 2 :]
    return AlertRow(
        stable_id(episode.rule, episode.subject, episode.begin_us), key, episode.rule, episode.subject,
        episode.begin_us, episode.fired_us, episode.end_us, episode.severity, episode.text[:_TEXT], episode.value,
        evidence, episode.agents[:_EVIDENCE], episode.sure,
    )  # fmt: skip


def says(row: AlertRow, episode: Episode) -> bool:
    """Tell whether a row is what its episode would make of it, without making it: most of a key's are as they were."""
    return (
        row.end_us == episode.end_us
        and row.fired_us == episode.fired_us
        and row.text == episode.text
        and row.severity == episode.severity
        and row.value == episode.value
        and row.evidence == episode.evidence
        and row.agents == episode.agents
        and row.sure == episode.sure
        and row.gone_us is None
        and not row.lost
    )


def kept(row: AlertRow, before: AlertRow) -> AlertRow:
    """Return what the evidence says now, with what was known of it and said of it before."""
    return msgspec.structs.replace(
        row, state=before.state, over_us=before.over_us, acked=before.acked, muted=before.muted,
        incident=before.incident, known_us=before.known_us, told_us=before.told_us,
    )  # fmt: skip


def overlap(one: AlertRow, other: AlertRow) -> bool:
    """Tell whether two alerts were at one time: then they are one episode."""
    return (other.end_us is None or one.begin_us <= other.end_us) and (
        one.end_us is None or other.begin_us <= one.end_us
    )


def stands(row: AlertRow, actions: list[Action]) -> AlertRow:
    """Return the row with the state that its evidence and what people did come to.

    Args:
        actions: those that are for it, in the order of their times; those of its incident among them.
    """
    acked, resolved_us = "", None
    for action in actions:
        if action.what == "ack" and not acked:
            acked = action.who
        elif action.what == "resolve" and resolved_us is None:
            resolved_us, acked = max(action.time_us, row.begin_us), acked or action.who
    over_us = row.end_us if row.end_us is not None else resolved_us
    if over_us is None:
        over_us = row.gone_us
    state: AlertStatus = "firing"
    if over_us is not None:
        state = "resolved"
    elif row.fired_us is None:
        state = "pending"
    elif acked:
        state = "acknowledged"
    if (state, over_us, acked) == (row.state, row.over_us, row.acked):
        return row
    return msgspec.structs.replace(row, state=state, over_us=over_us, acked=acked)


def alert_of(
    row: AlertRow, shard: int, book: Book, entry: Entry | None, change: tuple[str, str, str, int, int]
) -> Alert:
    """Return the record of an alert.

    Args:
        row, shard: the alert, and where it is.
        book: has what its rule says is to be done.
        entry: what the registry has of its device.
        change: what, who, why, its number, and when.
    """
    pattern = index_of(book).pattern(row.rule)
    fired_us = row.begin_us if row.fired_us is None else row.fired_us
    told = entry or Entry()
    site = row.site
    of_site = not site.startswith(("+", "agent:"))
    return Alert(
        id=row.id, rule=row.rule, subject=row.subject, state=row.state, severity=row.severity, text=row.text,
        episode_us=row.begin_us, time_us=fired_us if row.over_us is None else row.over_us, value=row.value,
        anomaly=row.evidence[0] if row.evidence else "", key=row.key, shard=shard,
        site=site if of_site else "", device=row.key if of_site and "/" in row.key else "",
        incident=row.incident, fired_us=row.fired_us, end_us=row.over_us, evidence=list(row.evidence),
        agents=list(row.agents), acked=row.acked, muted=row.muted, do=pattern.do if pattern else "",
        link=pattern.link if pattern else "", sure=row.sure, model=told.model, place=told.place, owner=told.owner,
        runbook=told.runbook, known_us=row.known_us, what=change[0], who=change[1], why=change[2], n=change[3], changed_us=change[4],
    )  # fmt: skip


Reported = Literal["state-went-back", "identity-twice"]
REPORTED: dict[str, Reported] = {"went-back": "state-went-back", "another-body": "identity-twice"}
"""Rules of the alerts that reports of these kinds become: the agent's file was restored, or two agents run with copies of one."""
