"""Completeness heartbeats: up to when each shard is complete, and the last seq until then (R23)."""

from __future__ import annotations

from headwater_edge.output import Completeness
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.clock import Now
from headwater_shared.records import Heartbeat, Predecessor
from headwater_shared.topics import IN

_ALONE_US = 5_000_000
"""A heartbeat that has no rows to go with waits so long, for an append costs pages."""
_QUIET_US = 30_000_000
"""An unchanged one is said again after so long."""


class Heartbeats:
    """What was said of each shard, and when."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._said: dict[int, tuple[tuple[int, int], int]] = {}

    def forget(self) -> None:
        """Nobody may have heard them."""
        self._said.clear()

    def due(self, complete: Completeness | None, now: Now, *, in_company: bool) -> list[Record]:
        """Return those that are due: with rows that are sent anyway, else seldom. They count as said."""
        if complete is None:
            return []
        beats = []
        for shard, state in complete.shards.items():
            before, at = self._said.get(shard, ((0, 0), -(2**62)))
            wait_us = 0 if in_company else _ALONE_US
            if now.mono_us - at < (wait_us if state != before else _QUIET_US):
                continue
            self._said[shard] = (state, now.mono_us)
            beats.append(self._record(complete, shard, now.wall_us))
        return beats

    def _record(self, complete: Completeness, shard: int, wall_us: int) -> Record:
        complete_us, last_seq = complete.shards[shard]
        predecessor = None
        if complete.previous:
            predecessor = Predecessor(complete.previous[0], complete.previous[1].get(shard, 0))
        beat = Heartbeat(self._agent, complete.epoch, shard, last_seq, predecessor, complete_us, wall_us)
        name = f"{self._agent}/{complete.epoch:016x}/{shard}/heartbeat-{wall_us}"
        headers = records.headers(records.HEARTBEAT, name, f"headwater-edge/{self._agent}", wall_us)
        return Record(IN.name, shard, self._agent, headers, records.encode(beat))
