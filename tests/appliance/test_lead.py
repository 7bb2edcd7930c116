"""How long before a limit broke detectors saw it: told from the truth and the anomalies."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from headwater_appliance.lead import leads
from headwater_cloud.views import AlertView, AnomalyView

HOUR_US = 3_600_000_000
T = 1_800_000_000_000_000


def worn(begin_h: float, end_h: float, metric: str = "vibration") -> dict[str, Any]:
    return {"kind": "wear", "site": "a", "device": "p1", "metric": metric, "begin_us": T + round(begin_h * HOUR_US), "end_us": T + round(end_h * HOUR_US)}  # fmt: skip


def found(rule: str, metric: str, at_h: float, *, scores: str = "[]") -> AnomalyView:
    at_us = T + round(at_h * HOUR_US)
    limit = 5.0 if scores == "[]" else None
    return AnomalyView(
        rule + str(at_h), "begin", "a", rule, f"a/p1/{metric}", at_us, at_us, 1.0, limit, "warning", "new maximum", "[]", scores, 0.9
    )  # fmt: skip


SEEN = '[["extreme", 7.2]]'


def test_the_lead_is_from_the_detectors_first_alarm_to_the_first_limit() -> None:
    """In hours, with what saw it and why; alarms from before the wear, and of other metrics, do not count."""
    told = leads(
        [worn(10, 50), worn(26, 50, "temperature"), {**worn(0, 1), "kind": "spike"}],
        [
            found("unusual", "vibration", 9, scores=SEEN),
            found("unusual", "flow", 11, scores=SEEN),
            found("shakes", "vibration", 36.5),
            found("unusual", "vibration", 20.25, scores=SEEN),
            found("unusual", "temperature", 30, scores=SEEN),
        ],
        T,
    )
    assert told == [
        "  EARLY   a/p1 wears out from 10.0 h on: seen by unusual in vibration at 20.2 h, 16.2 h before shakes broke at 36.5 h",
        "          new maximum",
    ]


def test_a_limit_that_breaks_first_or_alone_is_late() -> None:
    """No lead is told where there is none."""
    late = [found("shakes", "vibration", 20), found("unusual", "vibration", 21, scores=SEEN)]
    assert leads([worn(10, 50)], late, T) == [
        "  LATE    a/p1 wears out from 10.0 h on: shakes broke at 20.0 h, seen by unusual in vibration at 21.0 h"
    ]
    assert leads([worn(10, 50)], late[:1], T) == [
        "  LATE    a/p1 wears out from 10.0 h on: no detector saw it; shakes broke at 20.0 h"
    ]


def test_where_no_limit_broke_it_is_said() -> None:
    """It was seen, and nothing came of it; and where nothing wears out nothing is told."""
    assert leads([worn(10, 50)], [found("unusual", "vibration", 21, scores=SEEN)], T)[0].endswith(
        "at 21.0 h, and no limit broke"
    )
    assert leads([], [], T) == []


def test_a_pattern_that_was_complete_before_a_limit_broke_is_told() -> None:
    """Of the device itself; one that was withdrawn, or is pending, was not."""
    seen = [found("unusual", "vibration", 21, scores=SEEN), found("warm", "temperature", 36)]
    alert = AlertView(
        "x", "bearing-fails", "a/p1", "resolved", "critical", "", T + 21 * HOUR_US, T, 1.0, fired_us=T + 33 * HOUR_US
    )  # fmt: skip
    assert leads([worn(10, 50), worn(26, 50, "temperature")], seen, T, [alert])[2:] == [
        "          bearing-fails was complete at 33.0 h, 3.0 h before warm broke"
    ]
    assert leads([worn(10, 50)], seen, T, [alert])[2:] == ["          bearing-fails was complete at 33.0 h"]
    others = [
        replace(alert, state="withdrawn"),
        replace(alert, fired_us=None),
        replace(alert, subject="a/p2"),
    ]
    assert len(leads([worn(10, 50)], seen, T, others)) == 2
