"""How long before a limit broke detectors saw that a part wears out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headwater_appliance.shown import odds
from headwater_cloud.views import AlertView, AnomalyView

_WEAR = "wear"


def leads(
    truth: Iterable[dict[str, Any]], anomalies: Sequence[AnomalyView], origin_us: int, alerts: Iterable[AlertView] = ()
) -> list[str]:  # fmt: skip
    """Tell of each device that wears out in the ledger's truth when it was seen by detectors, when by a pattern, and when by a limit.

    What counts is when each could be known: the end of the window that showed it, the last step of the pattern, the reading that was
    past the limit. Times are told as hours after the origin of the run. `alerts`: those of patterns are of the device.
    """
    worn: dict[str, list[dict[str, Any]]] = {}
    for fault in truth:
        if fault["kind"] == _WEAR:
            worn.setdefault(f"{fault['site']}/{fault['device']}", []).append(fault)
    found = {one.subject: one for one in alerts if one.state != "withdrawn" and one.fired_us is not None}
    return [
        line
        for device, faults in worn.items()
        for line in _lead(device, faults, anomalies, origin_us, found.get(device))
    ]


def _lead(
    device: str, faults: Sequence[dict[str, Any]], anomalies: Sequence[AnomalyView], origin_us: int, pattern: AlertView | None
) -> list[str]:  # fmt: skip
    begin_us, end_us = min(one["begin_us"] for one in faults), max(one["end_us"] for one in faults)
    series = {f"{device}/{one['metric']}" for one in faults}
    ours = sorted(
        (
            one
            for one in anomalies
            if one.phase == "begin" and one.series in series and begin_us <= one.time_us < end_us
        ),
        key=lambda one: one.time_us,
    )
    seen = next((one for one in ours if one.scores != "[]"), None)
    broke = next((one for one in ours if one.scores == "[]" and one.limit is not None), None)

    def hours(time_us: int) -> str:
        return f"{(time_us - origin_us) / 3.6e9:.1f} h"

    limit = f"{broke.rule} broke at {hours(broke.time_us)}" if broke else "no limit broke"
    if seen is None:
        return [f"  LATE    {device} wears out from {hours(begin_us)} on: no detector saw it; {limit}"]
    what = f"seen by {seen.rule} in {seen.series.rpartition('/')[2]} at {hours(seen.time_us)}"
    if broke is None:
        when = ", and no limit broke"
    elif broke.time_us <= seen.time_us:
        return [f"  LATE    {device} wears out from {hours(begin_us)} on: {limit}, {what}"]
    else:
        when = f", {(broke.time_us - seen.time_us) / 3.6e9:.1f} h before {limit}"
    lines = [
        f"  EARLY   {device} wears out from {hours(begin_us)} on: {what}{when}",
        f"          {seen.text}",
    ]
    if pattern is not None and pattern.fired_us is not None:
        before = (
            f", {(broke.time_us - pattern.fired_us) / 3.6e9:.1f} h before {broke.rule} broke" if broke else ""
        )
        lines.append(f"          {pattern.rule} was complete at {hours(pattern.fired_us)}{before}")
    return lines


def rarest(anomaly: AnomalyView, most: int = 3) -> str:
    """Say how rare what detectors saw is, the rarest first."""
    scores = sorted(
        msgspec.json.decode(anomaly.scores, type=list[tuple[str, float]]), key=lambda one: -one[1]
    )
    return ", ".join(f"{name} {odds(rarity)}" for name, rarity in scores[:most])
