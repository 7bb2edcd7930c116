"""The map: the way of a batch from the bus to rows and outputs, in one function.

consume -> dedupe -> completeness -> merge -> rollup -> watch (evidence, patterns) -> alerts; in second stages merge and findings (a
device against its peers). Then `write` puts the rows into the file, `publish` the records on the bus, and the courier tells
people. No operator knows the bus, the file or a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_cloud import (
    alerts,
    completeness,
    dedupe,
    device_registry,
    findings,
    rollup,
    second_stage,
    traced,
    watch,
)
from headwater_cloud.alert_changes import Change
from headwater_cloud.cohorts import Cohorts
from headwater_cloud.completeness import Progress
from headwater_cloud.consume import Taken, consume
from headwater_cloud.episodes import Watched
from headwater_cloud.kept import Found, Kept
from headwater_cloud.merge import Merged, merge
from headwater_cloud.names import Names
from headwater_cloud.outputs import (
    DeadLetter,
    Notification,
    Report,
    Why,
    alert_records,
    dead_letter_record,
    have_record,
    late_record,
)
from headwater_cloud.rows import PartRows, columns_of
from headwater_cloud.shard import Shard
from headwater_cloud.told import Told
from headwater_cloud.watch import Seen
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Record, Stored
from headwater_shared.frame import Frame
from headwater_shared.parts import Parts
from headwater_shared.peers import Finding
from headwater_shared.records import Anomaly, Command, Device, RegistryChange
from headwater_shared.topics import BY_COHORT

Ints = NDArray[np.int64]
Identity = tuple[str, int, int, int]
"""On the bus (R23): agent, epoch, shard, seq."""


class Limits(NamedTuple):
    """How long the operators are patient, in microseconds of Headwater's clock."""

    gap_after_us: int = 60_000_000
    silent_after_us: int = 300_000_000


