"""Parts of many agents and shards as columns of one batch: what merge takes in and puts out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.names import Names
from headwater_shared.aggregates import Aggregates
from headwater_shared.frame import Frame
from headwater_shared.parts import Sketches

Ints = NDArray[np.int64]

IDENTITY: tuple[str, ...] = ("level", "start", "series", "opener", "tick")
"""The columns that say which part it is (R1); the first three say which window."""

_INTEGERS = (*IDENTITY, "revision", "flags")


@dataclass(slots=True)
class PartRows:
    """Parts, n rows; `level`, `series` and `opener` are numbers of `Names`."""

    level: Ints
    start: Ints
    """Microseconds."""
    series: Ints
    opener: Ints
    tick: Ints
    revision: Ints
    flags: Ints
    aggregates: Aggregates
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.level)

    def levels(self) -> list[int]:
        """Return the levels that there are rows of, ascending: counted, which is quicker than sorting them out."""
        return [int(level) for level in np.flatnonzero(np.bincount(self.level))]

    @classmethod
    def empty(cls) -> Self:
        none = np.zeros(0, np.int64)
        return cls(none, none, none, none, none, none, none, Aggregates.empty(0), Sketches.empty())

    def take(self, at: Any) -> Self:
        """Return the rows at indices or a mask."""
        index = np.arange(len(self))[at]
        return type(self)(
            **{name: getattr(self, name)[index] for name in _INTEGERS},
            aggregates=self.aggregates.take(index),
            sketches=self.sketches.take(index),
        )

    def run(self, first: int, last: int) -> Self:
        """Return the rows from `first` up to `last`, which is not among them, without copying them: nobody changes rows in place."""
        if first == 0 and last == len(self):
            return self
        before = int(self.sketches.end[first - 1]) if first else 0
        after = int(self.sketches.end[last - 1]) if last else 0
        return type(self)(
            **{name: getattr(self, name)[first:last] for name in _INTEGERS},
            aggregates=Aggregates.of_words(self.aggregates.words[first:last]),
            sketches=Sketches(
                self.sketches.end[first:last] - before,
                self.sketches.bucket[before:after],
                self.sketches.count[before:after],
            ),
        )

    @classmethod
    def concatenate(cls, pieces: list[Self]) -> Self:
        if not pieces:
            return cls.empty()
        return cls(
            **{name: np.concatenate([getattr(p, name) for p in pieces]) for name in _INTEGERS},
            aggregates=Aggregates.concatenate([p.aggregates for p in pieces]),
            sketches=concatenated([p.sketches for p in pieces]),
        )


def concatenated(pieces: list[Sketches]) -> Sketches:
    """Put the rows of several sketches one below the other."""
    ends = np.cumsum([0, *(len(p.bucket) for p in pieces)])
    return Sketches(
        np.concatenate([p.end + before for p, before in zip(pieces, ends, strict=False)]),
        np.concatenate([p.bucket for p in pieces]),
        np.concatenate([p.count for p in pieces]),
    )


def columns_of(frames: Iterable[Frame], names: Names) -> PartRows:
    """Put the parts of frames one below the other, under common numbers; `names` grows."""
    return PartRows.concatenate([
        PartRows(
            names.level_numbers(parts.levels)[parts.level],
            parts.start,
            names.series_numbers(parts.names)[parts.series],
            names.opener_numbers(frame.agent, parts.epochs)[parts.epoch],
            parts.tick,
            parts.revision,
            parts.flags,
            parts.aggregates,
            parts.sketches,
        )
        for frame in frames
        if len(parts := frame.parts)
    ])  # fmt: skip
