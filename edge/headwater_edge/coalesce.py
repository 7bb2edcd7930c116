"""Which parts may go because a coarser one holds the same readings (R22). Pure, over columns.

A window of the coarser level lets the finer ones in it go if, for each finer level, the parts that wait add up to its own by
count and digest, and none of them was ever put out before what waits: all of it goes, or nothing. The coarser parts are
marked `COARSENED`: within them, finer windows are not kept. A finer level that was let go before counts by those marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_shared.frame import Frame
from headwater_shared.parts import COARSENED, Level, is_within, level_of

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

COARSEST_US = 600_000_000
"""Nothing is coalesced to more than ten minutes."""

_COLUMNS = (
    "frame",
    "row",
    "series",
    "level",
    "start",
    "epoch",
    "tick",
    "revision",
    "flags",
    "count",
    "digest",
)


class Targets(NamedTuple):
    """A level that others are coalesced to, and the finer ones that every series has."""

    to: Level
    finer: tuple[str, ...]


def targets(levels: Sequence[str]) -> list[Targets]:
    """Return what may be coalesced to, the finest first; `levels`: those of all series."""
    known = sorted(map(level_of, levels), key=lambda level: level.length_us)
    out = []
    for level in known:
        finer = tuple(one.name for one in known if is_within(one, level))
        if finer and level.length_us <= COARSEST_US:
            out.append(Targets(level, finer))
    return out


@dataclass(slots=True)
class Keys:
    """What parts of several frames are, without what they hold: n rows of int64."""

    names: list[str]
    levels: list[str]
    columns: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.columns["frame"])


class Gatherer:
    """Takes frames, one after the other, and keeps the keys of their parts."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._levels: dict[str, int] = {}
        self._epochs: dict[int, int] = {}
        self._pieces: list[list[Ints]] = []
        self.parts = 0

    def add(self, number: int, frame: Frame) -> None:
        """Take a frame; `number` stands for it in the column `frame`."""
        parts = frame.parts
        n = len(parts)
        if not n:
            return
        self.parts += n
        name = np.array([self._names.setdefault(one, len(self._names)) for one in parts.names])
        level = np.array([self._levels.setdefault(one, len(self._levels)) for one in parts.levels])
        epoch = np.array([self._epochs.setdefault(one, len(self._epochs)) for one in parts.epochs])
        self._pieces.append([
            np.full(n, number), np.arange(n), name[parts.series], level[parts.level], parts.start, epoch[parts.epoch],
            parts.tick, parts.revision, parts.flags, parts.aggregates.count.copy(),
            parts.aggregates.digest.view(np.int64).copy(),
        ])  # fmt: skip

    def keys(self) -> Keys:
        columns = [np.concatenate(pieces) for pieces in zip(*self._pieces, strict=True)]
        if not columns:
            columns = [np.zeros(0, np.int64) for _ in _COLUMNS]
        return Keys(list(self._names), list(self._levels), dict(zip(_COLUMNS, columns, strict=True)))


class Plan(NamedTuple):
    """What is to be done with parts: a flag each, shape of the keys."""

    drop: Mask
    mark: Mask
    windows: int
    """Coarser windows that hold what goes."""
    waits: Mask
    """Finer parts that stay, for their coarser part is not there."""


def plan(keys: Keys, target: Targets) -> Plan:
    """Find out which parts may go for a level."""
    of = keys.columns
    number = {name: at for at, name in enumerate(keys.levels)}
    finer = _finer(keys, target)
    n, to = len(keys), number.get(target.to.name, -1)
    none = np.zeros(n, np.bool_)
    ours = np.isin(of["level"], [number[name] for name in finer if name in number])
    if to < 0 or not ours.any():
        return Plan(none, none, 0, ours)
    (at,) = np.nonzero(ours | (of["level"] == to))
    windows, window = _windows(of["series"][at], of["start"][at] // target.to.length_us)
    latest, first, marked = _latest(of, at)
    level = of["level"][at]
    whole = _sums(of, at, latest & (level == to) & ~marked, window, windows)
    good = whole[0] > 0
    for name, one in finer.items():
        here = level == number.get(name, -1)
        good[window[here & ~first]] = False  # some revision of it is out
        coarser = [number[c] for c, of_c in finer.items() if c in number and is_within(one, of_c)]
        gone = latest & marked & np.isin(level, coarser)
        count, digest = _sums(of, at, (latest & here) | gone, window, windows)
        fits = (count == whole[0]) & (digest == whole[1])
        if name not in target.finer:  # not every series has it
            there = np.zeros(windows, np.bool_)
            there[window[here]] = True
            fits |= ~there
        good &= fits
    drop, mark, waits = none.copy(), none.copy(), none.copy()
    in_good, is_fine = good[window], level != to
    drop[at], mark[at], waits[at] = in_good & is_fine, in_good & ~is_fine, ~in_good & is_fine
    return Plan(drop, mark, int(np.unique(window[in_good & is_fine]).size), waits)


def _finer(keys: Keys, target: Targets) -> dict[str, Level]:
    """Return the levels that go for the target: those that all series have, and others that are there."""
    out = {name: level_of(name) for name in target.finer}
    for name in keys.levels:
        level = level_of(name)
        if is_within(level, target.to):
            out[name] = level
    return out


def _windows(series: Ints, number: Ints) -> tuple[int, Ints]:
    """Number the (series, window) pairs; return how many there are, and each row's."""
    order = np.lexsort((number, series))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(series[order]) != 0) | (np.diff(number[order]) != 0)
    out = np.empty(len(order), np.int64)
    out[order] = np.cumsum(new) - 1
    return int(new.sum()), out


def _latest(of: dict[str, Ints], at: Ints) -> tuple[Mask, Mask, Mask]:
    """Tell of each row whether it is the latest of its part (R1), whether the part's first revision is there too, and whether
    any of its revisions is marked.
    """
    columns = [of[name][at] for name in ("level", "series", "start", "epoch", "tick")]
    order = np.lexsort((of["count"][at], of["revision"][at], *columns))
    new = np.ones(len(order), np.bool_)
    new[1:] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in columns])
    starts = np.flatnonzero(new)
    part = np.cumsum(new) - 1
    latest, first, marked = (np.zeros(len(at), np.bool_) for _ in range(3))
    latest[order[np.append(starts[1:], len(order)) - 1]] = True
    first[order] = (of["revision"][at][order[starts]] == 0)[part]
    flags = np.bitwise_or.reduceat(of["flags"][at][order], starts) & COARSENED
    marked[order] = (flags != 0)[part]
    return latest, first, marked


def _sums(of: dict[str, Ints], at: Ints, rows: Mask, window: Ints, n: int) -> tuple[Ints, Ints]:
    """Add counts and digests (modulo 2^64) of some rows up, by window."""
    count, digest = np.zeros(n, np.int64), np.zeros(n, np.int64)
    np.add.at(count, window[rows], of["count"][at][rows])
    with np.errstate(over="ignore"):
        np.add.at(digest, window[rows], of["digest"][at][rows])
    return count, digest
