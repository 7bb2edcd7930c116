"""What was found, missed and false: the anomalies of a run against what its ledger says was wrong, and when.

An anomaly is a pair of begin and end of one rule in one series. It finds a fault of its series (of its device, where the fault
is of all metrics; of its site, where the network was cut) if it begins between the fault's begin and a grace after its end: a
device that was silent is missed only some time later. Of several such faults it finds those that say most precisely where. One
that finds none is false.

A device that is found to be unlike its peers finds a fault of its series likewise, if the windows in which it was so overlap it. A pattern
is made of what was found already, so it finds nothing by itself; but where nothing was wrong at its device or site, it is false.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from headwater_cloud.views import AlertView, AnomalyView

GRACE_US = 15_000_000
EARLY_US = 2_000_000
"""How long before a fault its anomaly may begin: a silence begins at the last reading before it."""
_FOR_EVER = 2**63
_FAR_S = 30 * 86_400.0
"""A time so far from the origin is told as a date."""
_PLACE = ("site", "device", "metric")
_NOT_JUDGED = "network-"
"""Kinds of truth that change no reading and silence nobody."""


class Wrong(msgspec.Struct, frozen=True):
    """One thing that was wrong, and what found it first; times in microseconds."""

    kind: str
    series: str
    """site/device/metric, with * for all."""
    begin_us: int
    end_us: int
    rule: str
    """That found it; empty: it was missed."""
    after_us: int
    """From its begin to that of the anomaly."""


class Spurious(msgspec.Struct, frozen=True):
    """An anomaly where nothing was wrong."""

    rule: str
    series: str
    begin_us: int


class Verdict(NamedTuple):
    """All of a run."""

    wrong: list[Wrong]
    false: list[Spurious]

    @property
    def found(self) -> list[Wrong]:
        return [one for one in self.wrong if one.rule]

    @property
    def missed(self) -> list[Wrong]:
        return [one for one in self.wrong if not one.rule]

    def line(self) -> str:
        return f"truth: {len(self.wrong)} wrong, {len(self.found)} found, {len(self.missed)} missed, {len(self.false)} false"


class _Episode(NamedTuple):
    """An anomaly, or that a device was unlike its peers, or a pattern; in the order in which they begin."""

    begin_us: int
    series: str
    """Of a pattern its device or site."""
    rule: str
    end_us: int | None = None
    """None of an anomaly: its begin counts."""


def judge(
    truth: Iterable[dict[str, Any]],
    anomalies: Iterable[AnomalyView],
    grace_us: int = GRACE_US,
    last_us: Mapping[str, int] | None = None,
    scale: float = 1.0,
    alerts: Iterable[AlertView] = (),
) -> Verdict:
    """Hold anomalies against the truth.

    Args:
        truth: the ledger's fault intervals: kind, site, device, metric, begin_us, end_us; empty device or metric: all.
        anomalies: begins and ends, in any order.
        grace_us: how long after its end a fault may still be found.
        last_us: when each series was last heard of: that it is silent from then on is the end of the run.
        scale: how many times as fast time ran: all that is waited for is as much longer.
        alerts: those of comparisons and patterns are judged, too; others are anomalies already.
    """
    anomalies = list(anomalies)
    grace_us, early_us = round(grace_us * scale), round(EARLY_US * scale)
    faults = sorted(
        (one for one in truth if not one["kind"].startswith(_NOT_JUDGED)),
        key=lambda one: (one["begin_us"], one["site"], one["device"]),
    )
    finds: list[list[_Episode]] = [[] for _ in faults]
    false = []
    for episode in sorted([*_episodes(anomalies), *_of_alerts(alerts, anomalies)], key=lambda one: one[:3]):
        by = [at for at, fault in enumerate(faults) if _finds(episode, fault, grace_us, early_us)]
        most = max((_precision(faults[at]) for at in by), default=0)
        for at in by if _is_of_series(episode) else ():
            if _precision(faults[at]) == most:
                finds[at].append(episode)
        ended = last_us is not None and episode.begin_us >= last_us.get(episode.series, 2**63) - early_us
        if not by and not ended:
            false.append(Spurious(episode.rule, episode.series, episode.begin_us))
    wrong = []
    for fault, found in zip(faults, finds, strict=True):
        begin, end = fault["begin_us"], fault["end_us"]
        found.sort(
            key=lambda one: one.end_us is not None
        )  # of a window it is not known when in it something began
        where = "/".join(fault[key] or "*" for key in _PLACE)
        rule, after = (found[0].rule, max(0, found[0].begin_us - begin)) if found else ("", 0)
        wrong.append(Wrong(fault["kind"], where, begin, end, rule, after))
    return Verdict(wrong, false)


def lines(verdict: Verdict, origin_us: int) -> list[str]:
    """Tell a verdict, the sum in the last line; times are after the origin of the run. What many see is one line."""
    out = []
    for group in _grouped(verdict.wrong):
        first = next((one for one in group if one.rule), group[0])
        end_us = max(one.end_us for one in group)
        when = f"{_since(group[0].begin_us, origin_us)} to {_since(end_us, origin_us)}"
        how = f"by {first.rule} after {_since(first.after_us, 0)}" if first.rule else "by no rule"
        found = sum(bool(one.rule) for one in group)
        if len(group) > 1:
            how = f"at {found} of {len(group)} devices, first {how}"
        word = "found" if found == len(group) else "partly" if found else "MISSED"
        out.append(f"  {word:6}  {first.kind:12}  {first.series:32}  {when:22}  {how}")
    false: dict[tuple[str, str], list[Spurious]] = {}
    for spurious in verdict.false:
        false.setdefault((spurious.rule, spurious.series), []).append(spurious)
    for (rule, series), times in false.items():
        often = (
            f"nothing was wrong there, {len(times)} times" if len(times) > 1 else "nothing was wrong there"
        )
        out.append(f"  FALSE   {rule:12}  {series:32}  {_since(times[0].begin_us, origin_us):22}  {often}")
    return [*out, verdict.line()]


def _grouped(wrong: Sequence[Wrong]) -> list[list[Wrong]]:
    """Put together what many devices see of one event."""
    groups: dict[tuple[str, ...], list[Wrong]] = {}
    for one in wrong:
        metric = one.series.rpartition("/")[2]
        groups.setdefault(
            (one.kind, metric) if one.kind == "event" else (one.kind, one.series, str(one.begin_us)), []
        ).append(one)
    return list(groups.values())


def _episodes(anomalies: Iterable[AnomalyView]) -> list[_Episode]:
    """Join begins and ends: they name the same begin."""
    return sorted({_Episode(one.begin_us, one.series, one.rule) for one in anomalies})


def _of_alerts(alerts: Iterable[AlertView], anomalies: Iterable[AnomalyView]) -> Iterator[_Episode]:
    """Yield those of comparisons and patterns: of whichever rule there is no anomaly, and not of agents or cohorts."""
    rules = {one.rule for one in anomalies}
    for one in alerts:
        if one.rule not in rules and one.state != "withdrawn" and not one.key.startswith(("agent:", "+")):
            yield _Episode(
                one.episode_us, one.subject, one.rule, _FOR_EVER if one.end_us is None else one.end_us
            )


def _is_of_series(episode: _Episode) -> bool:
    return episode.series.count("/") == len(_PLACE) - 1


def _finds(episode: _Episode, fault: dict[str, Any], grace_us: int, early_us: int) -> bool:
    """Tell whether something is of a fault's place and time; empty parts of a place stand for all, and missing ones too."""
    place = zip(_PLACE, episode.series.split("/", 2), strict=False)
    if not all(fault[key] in {"", name} for key, name in place):
        return False
    if episode.end_us is not None:
        return bool(fault["begin_us"] < episode.end_us and episode.begin_us < fault["end_us"] + grace_us)
    return bool(fault["begin_us"] - early_us <= episode.begin_us < fault["end_us"] + grace_us)


def _precision(fault: dict[str, Any]) -> int:
    return sum(bool(fault[key]) for key in _PLACE)


def _since(time_us: int, origin_us: int) -> str:
    seconds = (time_us - origin_us) / 1e6
    if abs(seconds) >= _FAR_S:
        return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if abs(seconds) >= 3_600:
        return f"{seconds / 3_600:.2f} h"
    return f"{seconds:.1f} s"
