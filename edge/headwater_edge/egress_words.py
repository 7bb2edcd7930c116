"""What egress says: windows, anomalies and device status as JSON on topics."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from headwater_edge.alert_words import body_of, iso, of_anomaly, topic_words
from headwater_edge.egress_settings import EgressSettings
from headwater_edge.output import Output
from headwater_edge.topic_templates import filled
from headwater_shared.frame import Frame
from headwater_shared.parts import level_of


class Message(NamedTuple):
    """One message on its way out; `about` is the series or (site/device) it is of, and `rule` of an anomaly."""

    topic: str
    payload: bytes
    kind: str
    """window, anomaly or status."""
    about: str
    rule: str = ""


def messages_of(settings: EgressSettings, output: Output, agent: str) -> Iterator[Message]:
    """Yield what a tick puts out for others, in order."""
    if settings.windows:
        for frame in output.frames:
            yield from _windows(settings, frame, agent)
    if settings.anomalies:
        for anomaly in output.anomalies:
            if fits(settings, anomaly.series):
                words = of_anomaly(anomaly)
                topic = filled(settings.anomaly_topic, topic_words(words))
                yield Message(topic, body_of(words), "anomaly", anomaly.series, anomaly.rule)
    if settings.devices or settings.home_assistant:
        for one in output.devices:
            said = {
                "device": one.device, "status": one.status, "before": one.before, "reason": one.reason,
                "time": iso(one.time_us), "heard": iso(one.heard_us),
            }  # fmt: skip
            yield Message(
                status_topic(settings, one.device, agent), msgspec.json.encode(said), "status", one.device
            )


def window_topic(settings: EgressSettings, series: str, level: str, agent: str) -> str:
    return filled(settings.window_topic, {**_words(series, agent), "level": level})


def status_topic(settings: EgressSettings, device: str, agent: str) -> str:
    site, _, name = device.partition("/")
    return filled(settings.device_topic, {"site": site, "device": name, "agent": agent})


def fits(settings: EgressSettings, series: str) -> bool:
    """Tell whether a series goes out."""
    return any(fnmatchcase(series, pattern) for pattern in settings.series)


def _windows(settings: EgressSettings, frame: Frame, agent: str) -> Iterator[Message]:
    parts = frame.parts
    a = parts.aggregates
    wanted = {at: name for at, name in enumerate(parts.levels) if name in settings.windows}
    if not wanted:
        return
    names = {at: name for at, name in enumerate(parts.names) if fits(settings, name)}
    columns = zip(
        parts.series.tolist(), parts.level.tolist(), parts.start.tolist(), parts.revision.tolist(), a.count.tolist(),
        a.mean.tolist(), a.min.tolist(), a.max.tolist(), a.first.tolist(), a.last.tolist(), strict=True,
    )  # fmt: skip
    for series, level, start, revision, count, mean, least, most, first, last in columns:
        if level not in wanted or series not in names or not count:
            continue
        name, length_us = names[series], level_of(wanted[level]).length_us
        said: dict[str, Any] = {
            "series": name, "level": wanted[level], "start": iso(start), "end": iso(start + length_us) if length_us else None,
            "count": count, "mean": mean, "min": least, "max": most, "first": first, "last": last, "revision": revision,
        }  # fmt: skip
        topic = window_topic(settings, name, wanted[level], agent)
        yield Message(topic, msgspec.json.encode(said), "window", name)


def _words(series: str, agent: str) -> dict[str, str]:
    site, _, rest = series.partition("/")
    device, _, metric = rest.partition("/")
    return {"site": site, "device": device, "metric": metric, "agent": agent}
