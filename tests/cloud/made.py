"""What agents put on the bus, by hand: parts of readings as frames, anomalies, heartbeats, with the seqs that an agent gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from headwater_shared import frame, records
from headwater_shared.aggregates import Aggregates, of_readings
from headwater_shared.bus import Record
from headwater_shared.digest import reading_digests, value_bits
from headwater_shared.frame import Frame
from headwater_shared.identity import shard_of, site_of, stable_id
from headwater_shared.parts import Parts, Sketches, counted_sketches
from headwater_shared.records import (
    Anomaly,
    ClockRecord,
    Command,
    CommandStatus,
    Device,
    Heartbeat,
    Predecessor,
    device_id,
)
from headwater_shared.sketch import buckets_of
from headwater_shared.topics import IN
from tests.reference import LEVELS

S = 1_000_000
"""A second in microseconds."""
DAY = 86_400 * S
T0 = 1_800_000_000 * S
"""An event time to count from: the start of a window of every level."""

TEMP = "s1/d1/temp"
SHARD = shard_of("s1")

Timed = tuple[int, float]
"""Time in microseconds, value."""


class Row(NamedTuple):
    """One part at one revision, and the readings that it holds; its window starts at or before them."""

    series: str
    level: str
    start: int
    agent: str
    epoch: int
    tick: int
    revision: int
    readings: tuple[Timed, ...]


def row(
    at: float, *values: float, series: str = TEMP, level: str = "10s", opened: tuple[str, int, int] = ("a1", 1, 1), revision: int = 0
) -> Row:  # fmt: skip
    """A part of readings a millisecond apart, the first one so many seconds after T0; `opened` by agent, epoch, tick."""
    first = T0 + round(at * S)
    start = first // LEVELS[level] * LEVELS[level]
    readings = tuple((first + n * 1000, value) for n, value in enumerate(values))
    return Row(series, level, start, *opened, revision, readings)


def without(some: Row, revision: int) -> Row:
    """The revision of a part that takes all of it away (R7)."""
    return some._replace(revision=revision, readings=())


def parts_of(rows: Sequence[Row]) -> Parts:
    """The rows as columns."""
    names = list(dict.fromkeys(one.series for one in rows))
    levels = list(dict.fromkeys(one.level for one in rows))
    epochs = list(dict.fromkeys(one.epoch for one in rows))
    made = [_aggregated(one.readings) for one in rows]
    bucket = np.concatenate([buckets for _, buckets in made])
    of_row = np.repeat(np.arange(len(rows)), [len(buckets) for _, buckets in made])
    return Parts(
        names, levels, epochs,
        np.array([names.index(one.series) for one in rows], np.int64),
        np.array([levels.index(one.level) for one in rows], np.int64),
        np.array([one.start for one in rows], np.int64),
        np.array([epochs.index(one.epoch) for one in rows], np.int64),
        np.array([one.tick for one in rows], np.int64),
        np.array([one.revision for one in rows], np.int64),
        np.zeros(len(rows), np.int64),
        Aggregates.concatenate([aggregates for aggregates, _ in made]),
        counted_sketches(of_row, bucket, len(rows)),
    )  # fmt: skip


def _aggregated(readings: Sequence[Timed]) -> tuple[Aggregates, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    if not readings:
        return Aggregates.empty(1), np.zeros(0, np.int64)
    times = np.array([time for time, _ in readings], np.int64)
    values = np.array([value for _, value in readings])
    order = np.lexsort((value_bits(values), times))
    times, values = times[order], values[order]
    rows = of_readings(np.zeros(1, np.int64), times, values, reading_digests(times, values))
    return rows, buckets_of(values)


def no_parts() -> Parts:
    """The columns of a frame that was emptied."""
    parts = Parts.empty()
    parts.sketches = Sketches.empty()
    return parts


def frame_record(one: Frame, **headers: str) -> Record:
    name = records.identity_text(one.agent, one.epoch, one.shard, one.seq)
    more = records.headers(records.FRAME, name, f"headwater-edge/{one.agent}", T0, **headers)
    return Record(IN.name, one.shard, one.agent, more, frame.encode(one))


def anomaly_record(one: Anomaly) -> Record:
    name = records.identity_text(one.agent, one.epoch, one.shard, one.seq)
    headers = records.headers(records.ANOMALY, name, f"headwater-edge/{one.agent}", T0)
    return Record(IN.name, one.shard, one.agent, headers, records.encode(one))


def heartbeat_record(one: Heartbeat) -> Record:
    name = f"{one.agent}/{one.epoch:016x}/{one.shard}/heartbeat-{one.time_us}"
    headers = records.headers(records.HEARTBEAT, name, f"headwater-edge/{one.agent}", T0)
    return Record(IN.name, one.shard, one.agent, headers, records.encode(one))


def clock_record(shard: int, time_us: int) -> Record:
    headers = records.headers(records.CLOCK, f"clock/{shard}/{time_us}", "cloud", time_us)
    return Record(IN.name, shard, records.CLOCK, headers, records.encode(ClockRecord(shard, time_us)))


@dataclass
class Agent:
    """One agent's stream, numbered as the agent does it: by epoch and shard, the first row names the epoch before."""

    name: str = "a1"
    epoch: int = 1
    previous: tuple[int, dict[int, int]] | None = None
    seqs: dict[int, int] = field(default_factory=dict)
    tick: int = 0

    def restart(self, epoch: int) -> None:
        """A new epoch begins."""
        self.previous = (self.epoch, dict(self.seqs))
        self.epoch = epoch
        self.seqs = {}

    def frame(self, *rows: Row, shard: int | None = None) -> Record:
        """The next frame; of the shard of its first row."""
        return frame_record(self.made(*rows, shard=shard))

    def made(self, *rows: Row, shard: int | None = None) -> Frame:
        if shard is None:
            shard = shard_of(site_of(rows[0].series)) if rows else SHARD
        self.tick += 1
        seq, predecessor = self._next(shard)
        parts = parts_of(rows) if rows else no_parts()
        return Frame(self.name, self.epoch, shard, seq, self.tick, predecessor, parts)

    def anomaly(
        self, phase: Literal["begin", "end"], at: float, value: float = 90.0, *, begin: float | None = None,
        series: str = TEMP, rule: str = "too-hot", severity: str = "critical", text: str = "",
    ) -> Record:  # fmt: skip
        """The next row is the begin or end of an episode; times in seconds after T0, `begin` where it is another one."""
        shard = shard_of(site_of(series))
        seq, predecessor = self._next(shard)
        time_us, begin_us = (T0 + round(second * S) for second in (at, at if begin is None else begin))
        found = stable_id(rule, series, begin_us)
        words = text or f"{series} {phase}s"
        return anomaly_record(
            Anomaly(
                self.name, self.epoch, shard, seq, self.tick, predecessor, found, rule, series, phase, begin_us,
                time_us, value, 80.0, severity, words, [time_us], [value],
            )
        )  # fmt: skip

    def status(
        self, device: str, status: Literal["online", "silent", "offline"], at: float, before: str = "", since: float = 0.0
    ) -> Record:  # fmt: skip
        """The next row is a change of a device's status; times in seconds after T0."""
        shard = shard_of(site_of(device))
        seq, predecessor = self._next(shard)
        time_us, before_us = T0 + round(at * S), T0 + round(since * S) if before else 0
        one = Device(
            self.name, self.epoch, shard, seq, self.tick, predecessor, device_id(device, status, time_us), device, status,
            before, before_us, "reading", time_us, time_us,
        )  # fmt: skip
        return self._record(records.DEVICE, one, shard, seq)

    def ended(self, device: str, name: str, status: CommandStatus, at: float) -> Record:
        """The next row says that a command was let out, or how it ended."""
        shard = shard_of(site_of(device))
        seq, predecessor = self._next(shard)
        time_us = T0 + round(at * S)
        one = Command(
            self.name, self.epoch, shard, seq, self.tick, predecessor, stable_id(device, name, round(at)), status, "", "act", "",
            "", "", device, f"hw/{device}/cmd", name, "{}", "", time_us, time_us, 60 * S,
        )  # fmt: skip
        return self._record(records.COMMAND, one, shard, seq)

    def _record(self, kind: str, one: Device | Command, shard: int, seq: int) -> Record:
        name = records.identity_text(self.name, self.epoch, shard, seq)
        headers = records.headers(kind, name, f"headwater-edge/{self.name}", T0)
        return Record(IN.name, shard, self.name, headers, records.encode(one))

    def heartbeat(self, complete: float, *, shard: int = SHARD, last_seq: int | None = None) -> Record:
        """Complete up to so many seconds after T0, as of the last seq or an earlier one."""
        seq = self.seqs.get(shard, 0) if last_seq is None else last_seq
        complete_us = T0 + round(complete * S)
        return heartbeat_record(
            Heartbeat(self.name, self.epoch, shard, seq, self._predecessor(shard), complete_us, T0)
        )

    def _next(self, shard: int) -> tuple[int, Predecessor | None]:
        seq = self.seqs[shard] = self.seqs.get(shard, 0) + 1
        return seq, self._predecessor(shard) if seq == 1 else None

    def _predecessor(self, shard: int) -> Predecessor | None:
        if self.previous is None:
            return None
        epoch, seqs = self.previous
        return Predecessor(epoch, seqs.get(shard, 0))
