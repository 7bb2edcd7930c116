"""One alert, or one incident, in lines that a technician reads: what, where, since when, how sure, what to do, what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from headwater_cloud.outputs import Notification
from headwater_cloud.query import aligned, iso
from headwater_cloud.views import AlertEventView, AlertView, AnomalyView, IncidentView

_WORDS = {
    "ack": "acknowledged", "resolve": "resolved", "mute": "muted", "unmute": "unmuted", "comment": "noted",
    "pending": "not complete yet", "firing": "fires", "acknowledged": "acknowledged with its incident",
    "resolved": "is over", "withdrawn": "was not so", "changed": "changed",
}  # fmt: skip


def of_alert(
    alert: AlertView,
    evidence: Sequence[AnomalyView],
    events: Sequence[AlertEventView],
    told: Sequence[Notification],
) -> Iterator[str]:
    """Yield the lines of one alert."""
    yield f"{alert.severity.upper()}  {alert.rule}  {alert.subject}"
    if alert.text:
        yield f"  {alert.text}"
    yield f"  {_standing(alert)}"
    if alert.muted:
        yield f"  nobody is told: {alert.muted}"
    known = [text for text in (alert.model, alert.place, alert.owner and f"ask {alert.owner}") if text]
    if known:
        yield f"  {alert.device}: {', '.join(known)}"
    for what, text in (
        ("sure", alert.sure),
        ("do", alert.do),
        ("see", alert.link),
        ("runbook", alert.runbook),
    ):
        if text:
            yield f"  {what}: {text}"
    if alert.known_us and alert.known_us - alert.episode_us > 600_000_000:
        yield f"  it was found late: {iso(alert.known_us)}"
    yield f"  alert {alert.id}" + (f", incident {alert.incident}" if alert.incident else "")
    yield ""
    yield "evidence"
    for one in evidence:
        limit = (
            "" if one.limit is None or not isfinite(one.limit) or not one.limit else f", limit {one.limit:g}"
        )
        yield f"  {iso(one.time_us)}  {one.rule} of {one.series} {one.phase}s: {one.value:g}{limit}" + (
            f"; {one.text}" if one.text else ""
        )
    others = len(set(alert.evidence) - {one.id for one in evidence})
    if others:
        yield f"  and {others} that {'is' if others == 1 else 'are'} no anomaly: `headwater rules explain {alert.id[:12]}`"
    yield ""
    yield "timeline"
    lines = [(event.changed_us, _happened(event)) for event in events]
    lines += [
        (
            one.known_us or one.time_us,
            f"people are told: {one.state}"
            + (" (over already)" if one.over else "")
            + (
                f", of {one.rule} of {one.subject}"
                if one.rule != alert.rule or one.subject != alert.subject
                else ""
            ),
        )
        for one in told
    ]
    yield from (f"  {iso(at_us)}  {line}" for at_us, line in sorted(lines, key=lambda line: line[0]))


def of_incident(
    incident: IncidentView, alerts: Sequence[AlertView], told: Sequence[Notification]
) -> Iterator[str]:
    """Yield the lines of one incident."""
    alert_s = "1 alert" if incident.members == 1 else f"{incident.members:,} alerts"
    device_s = "1 device" if incident.devices == 1 else f"{incident.devices:,} devices"
    yield f"{incident.severity.upper()}  {incident.site or 'no site'}: {alert_s} of {device_s}, {incident.open:,} open"
    ended = "still going on" if incident.end_us is None else f"over since {iso(incident.end_us)}"
    yield f"  began {iso(incident.begin_us)}, last alert {iso(incident.last_us)}, {ended}"
    if incident.open and incident.acknowledged:
        yield f"  {incident.acknowledged:,} of the open ones acknowledged"
    if incident.muted:
        yield f"  {incident.muted:,} muted"
    yield f"  incident {incident.id}"
    yield ""
    yield "alerts, the newest first"
    rows = [
        (iso(one.episode_us), one.state, one.severity, one.subject, one.rule, one.id[:12]) for one in alerts
    ]
    yield from (f"  {line}" for line in aligned(rows))
    if len(alerts) < incident.members:
        yield f"  and {incident.members - len(alerts):,} more: --last {incident.members}"
    yield ""
    yield "people were told"
    yield from (f"  {iso(one.known_us)}  {one.state}: {one.text or one.rule}" for one in told)


def _standing(alert: AlertView) -> str:
    since = iso(alert.episode_us)
    if alert.state == "acknowledged":
        return f"acknowledged by {alert.acked}; since {since}"
    if alert.state == "resolved":
        return f"over: from {since} to {iso(alert.time_us)}" + (
            f"; {alert.acked} took care" if alert.acked else ""
        )
    if alert.state == "withdrawn":
        return f"withdrawn: it was told of {since}, and late or corrected data show that it was not so"
    return f"{'not complete yet' if alert.state == 'pending' else 'fires'} since {since}"


def _happened(event: AlertEventView) -> str:
    if (
        event.what in ("muted", "unmuted") and event.why
    ):  # by a rule, not a person: why says by what, a person's word included
        why = event.why if event.why.startswith("muted by ") else f"muted: {event.why}"
        return why if event.what == "muted" else f"no longer {why}"
    words = _WORDS.get(event.what, event.what)
    by = (
        f" by {event.who}"
        if event.who and event.what != "acknowledged"
        else f" ({event.who})"
        if event.who
        else ""
    )
    return f"{words}{by}" + (f": {event.why}" if event.why else "")
