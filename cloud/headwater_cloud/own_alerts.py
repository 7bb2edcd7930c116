"""ADAPTER until `watch` is merged: each anomaly as an episode of its own, from its begin and end, whichever came first.

It stands in for evidence, watch and patterns, and goes with its piece `own/KEY` when they come.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headwater_cloud.episodes import Episode, Watched
from headwater_shared.identity import device_of
from headwater_shared.records import Anomaly

_MOST = 500
_MAY_BE_GONE = 2**62
"""What an anomaly was is never taken back: one that is not there was let go."""


class Sides(msgspec.Struct, array_like=True):
    """What is known of one anomaly."""

    id: str
    rule: str
    subject: str
    begin_us: int
    agent: str = ""
    begin: tuple[int, float, str, str] | None = None
    """Event time, value, severity, text."""
    end: tuple[int, float, str, str] | None = None
    sure: str = ""

    def episode(self) -> Episode:
        newest = self.end or self.begin
        assert newest is not None
        first = self.begin or newest
        return Episode(
            self.rule, self.subject, self.begin_us, first[0] if self.begin else self.begin_us,
            self.end[0] if self.end else None, first[2], newest[3] or first[3], newest[1], (self.id,), (self.agent,), self.sure,
        )  # fmt: skip


Own = dict[str, dict[str, Sides]]
"""By key, then by anomaly."""


def step(own: Own, anomalies: Iterable[Anomaly]) -> tuple[list[Watched], set[str]]:
    """Take anomalies in; `own` is changed in place. Returns what alerts take, and the keys that have changed."""
    touched: set[tuple[str, str]] = set()
    late: dict[tuple[str, str], list[Episode]] = {}
    for one in anomalies:
        key = device_of(one.series)
        of = own.setdefault(key, {})
        if one.id not in of:
            of[one.id] = Sides(one.id, one.rule, one.series, one.begin_us, one.agent)
        sides = of[one.id]
        said = (one.time_us, one.value, one.severity, one.text)
        sides.agent = min(sides.agent, one.agent)
        if one.phase == "begin":
            sides.begin = min(sides.begin or said, said)
            sides.sure = max(sides.sure, _sure(one))
        else:
            sides.end = max(sides.end or said, said)
        touched.add((key, one.rule))
    for key in {key for key, _ in touched}:
        for gone in _let_go(own[key]):
            if (key, gone.rule) in touched:
                late.setdefault((key, gone.rule), []).append(gone.episode())
    watched = []
    for key, rule in sorted(touched):
        of_rule = [one.episode() for one in own[key].values() if one.rule == rule]
        watched.append(Watched(key, rule, (*of_rule, *late.get((key, rule), [])), _MAY_BE_GONE))
    return watched, {key for key, _ in touched}


def _let_go(of: dict[str, Sides]) -> list[Sides]:
    gone = []
    while len(of) > _MOST:
        oldest = min(of.values(), key=lambda one: (one.begin_us, one.id))
        gone.append(of.pop(oldest.id))
    return gone


def _sure(one: Anomaly) -> str:
    if not one.scores:
        return "measured"
    return f"{len(one.scores)} detectors, degree {one.degree:.2f}"