@dataclass(slots=True)
class Output:
    """All that one batch changes, for one commit (R27)."""

    merged: Merged | None = None
    stored: tuple[int, int] = (0, 0)
    """Of `merged.source`: rows below the first stood in their window, those below the second beside it."""
    anomalies: list[Anomaly] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    """Changes of devices' status."""
    registry: list[RegistryChange] = field(default_factory=list)
    """What the registry says of devices, where that is new."""
    statuses: list[Told] = field(default_factory=list)
    """Status frames of agents, in the order of the bus."""
    findings: list[Finding] = field(default_factory=list)
    """What was found of devices among their peers, or is found no longer."""
    watched: dict[int, list[Watched]] = field(default_factory=dict)
    """By shard: the episodes of rules, where these may be others than before."""
    alerts: list[Change] = field(default_factory=list)
    """In their order; the last one of an alert is how it stands."""
    progress: dict[tuple[int, str], Progress] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    pieces: dict[int, dict[str, bytes]] = field(default_factory=dict)
    """State, by shard and name."""
    second: dict[int, dict[str, bytes | None]] = field(default_factory=dict)
    """State of second stages, by partition of `hw-by-cohort` and name; None: deleted."""
    records: list[Record] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    traces: dict[Identity, str] = field(default_factory=dict)
    """The `traceparent` of anomalies, for what comes of them."""
    led: list[tuple[str, Alert]] = field(default_factory=list)
    """Changes of alerts that anomalies of the batch brought, each with the `traceparent` of its anomaly."""
    made: list[tuple[int, str]] = field(default_factory=list)
    """Of rows that came at once: when their tick was by the agent's clock, and their `traceparent`."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def can_wait(self) -> bool:
        """Whether it holds nothing but clocks, heartbeats and status frames, which can be read once more after a crash."""
        return self.merged is None and not (
            self.anomalies
            or self.commands
            or self.devices
            or self.registry
            or self.findings
            or self.reports
            or self.records
            or self.notifications
        )

    def after(self, earlier: Output) -> None:
        """Take along what an earlier output that could wait still has to write."""
        self.progress = earlier.progress | self.progress
        self.statuses = earlier.statuses + self.statuses
        self.pieces = {
            number: earlier.pieces.get(number, {}) | self.pieces.get(number, {})
            for number in earlier.pieces.keys() | self.pieces.keys()
        }


def run(
    shards: dict[int, Shard],
    names: Names,
    lookup: Kept,
    batch: Sequence[Stored],
    wall_of: Callable[[int], int],
    limits: Limits,
    letters: Mapping[int, Why] | None = None,
) -> Output:
    """Take a batch of `hw-in`. `shards` and `names` are changed in place: on any error they are worth nothing.

    `letters`: by offset, which records are dead letters (see `consume`); then the batch is of one partition.
    """
    out = Output()
    frames: list[Frame] = []
    seen: dict[int, Seen] = {}
    taken = consume(batch, wall_of, letters)
    for number in sorted(taken):
        shard = shards.setdefault(number, Shard(number))
        silent = {agent: progress.since_us for agent, progress in shard.agents.items() if progress.silent}
        fresh = _shard(shard, taken[number], limits, out)
        frames += [what for what in fresh if isinstance(what, Frame)]
        seen[number] = watch.seen(fresh, taken[number], silent)
    arrived = columns_of(frames, names)
    if len(arrived):
        of_shard = np.repeat([frame.shard for frame in frames], [len(frame.parts) for frame in frames])
        _merge(arrived, of_shard, names, lookup, max(shard.clock_us for shard in shards.values()), out)
    dirty, rollups = rollup.step({number: shards[number] for number in taken}, out.merged, names, lookup)
    out.records += rollups
    for number in dirty:
        out.pieces[number] |= shards[number].dirty_piece()
    for number, said in seen.items():
        _watch(shards[number], said, names, out)
    for number in sorted(taken):
        _alert(shards[number], taken[number], out)
    for frame in frames:
        out.counts[f"shard {frame.shard}"] += len(frame.parts)
    out.counts.update(
        frames=len(frames), rows=len(arrived), anomalies=len(out.anomalies), commands=len(out.commands)
    )
    return out


def run_second(
    names: Names,
    lookup: Kept,
    batch: Sequence[Stored],
    cohorts_of: Callable[[int], Cohorts],
    known: Mapping[int, Why] | None = None,
) -> Output:
    """Take a batch of a second stage's topic: rollups of sites become those of the fleet, by the same merge, and devices are
    compared with their peers (R25). `cohorts_of`: the state of a partition of `hw-by-cohort`, which is changed in place.
    `known`: see `consume`.
    """
    out = Output()
    taken = second_stage.take(batch, names, known)
    arrived, dead = taken.rows, taken.dead
    out.records += [dead_letter_record(letter) for letter in dead]
    out.counts.update(
        {"rollups": len(arrived), "dead": len(dead), **Counter(f"dead {d.reason}" for d in dead)}
    )
    if len(arrived):
        found = lookup.parts_of(arrived)
        # The windows themselves are what counts: a rollup that can no longer be revised stays as it is.
        _keep(found, merge(found.parts, arrived.take(~found.gone), names.opener_ranks()), out)
    for partition in sorted(taken.clocks) if batch[0].topic == BY_COHORT.name else ():
        state, some = cohorts_of(partition), taken.peers.get(partition, [])
        changed = findings.step(state, some, taken.clocks[partition])
        out.records += map(findings.finding_record, changed)
        out.counts.update(compared=len(some), found=len(changed), compared_late=state.late)
    return out


def poisoned(text: str, stored: Stored) -> Output:
    """Return what becomes of a record of a second stage's topic that breaks `run_second`."""
    letter = dead_letter_record(DeadLetter("poison", text, stored))
    return Output(records=[letter], counts=Counter({"dead": 1, "dead poison": 1}))


def all_haves(shards: Mapping[int, Shard]) -> list[Record]:
    """What the cloud has of every agent: for a log that does not know it yet."""
    return [
        have_record(dedupe.have_of(number, at, state), shard.clock_us)
        for number, shard in shards.items()
        for at, state in shard.epochs.items()
        if state.intervals
    ]


