"""Found, missed, false: anomalies against the truth of a ledger."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
from msgspec.structs import replace

from headwater_appliance import told
from headwater_appliance.demo_settings import rules_of
from headwater_appliance.judge import judge, lines
from headwater_cloud.outputs import Notification
from headwater_cloud.views import AlertView, AnomalyView
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_firmware_sim import scenario

S = 1_000_000
T = 1_800_000_000 * S


def wrong(kind: str, place: str, begin: int, end: int) -> dict[str, Any]:
    """Make a fault of the ledger, in seconds after T."""
    site, device, metric = (name.replace("*", "") for name in place.split("/"))
    return {"kind": kind, "site": site, "device": device, "metric": metric, "begin_us": T + begin * S, "end_us": T + end * S}  # fmt: skip


_REST = ("warning", "", "", "[]", 0.0)


def anomaly(rule: str, series: str, begin: float, end: float | None = None) -> list[AnomalyView]:
    """Make the begin of an anomaly, and its end if it has one."""
    begin_us = T + round(begin * S)
    times = {"begin": begin_us} | ({} if end is None else {"end": T + round(end * S)})
    return [
        AnomalyView(f"{rule}{phase}", phase, "a", rule, series, begin_us, at, 1.0, 0.0, *_REST)  # type: ignore[arg-type]
        for phase, at in times.items()
    ]


def alert(
    rule: str, subject: str, begin: float, end: float | None = None, state: Any = "resolved", **more: Any
) -> AlertView:
    """Make an alert of seconds after T."""
    end_us = None if end is None else T + round(end * S)
    return AlertView(
        f"{rule}{subject}{begin}", rule, subject, state, "warning", "it is odd", T + round(begin * S), end_us or T, 1.0, subject,
        end_us=end_us, **more,
    )  # fmt: skip


HOT = wrong("level-shift", "a/p1/heat", 20, 40)


def test_what_begins_in_a_fault_of_its_series_has_found_it() -> None:
    """The first one counts, with how long after the begin it came; a second one is not false."""
    found = judge([HOT], [*anomaly("hot", "a/p1/heat", 31, 33), *anomaly("hot", "a/p1/heat", 22.5, 30)])
    ((one,), false) = found
    assert (one.rule, one.after_us, one.series) == ("hot", 2_500_000, "a/p1/heat")
    assert false == []
    assert found.line() == "truth: 1 wrong, 1 found, 0 missed, 0 false"


def test_what_nobody_found_is_missed_and_what_was_not_wrong_is_false() -> None:
    """Another series, an anomaly from before that merely lasts, one that begins long after: all of them false."""
    others = [
        *anomaly("hot", "a/p2/heat", 25, 30),
        *anomaly("hot", "a/p1/heat", 5),
        *anomaly("hot", "a/p1/heat", 90, 91),
    ]
    found = judge([HOT], others)
    assert [one.series for one in found.missed] == ["a/p1/heat"]
    assert sorted((one.begin_us - T) // S for one in found.false) == [5, 25, 90]


def test_a_fault_may_be_found_shortly_after_its_end_and_a_silence_from_the_last_reading_on() -> None:
    """Ten seconds late is found; an anomaly that begins one second before the silence is, too."""
    assert judge([HOT], anomaly("hot", "a/p1/heat", 50)).missed == []
    silent = wrong("dropout", "a/p1/*", 20, 40)
    assert judge([silent], anomaly("gone", "a/p1/heat", 19)).missed == []


def test_of_several_faults_the_most_precise_is_found() -> None:
    """A value above its limit in the middle of an outage of the site says nothing of the outage; a silent device does."""
    outage = wrong("outage", "a/*/*", 15, 45)
    hot = anomaly("hot", "a/p1/heat", 21)
    assert [one.kind for one in judge([HOT, outage], hot).missed] == ["outage"]
    assert judge([HOT, outage], [*hot, *anomaly("gone", "a/p9/heat", 30)]).missed == []


def test_what_changes_no_reading_is_not_judged() -> None:
    """A slow network is in the ledger, and neither found nor missed."""
    assert judge([wrong("network-delay", "a/*/*", 0, 9)], []).wrong == []


def test_it_is_told_in_lines_an_event_that_many_see_in_one() -> None:
    """Times are seconds after the origin, or hours and days; the sum is the last line."""
    many = [wrong("event", f"a/s{n}/dust", 10 + n, 20 + n) for n in range(3)]
    early = wrong("stuck", "a/p3/heat", -7200, -3600)
    seen = [
        *anomaly("dust", "a/s1/dust", 12),
        *anomaly("dust", "a/s0/dust", 13),
        *anomaly("hot", "b/x/heat", 3),
        *anomaly("hot", "b/x/heat", 4),
    ]
    told = lines(judge([*many, early], seen), T)
    assert [line.split()[0] for line in told] == ["MISSED", "partly", "FALSE", "truth:"]
    assert "-2.00 h to -1.00 h" in told[0]
    assert "10.0 s to 22.0 s" in told[1]
    assert told[2].endswith("2 times")
    assert "at 2 of 3 devices, first by dust after 3.0 s" in told[1]
    assert told[-1] == "truth: 4 wrong, 2 found, 2 missed, 2 false"


def test_that_all_is_silent_after_the_run_is_not_false() -> None:
    """What begins at the last reading of its series is the end of the run; what began before is judged."""
    gone = [*anomaly("gone", "a/p1/heat", 59), *anomaly("gone", "a/p2/heat", 30)]
    found = judge([], gone, last_us={"a/p1/heat": T + 60 * S, "a/p2/heat": T + 60 * S})
    assert [one.series for one in found.false] == ["a/p2/heat"]


def test_a_time_that_is_far_away_is_told_as_a_date() -> None:
    """A clock that boots in 1970."""
    told = lines(judge([wrong("clock-1970", "a/p1/*", 5 - T // S, 25 - T // S)], []), T)
    assert "1970-01-01 00:00:05 to 1970-01-01 00:00:25" in told[0]


def test_every_scenario_has_rules() -> None:
    """Those that ship have their own; a file of one's own has a few."""
    shipped = {rules_of(name) for name, _ in scenario.names()}
    assert len(shipped) == len(list(scenario.names()))
    assert rules_of("some/file.toml") not in shipped
    for rules in (*shipped, rules_of("some/file.toml")):
        step_settings(msgspec.convert(tomllib.loads(rules)["edge"], EdgeSettings))


