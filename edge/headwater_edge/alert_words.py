"""What a local alert says: an anomaly, a change of a device's status, or what was found while the disk was full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import msgspec

from headwater_shared.identity import stable_id
from headwater_shared.records import Anomaly, Device, device_id

_RULES = {"offline": "device-offline", "silent": "device-silent"}
"""Rules under which device status goes out."""
RANKS = {"info": 0, "warning": 1, "critical": 2}


class Words(msgspec.Struct, frozen=True):
    """One alert, as a program reads it; `key` tells it from all others, and is the same each time that it is sent."""

    id: str
    phase: str
    """begin or end."""
    rule: str
    severity: str
    subject: str
    """The series, or site/device."""
    site: str
    device: str
    metric: str
    text: str
    value: float | None
    limit: float | None
    begin: str
    """ISO 8601, as is `time`."""
    time: str
    agent: str
    provisional: bool = False
    """Found by readings that still wait for the disk: it comes once more, under the same id, when they are taken in."""
    possible_repeat: bool = False
    """The agent was ended after it had begun to send this: perhaps it came before."""
    trace: str = ""
    """The id of the trace in which it reaches the cloud side; empty of a device's status, and of what is provisional."""

    @property
    def key(self) -> str:
        return f"{self.id}/{self.phase}"


def of_anomaly(anomaly: Anomaly) -> Words:
    """Say an anomaly's begin or end."""
    site, device, metric = _parts(anomaly.series)
    text = anomaly.text or f"{anomaly.rule}: {anomaly.series}"
    if anomaly.phase == "end":
        text = f"over: {text}"
    return Words(
        anomaly.id, anomaly.phase, anomaly.rule, anomaly.severity, anomaly.series, site, device, metric, text,
        anomaly.value, anomaly.limit if isfinite(anomaly.limit) else None, iso(anomaly.begin_us), iso(anomaly.time_us), anomaly.agent,
    )  # fmt: skip


def of_device(change: Device) -> list[Words]:
    """Say what a change of status ends and begins: that a device was offline or silent, that it is. Online is nothing to tell.

    Begin and end have the id of the change that began it.
    """
    began = device_id(change.device, change.before, change.before_us)
    return [
        _of_device(change, status, phase, id_, begin_us)
        for status, phase, id_, begin_us in (
            (change.before, "end", began, change.before_us),
            (change.status, "begin", change.id, change.time_us),
        )
        if status in _RULES
    ]


def _of_device(change: Device, status: str, phase: str, id_: str, begin_us: int) -> Words:
    site, _, device = change.device.partition("/")
    text = f"{change.device} is {change.status} ({change.reason.replace('-', ' ')})"
    if phase == "end":
        text = f"{change.device} is no longer {status}, it is {change.status}"
    return Words(
        id_, phase, _RULES[status], "warning", change.device, site, device, "", text, None, None,
        iso(begin_us), iso(change.time_us), change.agent,
    )  # fmt: skip


def of_test(agent: str, now_us: int) -> Words:
    """Say nothing but that a way works."""
    return Words(
        stable_id("test", agent, now_us), "begin", "test", "info", "test/test/test", "test", "test", "test",
        "a test: alerts reach you this way", None, None, iso(now_us), iso(now_us), agent,
    )  # fmt: skip


def body_of(words: Words) -> bytes:
    """The JSON of an alert; places in order, so that equal alerts are equal bytes."""
    return msgspec.json.encode(words)


def as_repeat(body: bytes) -> bytes:
    """Mark the JSON of an alert as one that perhaps was sent before; b"" if it is none: the file was damaged."""
    try:
        said: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b""
    return msgspec.json.encode({**said, "possible_repeat": True})


def topic_words(words: Words) -> dict[str, str]:
    """What a topic's placeholders stand for."""
    return {
        "site": words.site, "device": words.device, "metric": words.metric, "rule": words.rule,
        "severity": words.severity, "agent": words.agent,
    }  # fmt: skip


def iso(time_us: int) -> str:
    """A time as ISO 8601 in UTC; as a number where a calendar has no such day."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us}us"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parts(series: str) -> tuple[str, str, str]:
    site, _, rest = series.partition("/")
    device, _, metric = rest.partition("/")
    return site, device, metric
