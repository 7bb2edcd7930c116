"""Numbers rows for the bus (R6, R23)."""

from __future__ import annotations

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