def test_a_device_unlike_its_peers_is_found_where_its_windows_overlap_the_fault() -> None:
    """A window begins before what it shows; an anomaly says more precisely when. What was withdrawn is none."""
    apart = alert("apart", "a/p1/heat", 15, 30)
    found = judge([HOT], [], alerts=[apart])
    assert [(one.rule, one.after_us) for one in found.wrong] == [("apart", 0)]
    assert found.false == []
    both = judge([HOT], anomaly("hot", "a/p1/heat", 22), alerts=[apart, alert("hot", "a/p1/heat", 22, 40)])
    assert [(one.rule, one.after_us) for one in both.wrong] == [("hot", 2 * S)]
    assert (
        judge([HOT], [], alerts=[alert("apart", "a/p1/heat", 15, 30, state="withdrawn")])
        .line()
        .endswith("1 missed, 0 false")
    )
    for begin, end in ((0, 20), (55, 65)):
        assert (
            judge([HOT], [], alerts=[alert("apart", "a/p1/heat", begin, end)])
            .line()
            .endswith("1 missed, 1 false")
        )


def test_a_pattern_finds_nothing_by_itself_and_is_false_where_nothing_was_wrong() -> None:
    """It is made of what was found; of agents and cohorts nothing is judged."""
    for subject in ("a/p1", "a"):
        assert judge([HOT], [], alerts=[alert("fails", subject, 25, 30)]).line().endswith("1 missed, 0 false")
    for subject in ("a/p2", "b"):
        assert judge([HOT], [], alerts=[alert("fails", subject, 25, 30)]).line().endswith("1 missed, 1 false")
    others = [
        replace(alert("agent-silent", "x", 25), key="agent:x"),
        replace(alert("many", "+P100", 25), key="+P100"),
    ]
    assert judge([HOT], [], alerts=others).false == []


def test_what_people_were_told_is_summed_up() -> None:
    """Notifications by their kind, of how many incidents with how many alerts; and each pattern with its place and time."""
    alerts = [
        alert("hot", "a/p1/heat", 20, 40, incident="i1"), alert("hot", "a/p2/heat", 21, 40, incident="i1", muted="smoke"),
        alert("fails", "a/p1", 7200, None, state="firing", incident="i2", fired_us=T + 7290 * S),
        alert("hot", "a/p3/heat", 20, 40, state="withdrawn", incident="i3"),
    ]  # fmt: skip
    sent = [
        Notification(f"{n}", "x", state, "hot", "a/p1/heat", "warning", "", 1.0, T, T)  # type: ignore[arg-type]
        for n, state in enumerate(("firing", "growing", "firing", "resolved"))
    ]
    assert told.line(alerts, sent) == (
        "told: 4 notifications (2 firing, 1 growing, 1 resolved) of 2 incidents with 3 alerts, 1 of them muted"
    )
    assert told.line([], []) == "told: 0 notifications of 0 incidents with 0 alerts, 0 of them muted"
    (line,) = told.patterns(alerts, ["fails", "smoke"], T)
    assert line.split() == [
        "PATTERN",
        "fails",
        "a/p1",
        "2.00",
        "h",
        "it",
        "is",
        "odd;",
        "complete",
        "90.0",
        "s",
        "after",
        "its",
        "begin",
    ]
