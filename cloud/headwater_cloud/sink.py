"""What a runner hands on between two checkpoints, and where rows go: the interface of sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from headwater_cloud.effects import Effects
from headwater_cloud.names import Names
from headwater_cloud.outputs import Why
from headwater_cloud.pipeline import Output

At = tuple[str, int]
"""Topic, without the prefix, and partition: of `hw-in` a shard."""


class Batch(NamedTuple):
    """What one partition led to between two checkpoints, and the offset of the input that it ends at."""

    at: At
    offset: int
    clock_us: int
    """The operators' clock after it."""
    out: Output


class Sink(Protocol):
    """Where rows go, before the checkpoint that they belong to is committed; the same rows may come again after a crash."""

    def decided(self, at: At) -> Mapping[int, Why]:
        """Return which records were dead letters, by offset, when the last rows of a partition were made.

        The process that made them may have ended before its commit, and with it the letters. Who works on the same records again must come
        to the same, also if it could read them by now: the sink is ahead, and takes no rows of them.
        """

    @property
    def identity(self) -> str:
        """Which sink this is: another one, if its file was replaced."""

    def write(self, batches: Sequence[Batch], names: Names) -> None:
        """Take the rows of some partitions, but for their effects, durable on return. `names` are what their numbers mean.

        Where the sink has rows from beyond a batch already it takes none of that: a process wrote them, and ended before its commit.

        Raises:
            TryAgain: it cannot now; nothing was written, and the same records will be worked on again.
        """

    def settle(self, found: Sequence[Effects], *, again: bool = False) -> None:
        """Take the effects of checkpoints that are committed, durable on return. `again`: they may have been taken before.

        Raises:
            TryAgain: it cannot now; call again.
        """
