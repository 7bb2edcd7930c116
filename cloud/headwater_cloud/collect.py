"""What a batch says becomes evidence, under its device, and where patterns ask for it under its site and cohort.

Home of a device's evidence is the shard that found it; of a site, cohort or agent another one, to which it goes as a record then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.book import Step
from headwater_cloud.evidence import Evidence, EvidenceKind, of_anomaly, of_command, of_device, of_silence
from headwater_cloud.kept_evidence import KeyEvidence
from headwater_cloud.matching import Index
from headwater_cloud.merge import Windows
from headwater_cloud.names import Names
from headwater_cloud.rule_records import Noted, agent_key, evidence_record
from headwater_shared.bus import Record
from headwater_shared.identity import device_of, site_of
from headwater_shared.parts import level_of
from headwater_shared.peers import Finding
from headwater_shared.records import Anomaly, Command, Device


class Place(Protocol):
    """A shard, as far as evidence asks."""

    number: int
    clock_us: int
    evidence: dict[str, KeyEvidence]

    def cohort_of(self, device: str) -> str: ...

    def is_home(self, key: str) -> bool: ...


@dataclass(slots=True)
class Changes:
    """What of a shard's evidence is new, gone or otherwise, by key."""

    keys: dict[str, dict[str, Evidence]] = field(default_factory=dict)
    """By id; of what is gone as it was."""
    records: list[Record] = field(default_factory=list)


_MAY_COME_US = 30_000_000
"""A finding of peers comes so long after its window at most: only then is it known that there is none."""


class Collector:
    """Takes what a batch says into a shard's evidence."""

    def __init__(self, shard: Place, index: Index) -> None:
        self._shard, self._index = shard, index
        self.changes = Changes()

    def rows(
        self, anomalies: Iterable[Anomaly], commands: Iterable[Command], devices: Iterable[Device]
    ) -> None:
        """Take in what agents found, did and saw."""
        for anomaly in anomalies:
            self._put(of_anomaly(anomaly))
        for command in commands:
            if (ended := of_command(command)) is not None:
                self._put(ended)
        for device in devices:
            for status in of_device(device):
                key = self._shard.evidence.setdefault(device.device, KeyEvidence())
                self._changed(device.device, key.put_status(status), ())

    def noted(self, some: Iterable[Noted]) -> None:
        """Take in what other shards found; of one id the latest counts."""
        for key, one, gone in some:
            kept = self._shard.evidence.setdefault(key, KeyEvidence())
            if (kept.evidence.pop(one.id, None) is not None) if gone else kept.take(one):
                self.changes.keys.setdefault(key, {})[one.id] = one

    def silent(self, agent: str, since_us: int, heard_us: int | None) -> None:
        """Take in that an agent is not heard; `heard_us`: when it was again."""
        self._scope(agent_key(agent), of_silence(agent, self._shard.number, since_us, heard_us), gone=False)

    def findings(self, some: Iterable[Finding]) -> None:
        """Take in how devices compare with their peers, window by window."""
        for of in some:
            subject, end_us = f"{of.device}/{of.metric}", of.start_us + of.length_us
            if not of.outlier:
                self._cut("peer", of.rule, subject, of.start_us, end_us)
                continue
            one = Evidence(
                "", "peer", of.rule, subject, of.device, of.start_us, end_us, of.value, of.severity, of.text, of.agent,
                next_us=of.length_us + _MAY_COME_US, sure=f"{of.away:.3g} spreads away from {of.peers} peers",
            )  # fmt: skip
            key = self._shard.evidence.setdefault(of.device, KeyEvidence())
            self._changed(of.device, *key.put_window(one))

    def windows(self, windows: Windows, names: Names) -> None:
        """Take in windows that patterns ask for: those that satisfy a step, and those that no longer do."""
        for name, steps in self._index.windows.items():
            level = steps[0].level
            if level not in names.levels:
                continue
            (number,) = names.level_numbers([level]).tolist()
            asked = (windows.level == number) & (windows.shard == self._shard.number)
            rows = np.flatnonzero(asked & self._index.asks(name, names.series)[windows.series])
            mean = windows.aggregates.mean[rows]
            so = (windows.aggregates.count[rows] > 0) & satisfied(steps[0], mean)
            hop_us = level_of(level).hop_us
            for row, is_so, value in zip(rows.tolist(), so.tolist(), mean.tolist(), strict=True):
                series, start_us = names.series[windows.series[row]], int(windows.start[row])
                agent = names.openers[windows.opener[row]].agent
                self.window(name, series, (start_us, hop_us), value if is_so else None, agent)

    def window(self, name: str, series: str, time: tuple[int, int], mean: float | None, agent: str) -> None:
        """Take in a window that a step asks for: start and length, and its mean if that is as the step wants it."""
        start_us, length_us = time
        if mean is None:
            self._cut("window", name, series, start_us, start_us + length_us)
            return
        device = device_of(series)
        one = Evidence(
            "", "window", name, series, device, start_us, start_us + length_us, mean,
            text=f"mean of {name}", agent=agent, next_us=length_us,
        )  # fmt: skip
        key = self._shard.evidence.setdefault(device, KeyEvidence())
        self._changed(device, *key.put_window(one))

    def again(self) -> None:
        """Take all evidence of devices to the sites and cohorts that ask for it now: there are new rules."""
        for key, kept in list(self._shard.evidence.items()):
            if "/" in key and not key.startswith("+"):
                for one in list(kept.evidence.values()):
                    self._scopes(one, gone=False)

    def _cut(self, kind: EvidenceKind, name: str, subject: str, begin_us: int, end_us: int) -> None:
        device = device_of(subject)
        kept = self._shard.evidence.get(device)
        if kept is not None and any(e.kind == kind and e.name == name for e in kept.evidence.values()):
            self._changed(device, *kept.cut_window(name, subject, begin_us, end_us))

    def _put(self, one: Evidence) -> None:
        now = self._shard.evidence.setdefault(one.device, KeyEvidence()).put(one)
        if now is not None:
            self._changed(one.device, (now,), ())

    def _changed(self, device: str, new: Iterable[Evidence], gone: Iterable[Evidence]) -> None:
        mine = self.changes.keys.setdefault(device, {})
        for one in gone:
            mine[one.id] = one
            self._scopes(one, gone=True)
        for one in new:
            mine[one.id] = one
            self._scopes(one, gone=False)

    def _scopes(self, one: Evidence, *, gone: bool) -> None:
        wanted = {use.per for use in self._index.uses(one)}
        if "site" in wanted:
            self._scope(site_of(one.device), one, gone=gone)
        if "cohort" in wanted and (cohort := self._shard.cohort_of(one.device)):
            self._scope(f"+{cohort}", one, gone=gone)

    def _scope(self, key: str, one: Evidence, *, gone: bool) -> None:
        noted = Noted(key, one, gone)
        if self._shard.is_home(key):
            self.noted([noted])
        else:
            self.changes.records.append(evidence_record(noted, self._shard.clock_us))


def satisfied(step: Step, mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of which windows the mean is as a step wants it."""
    if step.above is not None:
        return mean > step.above
    assert step.below is not None
    return mean < step.below
