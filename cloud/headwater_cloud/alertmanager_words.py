"""What Alertmanager is told of an alert: labels, by which it knows one alert whoever sends it, and annotations, which people read (R29)."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headwater_cloud.notify import iso
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_words import words_of
from headwater_cloud.outputs import Notification
from headwater_cloud.sending import Message
from headwater_cloud.views import AlertView

_BAD = re.compile(r"%(?![0-9A-Fa-f]{2})")
SOURCE = "headwater"
"""The label `source`: what tells alerts about machines from those of Prometheus in the same Alertmanager."""


def labels_of(alert: AlertView) -> str:
    """Return the labels of an alert as JSON, always in one order.

    They say what is where, and nothing that differs between two who watch the same (id, region, value, rule version), or that
    comes out of the registry, which reaches two at two times.
    """
    labels = {
        "alertname": alert.rule, "device": alert.device.removeprefix(f"{alert.site}/"), "severity": alert.severity, "site": alert.site,
        "source": SOURCE, "subject": alert.subject,
    }  # fmt: skip
    return msgspec.json.encode({name: text for name, text in labels.items() if text}).decode()


def annotations_of(alert: AlertView, zones: Zones, zone: tzinfo | None, ack: str, why: str) -> dict[str, str]:
    """Return the annotations of an alert.

    Args:
        ack: the link that acknowledges it, "" if there is none.
        why: why it is no longer sent though it is not over, "" of one that is sent, or is over.
    """
    said = words_of(Message(alert.id, (_notification(alert),)), zones, zone, lambda _: ack)
    texts = {
        "summary": f"{alert.rule} at {alert.subject}", "description": "\n".join(said.lines), "text": alert.text, "value": f"{alert.value:g}",
        "sure": alert.sure, "do": alert.do, "link": alert.link, "runbook_url": alert.runbook, "acknowledge": ack,
        "acknowledged": alert.acked, "muted": "" if why else alert.muted, "withdrawn": why, "model": alert.model, "place": alert.place,
        "owner": alert.owner, "alert": alert.id, "incident": alert.incident, "since": iso(alert.episode_us),
    }  # fmt: skip
    return {name: text for name, text in texts.items() if text}


def _notification(alert: AlertView) -> Notification:
    return Notification(
        id=alert.id, alert=alert.id, state="firing", rule=alert.rule, subject=alert.subject, severity=alert.severity, text=alert.text,
        value=alert.value, begin_us=alert.episode_us, time_us=alert.time_us, site=alert.site, incident=alert.incident, do=alert.do,
        link=alert.link, sure=alert.sure, model=alert.model, place=alert.place, owner=alert.owner, runbook=alert.runbook,
    )  # fmt: skip


def body_of(labels: dict[str, str], said: dict[str, str], begin_us: int, end_us: int) -> dict[str, Any]:
    """One alert as Alertmanager takes it; `generatorURL` is where a click on it leads."""
    link = said.get("acknowledge") or said.get("link", "")
    made = {"labels": labels, "annotations": said, "startsAt": iso(begin_us), "endsAt": iso(end_us)}
    return made | ({"generatorURL": link} if _is_link(link) else {})


def _is_link(text: str) -> bool:
    """Tell whether Alertmanager takes it for an address: of one that it does not it refuses all that came along."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not _BAD.search(text)
        )
    except ValueError:
        return False
