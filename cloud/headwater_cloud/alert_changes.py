"""What has changed of alerts as records: each change that is an event, and of each alert how it stands now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from headwater_cloud.alert_rows import AlertRow, alert_of
from headwater_cloud.outputs import Notification
from headwater_cloud.shard import Shard
from headwater_cloud.telling import Said
from headwater_shared.alert_records import Action, Alert

_LEADS_TO = {"ack": "acknowledged", "resolve": "resolved"}


class Change(NamedTuple):
    """An alert as it stands after a change; one that is no event is for who wants the latest only, and one of an alert that is
    not known here for who wants the events only.
    """

    alert: Alert
    is_event: bool = True
    is_latest: bool = True


def changes(
    shard: Shard,
    before: Mapping[str, AlertRow | None],
    rows: Mapping[str, AlertRow],
    acted: Sequence[Action],
    described: Iterable[str],
) -> Iterator[Change]:
    """Yield the changes of a step: what people did in its order, then what came of it and of the evidence.

    Args:
        shard: has the alerts as they are now.
        before, rows: of alerts that have changed, as they were and as they are.
        acted: what people did that was not known.
        described: devices of which the registry says something else.
    """
    explained: dict[str, set[str]] = {}
    for action in sorted(acted, key=lambda one: (one.time_us, one.id)):
        row = shard.alerts.key(action.key).meant(action)
        if row is None:
            yield Change(_unknown(action), is_latest=False)
        else:
            explained.setdefault(row.id, set()).add(_LEADS_TO.get(action.what, action.what))
            alert = _record(shard, row, action.what, action.who, action.why, action.time_us, is_event=True)
            yield Change(alert)
    for at, row in rows.items():
        what, who, why = _difference(before[at], row)
        known = explained.get(at, set())
        if what in known or (what in ("muted", "unmuted") and known & {"mute", "unmute"}):
            continue
        if what:
            is_event = what not in ("grouped", "followed")
            alert = _record(shard, row, what, who, why, shard.clock_us, is_event=is_event)
            yield Change(alert, is_event)
    for device in described:
        for at, row in shard.alerts.key(device).rows.items() if device in shard.alerts.keys else ():
            if at not in rows:
                yield Change(_record(shard, row, "described", "", "", shard.clock_us), is_event=False)


def withdrawn(shard: Shard, row: AlertRow, why: str) -> Change:
    """Return the last change of an alert that is not so any more."""
    gone = msgspec.structs.replace(row, state="withdrawn", muted="")
    return Change(_record(shard, gone, "withdrawn", "", why, shard.clock_us, is_event=True))


def described(shard: Shard, said: Said) -> Notification:
    """Return a message with what its rule says is to be done, and what the registry has of its device."""
    of = _record(shard, said.row, "", "", "", 0)
    return msgspec.structs.replace(
        said.notification, site=of.site, do=of.do, link=of.link, model=of.model, place=of.place, owner=of.owner,
        runbook=of.runbook,
    )  # fmt: skip


def _record(
    shard: Shard, row: AlertRow, what: str, who: str, why: str, at_us: int, *, is_event: bool = False
) -> Alert:
    events = shard.alerts.key(row.key).events
    if is_event:
        events[row.id] = events.get(row.id, 0) + 1
    number = events.get(row.id, 0)
    return alert_of(
        row, shard.number, shard.book, shard.registry.get(row.key), (what, who, why, number, at_us)
    )


def _difference(before: AlertRow | None, row: AlertRow) -> tuple[str, str, str]:
    """Return what has changed, who did it and why; nothing if only what was told of it has."""
    if before is None or before.state != row.state:
        who = row.acked if row.state == "acknowledged" else ""
        why = "its rule is gone" if row.gone_us is not None and row.end_us is None else ""
        return row.state, who, why if row.state == "resolved" else ""
    if before.muted != row.muted:
        return ("muted" if row.muted else "unmuted"), "", row.muted or before.muted
    if (before.text, before.severity) != (row.text, row.severity):
        return "changed", "", ""
    if before.incident != row.incident:
        return "grouped", "", ""
    unsaid = msgspec.structs.replace(row, told_us=before.told_us, lost=before.lost)
    return ("", "", "") if unsaid == before else ("followed", "", "")


def _unknown(action: Action) -> Alert:
    """Return the event of what a person did with an alert that has left the state, or has not come yet."""
    return Alert(
        id=action.alert, rule=action.rule, subject=action.subject, state="resolved", severity="", text="",
        episode_us=action.begin_us, time_us=action.time_us, value=0.0, anomaly="", key=action.key, shard=action.shard,
        what=action.what, who=action.who, why=action.why, n=-action.time_us, changed_us=action.time_us,
    )  # fmt: skip