def _shard(shard: Shard, taken: Taken, limits: Limits, out: Output) -> list[object]:
    """Take what is of one shard: its streams without repeats, which are returned, and how complete they are."""
    shard.clock_us = now_us = max(shard.clock_us, taken.clock_us)
    found = dedupe.step(
        shard.epochs, shard.number, taken.arrived, taken.heartbeats, now_us, limits.gap_after_us
    )
    agents = completeness.step(
        shard.agents,
        shard.epochs,
        [row.agent for row in taken.arrived],
        taken.heartbeats,
        now_us,
        limits.silent_after_us,
    )
    registered = device_registry.step(shard.registered, shard.registry, taken.registry)
    if registered:
        shard.of_devices = None
    dead = taken.dead + [row.what for row in found.fresh if isinstance(row.what, DeadLetter)]
    for row in found.fresh:
        if isinstance(row.what, Anomaly):
            out.anomalies.append(row.what)
            out.traces[_identity(row.what)] = row.trace
    out.commands += [row.what for row in found.fresh if isinstance(row.what, Command)]
    out.devices += [row.what for row in found.fresh if isinstance(row.what, Device)]
    out.made += [(row.made_us, row.trace) for row in found.fresh if row.made_us]
    out.findings += taken.findings
    out.statuses += taken.statuses
    out.registry += [shard.registered[device] for device in registered]
    out.records += [dead_letter_record(letter) for letter in dead]
    out.records += [have_record(have, now_us) for have in found.haves]
    out.reports += found.reports
    out.progress.update({(shard.number, agent): shard.agents[agent] for agent in agents})
    out.pieces[shard.number] = shard.pieces(found.changed, agents, registered)
    out.counts.update(
        statuses=len(taken.statuses), statuses_unknown=sum(told.unknown for told in taken.statuses)
    )
    out.counts.update(repeats=found.repeats, clocks_ignored=taken.clocks_ignored, dead=len(dead))
    out.counts.update(f"dead {letter.reason}" for letter in dead)
    return [row.what for row in found.fresh]


def _watch(shard: Shard, seen: Seen, names: Names, out: Output) -> None:
    """Keep evidence, and look at the rules that it is something to."""
    found = watch.step(shard, seen, None if out.merged is None else out.merged.windows, names)
    out.watched[shard.number] = found.watched
    out.records += found.records
    out.pieces[shard.number] |= shard.evidence_pieces(found.keys, rules=found.rules)
    out.counts.update(evidence_forgotten=found.forgotten)


def _alert(shard: Shard, taken: Taken, out: Output) -> None:
    """What was found, and what people did, becomes alerts and messages."""
    found = [row for row in out.anomalies if row.shard == shard.number]
    reports = [report for report in out.reports if report.shard == shard.number]
    described = {change.device for change in taken.registry}
    alerted = alerts.step(shard, out.watched.get(shard.number, []), taken.actions, reports, described)
    out.alerts += alerted.changes
    out.pieces[shard.number] |= alerted.pieces
    brought = {row.id: out.traces.get(_identity(row), "") for row in found}
    for alert, is_event, is_latest in alerted.changes:
        by = next((brought[one] for one in reversed(alert.evidence) if one in brought), "")
        out.records += alert_records(alert, by, is_event=is_event, is_latest=is_latest)
        if by and is_event:
            out.led.append((by, alert))
    out.notifications += traced.told(alerted.notifications, out.led)


def _identity(row: Anomaly) -> Identity:
    return row.agent, row.epoch, row.shard, row.seq


def _merge(arrived: PartRows, of_shard: Ints, names: Names, lookup: Kept, now_us: int, out: Output) -> None:
    found = lookup.parts_of(arrived)
    if found.gone.any():
        _late(arrived.take(found.gone), of_shard[found.gone], names, now_us, out)
        arrived, of_shard = arrived.take(~found.gone), of_shard[~found.gone]
    _keep(found, merge(found.parts, arrived, names.opener_ranks(), of_shard), out)


def _keep(found: Found, merged: Merged, out: Output) -> None:
    if len(merged.windows):
        out.merged = merged
        out.stored = (found.inside, len(found.parts))
        out.counts.update(windows=len(merged.windows))


def _late(rows: PartRows, shards: Ints, names: Names, now_us: int, out: Output) -> None:
    """Parts of windows that can no longer be revised are dead letters, never written over a point (R28)."""
    for number, shard in sorted(set(zip(rows.opener.tolist(), shards.tolist(), strict=True))):
        opener, some = names.openers[number], rows.take((rows.opener == number) & (shards == shard))
        zeros = np.zeros(len(some), np.int64)
        parts = Parts(
            names.series, names.levels, [opener.epoch], some.series, some.level, some.start, zeros,
            some.tick, some.revision, some.flags, some.aggregates, some.sketches,
        )  # fmt: skip
        used, parts.series = np.unique(parts.series, return_inverse=True)
        parts.names = [names.series[i] for i in used.tolist()]
        text = f"{len(some)} parts of windows that are no longer revised"
        frame = Frame(opener.agent, opener.epoch, shard, 0, 0, None, parts)
        out.records.append(late_record(frame, text, now_us))
        out.reports.append(Report("late", shard, opener.agent, opener.epoch, text, now_us))
    out.counts.update({"dead": len(rows), "dead late": len(rows)})
