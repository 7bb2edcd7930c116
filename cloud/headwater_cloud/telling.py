"""When people are told of an incident: its first alert and each worse one at once, more of them now and then, that nobody reacts, and its end."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from headwater_cloud.alert_rows import OPEN, RANK, AlertRow
from headwater_cloud.book import AlertPolicy
from headwater_cloud.incidents import Incident
from headwater_cloud.outputs import Notification, NotificationState

_DEVICES = 5


class Said(NamedTuple):
    """One message, and what it says; who sends it fills in what the registry and the rule have."""

    row: AlertRow
    notification: Notification


def tell(
    incident: Incident, now_us: int, policy: AlertPolicy, withdrawn: AlertRow | None
) -> tuple[list[Said], list[AlertRow]]:
    """Say what is to be said of an incident now.

    Args:
        incident: what was told of it is changed in place.
        now_us: the shard's clock.
        policy: how often it may grow, and when it is escalated.
        withdrawn: an alert of it that people were told and that was not so.

    Returns:
        The messages, and alerts that people have heard of by them: they are changed by the caller.
    """
    told, said, heard = incident.told, [], []
    if incident.news:
        rank = max(rank for rank, number in incident.ranks.items() if number)
        due = now_us >= told.said_us + policy.grow_us
        if not told.said or rank > told.rank or due:
            news = list(incident.news)
            worst = incident.worst(news)
            if told.said and rank <= told.rank:
                told.grown += 1
                said.append(_said(incident, worst, "growing", f"{told.id}/growing/{told.grown}", now_us))
            else:  # a worse one must reach who is woken by `firing` only; it is of the alert whose end will be told
                told.lead = told.lead if told.said else worst.id
                said.append(_said(incident, worst, "firing", f"{worst.id}/firing", now_us, alert=told.lead))
            told.said, told.said_us, told.rank = "firing", max(now_us, 1), max(rank, told.rank)
            heard += [incident.rows[one] for one in news]
    if incident.late:
        late = [incident.rows[one] for one in incident.late]
        if not told.said:
            worst = incident.worst(incident.late)
            told.lead, told.said, told.said_us = worst.id, "over", max(now_us, 1)
            told.rank, told.ended = RANK.get(worst.severity, 1), told.ended + 1
            said.append(_said(incident, worst, "resolved", f"{worst.id}/resolved", now_us, over=True))
        heard += late
    heard = [msgspec.structs.replace(row, told_us=max(now_us, 1)) for row in heard]
    for row in heard:
        incident.put(row)
    if told.said == "firing" and not incident.open and not incident.news:
        said += ended(incident, now_us, withdrawn)
    since = _unacked_since(incident)
    if policy.escalate_us and since is not None and now_us >= since + policy.escalate_us:
        told.escalated, told.escalated_us = told.escalated + 1, max(incident.unacked)
        unacked = [row for row in incident.rows.values() if row.told_us and row.state == "firing"]
        worst = incident.worst(row.id for row in unacked if not row.muted)
        name = f"{told.id}/escalated/{told.escalated}" if told.escalated > 1 else f"{worst.id}/escalated"
        said.append(_said(incident, worst, "escalated", name, now_us))
    return said, heard


def next_look(incident: Incident, policy: AlertPolicy) -> int | None:
    """Return when, by the clock, there will be something to say if nothing changes; None: never."""
    times = []
    if incident.news:
        times.append(incident.told.said_us + policy.grow_us)
    since = _unacked_since(incident)
    if policy.escalate_us and since is not None:
        times.append(since + policy.escalate_us)
    return min(times, default=None)


def _unacked_since(incident: Incident) -> int | None:
    """Return since when people know of an alert that nobody has acknowledged, and that was not escalated yet."""
    return min((at for at in incident.unacked if at > incident.told.escalated_us), default=None)


def ended(incident: Incident, now_us: int, withdrawn: AlertRow | None) -> list[Said]:
    """Say that an incident is over; of one of which no alert is left that it was not so."""
    told = incident.told
    over = [row for row in incident.rows.values() if row.told_us and row.over_us is not None]
    last = max(
        over, key=lambda row: (row.over_us or 0, RANK.get(row.severity, 1), row.id), default=None
    )  # a pattern ends with the last of its evidence: it is what people were told of
    row = last or withdrawn
    told.said, told.ended, told.escalated_us = "over", told.ended + 1, max(told.escalated_us, now_us)
    if row is None:
        return []
    lead = incident.rows.get(told.lead) or withdrawn or row
    name = f"{lead.id}/resolved" if told.ended == 1 else f"{told.id}/resolved/{told.ended}"
    said = _said(incident, row, "resolved", name, now_us, alert=lead.id)
    # whoever was told of the worst is told of the end, whatever ended last
    worst = max(RANK.get(row.severity, 1), told.rank)
    severity = next(name for name, rank in RANK.items() if rank == worst)
    return [said._replace(notification=msgspec.structs.replace(said.notification, severity=severity))]


def _said(
    incident: Incident,
    row: AlertRow,
    state: NotificationState,
    name: str,
    now_us: int,
    *,
    over: bool = False,
    alert: str = "",
) -> Said:
    told = incident.told
    members = len(incident.rows) + told.left
    fired_us = row.begin_us if row.fired_us is None else row.fired_us
    text, devices = row.text, _devices(incident)
    if members > 1 and state in ("growing", "resolved"):
        firing = sum(one.state in OPEN for one in incident.rows.values())
        number = len(devices)
        of = f" of {number} device{'s' * (number != 1)}" if number else ""
        text = f"{members} alerts{of}, {firing} of them still fire; {'worst' if firing else 'last'}: {text or row.rule}"
    return Said(
        row,
        Notification(
            id=name, alert=alert or row.id, state=state, rule=row.rule, subject=row.subject,
            severity=row.severity, text=text, value=row.value, begin_us=row.begin_us,
            time_us=fired_us if row.over_us is None else row.over_us, incident=told.id, members=members,
            devices=devices[:_DEVICES], sure=row.sure, known_us=now_us, over=over,
        ),
    )  # fmt: skip


def _devices(incident: Incident) -> list[str]:
    """Its devices: what is of a site as a whole, or of an agent, is none."""
    return sorted(one for one, number in incident.devices.items() if number and "/" in one)
