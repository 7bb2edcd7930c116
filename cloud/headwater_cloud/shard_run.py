"""One shard on an engine: its state out of pieces, a batch through the operators, and what changed back into pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headwater_cloud import effects, pipeline, shard
from headwater_cloud.cohorts import Cohorts
from headwater_cloud.effects import Mark
from headwater_cloud.held import HeldParts, Newest
from headwater_cloud.names import Names
from headwater_cloud.outputs import Why
from headwater_cloud.pieces import Listed, Pieces, Staged
from headwater_cloud.pipeline import Limits, Output
from headwater_shared.bus import Stored


class ShardRun:
    """A shard that this process holds. After an error it is worth nothing: make it anew from the pieces."""

    def __init__(self, number: int, pieces: Pieces, names: Names, newest: Newest, keep_us: int) -> None:
        self._names = names
        self._staged = Staged(pieces)
        self._listed = Listed(self._staged)
        self.effects = effects.load(self._staged)
        """Those of the last checkpoint, if it had any; of one that is committed they are in the file, or are to be written."""
        self.shard = shard.load(number, self._listed)
        self.held = HeldParts(self._staged, names, newest, keep_us)

    @property
    def clock_us(self) -> int:
        """The shard's clock."""
        return self.shard.clock_us

    def take(
        self, batch: Sequence[Stored], wall_of: Callable[[int], int], limits: Limits, known: Mapping[int, Why] | None = None, *, mark: Mark
    ) -> Output:  # fmt: skip
        """Take a batch of the shard's partition; what changed is set in the pieces, all or nothing. `known`: see `consume`.
        `mark`: of the checkpoint.
        """
        self.held.clock_us = self.shard.clock_us
        out = pipeline.run(
            {self.shard.number: self.shard}, self._names, self.held, batch, wall_of, limits, known
        )
        self.held.clock_us = self.shard.clock_us
        if out.merged is not None:
            self.held.keep(out.merged, out.stored[1])
        self.held.end_batch()
        self._listed.update(out.pieces[self.shard.number].items())
        found = effects.keep(self._staged, self.effects, mark, out)
        self._staged.apply()
        self.effects = found
        return out


class SecondRun:
    """A partition of a second stage's topic that this process holds (R25); as `ShardRun`."""

    def __init__(self, pieces: Pieces, names: Names, newest: Newest, keep_us: int) -> None:
        self._names = names
        self._staged = Staged(pieces)
        self._held = HeldParts(self._staged, names, newest, keep_us)
        self._cohorts = Cohorts(self._staged)

    @property
    def clock_us(self) -> int:
        """The latest clock of a shard that a rollup was made at."""
        return self._held.clock_us

    def take(self, batch: Sequence[Stored], known: Mapping[int, Why] | None = None) -> Output:
        """Take a batch of the partition; what changed is set in the pieces, all or nothing. `known`: see `consume`."""
        out = pipeline.run_second(self._names, self._held, batch, lambda _: self._cohorts, known)
        if out.merged is not None:
            self._held.clock_us = max(self._held.clock_us, int(out.merged.parts.revision.max()))
            self._held.keep(out.merged, out.stored[1])
        self._held.end_batch()
        self._staged.apply()
        return out
