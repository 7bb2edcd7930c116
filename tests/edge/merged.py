"""What the cloud makes of an agent's frames, in plain Python: parts by identity, windows by merging them (R1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from headwater_shared.aggregates import Aggregates, merged_groups
from headwater_shared.frame import Frame
from headwater_shared.spread import SpreadMap
from tests.reference import Window

Identity = tuple[str, str, int, int, int]
"""Series, level, start; epoch and tick of opening."""
Place = tuple[str, str, int]
"""Series, level, start."""


@dataclass
class Part:
    """The highest revision seen of one part."""

    revision: int
    row: Aggregates
    sketch: dict[int, int]


@dataclass
class Merged:
    """Takes frames in, checks what must hold of each, and merges them."""

    parts: dict[Identity, Part] = field(default_factory=dict)
    shards: dict[Place, int] = field(default_factory=dict)
    """Of each window, the one that all of its parts went to."""
    map: SpreadMap | None = field(default_factory=SpreadMap)
    """Which those must be; None: it is looked at later."""
    _seqs: dict[tuple[int, int], int] = field(default_factory=dict)

    def number(self, epoch: int, shard: int, seq: int) -> None:
        """Take the number of a row: without gaps by epoch and shard."""
        before = self._seqs.get((epoch, shard), 0)
        assert seq == before + 1, f"shard {shard}: seq {seq} after {before}"
        self._seqs[epoch, shard] = seq

    def take(self, frame: Frame) -> None:
        """Take a frame in.

        Raises:
            AssertionError: a gap in the seqs, a part put out again with no higher revision or with fewer readings (but the
                last time with none, of a session), a sketch that does not hold as many readings as its row, a series in
                another shard's frame.
        """
        self.number(frame.epoch, frame.shard, frame.seq)
        parts = frame.parts
        begin = np.append(0, parts.sketches.end[:-1])
        for row in range(len(parts)):
            name = parts.names[parts.series[row]]
            place = name, parts.levels[parts.level[row]], int(parts.start[row])
            assert self.map is None or self.map.shard(name, place[2]) == frame.shard
            assert self.shards.setdefault(place, frame.shard) == frame.shard, f"{place}: in two shards"
            identity = (
                *place,
                parts.epochs[parts.epoch[row]], int(parts.tick[row]),
            )  # fmt: skip
            at = slice(begin[row], parts.sketches.end[row])
            sketch = dict(
                zip(parts.sketches.bucket[at].tolist(), parts.sketches.count[at].tolist(), strict=True)
            )
            aggregates = parts.aggregates.take(np.array([row]))
            count = int(aggregates.count[0])
            assert sum(sketch.values()) == count, f"{identity}: a sketch of {sketch} for {count} readings"
            before = self.parts.get(identity)
            if before is None:
                assert count > 0
            elif count == 0:
                assert identity[1].startswith("session-")
                assert parts.revision[row] > before.revision
                assert int(before.row.count[0]) > 0
            else:
                assert int(before.row.count[0]) > 0, f"{identity}: a part that was taken back"
                assert parts.revision[row] > before.revision, (
                    f"{identity}: revision {parts.revision[row]} again"
                )
                assert count > int(before.row.count[0]), f"{identity}: a revision without a new reading"
            self.parts[identity] = Part(int(parts.revision[row]), aggregates, sketch)

    def windows(self) -> dict[Place, Window]:
        """Merge the parts of each window, in the order of their identities."""
        of_window: dict[Place, list[Part]] = {}
        for identity in sorted(self.parts):
            if int(self.parts[identity].row.count[0]) == 0:
                continue
            of_window.setdefault(identity[:3], []).append(self.parts[identity])
        return {place: _window(parts) for place, parts in of_window.items()}


def _window(parts: list[Part]) -> Window:
    row = merged_groups(Aggregates.concatenate([part.row for part in parts]), np.zeros(1, np.int64))
    sketch: dict[int, int] = {}
    for part in parts:
        for bucket, count in part.sketch.items():
            sketch[bucket] = sketch.get(bucket, 0) + count
    return Window(
        int(row.count[0]), int(row.digest[0]), float(row.mean[0]), float(row.m2[0]), float(row.min[0]),
        float(row.max[0]), float(row.first[0]), int(row.first_time[0]), float(row.last[0]), int(row.last_time[0]),
        sketch,
    )  # fmt: skip


def assert_equal_windows(found: dict[Place, Window], wanted: dict[Place, Window]) -> None:
    """Compare as R31 does: all exact, but mean and M2 to 1e-9 of the values' size."""
    assert found.keys() == wanted.keys(), (
        f"missing {sorted(wanted.keys() - found.keys())[:5]}, too many {sorted(found.keys() - wanted.keys())[:5]}"
    )
    for place, window in wanted.items():
        other = found[place]
        size = max(abs(window.min), abs(window.max))
        for name in ("count", "digest", "min", "max", "first", "first_time", "last", "last_time", "sketch"):
            assert getattr(other, name) == getattr(window, name), f"{place}: {name}"
        assert abs(other.mean - window.mean) <= 1e-9 * size, f"{place}: mean"
        assert abs(other.m2 - window.m2) <= 1e-9 * size * size * window.count, f"{place}: m2"


def assert_sessions(
    found: dict[int, Window], readings: list[tuple[int, int, float]], gap_us: int, series: str
) -> None:
    """What holds of a series' sessions whatever starts the agent made: each reading is in exactly one, and no silence that
    is longer than the gap in any.

    Args:
        found: by start.
        readings: event time, digest, value of each.
    """
    left = sorted(readings)
    blocks: list[
        list[Window]
    ] = []  # of windows whose times overlap: starts may have left two that a late reading bridges
    for window in sorted(found.values(), key=lambda window: window.first_time):
        if blocks and window.first_time <= max(other.last_time for other in blocks[-1]):
            blocks[-1].append(window)
        else:
            blocks.append([window])
    for block in blocks:
        first, last = block[0].first_time, max(window.last_time for window in block)
        inside = [reading for reading in left if first <= reading[0] <= last]
        left = [reading for reading in left if not first <= reading[0] <= last]
        assert sum(window.count for window in block) == len(inside), f"{series}: {first} to {last}"
        digests = sum(window.digest for window in block) % 2**64
        assert digests == sum(reading[1] for reading in inside) % 2**64, f"{series}: {first} to {last}"
        assert max(window.max for window in block) == max(reading[2] for reading in inside)
        assert all(b[0] - a[0] <= gap_us for a, b in pairwise(inside)), (
            f"{series}: a silence from {first} to {last}"
        )
    assert not left, f"{series}: in no session: {left[:5]}"
    assert all(start <= window.last_time for start, window in found.items())


def merged(frames: Iterable[Frame]) -> Merged:
    """Take frames in that no anomaly stands between."""
    out = Merged()
    for frame in frames:
        out.take(frame)
    return out
