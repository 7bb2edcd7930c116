"""Numbers rows for the bus (R6, R23)."""

from __future__ import annotations

from typing import NamedTuple

from headwater_edge.state import State
from headwater_shared.records import Predecessor


def next_seq(state: State, shard: int) -> tuple[int, Predecessor | None]:
    """Number a row for the bus; an epoch's first in a shard names the epoch before and its last seq (R6)."""
    first = shard not in state.seq
    seq = state.seq[shard] = state.seq.get(shard, 0) + 1
    if not first or state.previous is None:
        return seq, None
    epoch, seqs = state.previous
    return seq, Predecessor(epoch, seqs.get(shard, 0))


class Identity(NamedTuple):
    """What every record of a step begins with."""

    agent: str
    epoch: int
    shard: int
    seq: int
    tick: int
    predecessor: Predecessor | None


def numbered(state: State, shard: int) -> Identity:
    """Number a record of this tick."""
    seq, predecessor = next_seq(state, shard)
    return Identity(state.settings.agent, state.epoch, shard, seq, state.tick, predecessor)
