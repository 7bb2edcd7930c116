"""What the cloud says that it has of this agent, and how a row that it was given and does not have is found out (R22)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from headwater_shared import records
from headwater_shared.bus import Stored
from headwater_shared.logs import get_logger
from headwater_shared.records import Have

log = get_logger()

_PATIENCE_S = 600.0
"""On another shard the cloud may be far ahead: only after so long what it says of that one is a sign for this one.
A row that was sent again for that is not sent again before."""

_Identity = tuple[int, int, int]
"""Epoch, shard, seq."""


class Haves:
    """The latest `have` of each epoch and shard."""

    def __init__(self) -> None:
        self._intervals: dict[tuple[int, int], list[int]] = {}

    def take(self, have: Have) -> bool:
        """Take up a record; tell whether the cloud says less than it did: its file went back."""
        at = have.epoch, have.shard
        before = self._intervals.get(at, [])
        self._intervals[at] = have.intervals
        return any(not _holds(have.intervals, *pair) for pair in zip(before[::2], before[1::2], strict=True))

    def read(self, record: Stored) -> bool:
        """As `take`, of a record of the bus; one that cannot be read says nothing."""
        try:
            have = records.decode(Have, record.body)
        except ValueError as error:  # of a newer version, perhaps: rows stay longer, and forwarding goes on
            log.warning("a have record cannot be read", offset=record.offset, error=str(error))
            return False
        less = self.take(have)
        if less:
            log.warning("the cloud has less than it had", epoch=f"{have.epoch:016x}", shard=have.shard)
        return less

    def covers(self, epoch: bytes | int, shard: int, seq: int) -> bool:
        """Tell whether the cloud has a row."""
        epoch = epoch if isinstance(epoch, int) else int.from_bytes(epoch, "little")
        return _holds(self._intervals.get((epoch, shard), []), seq, seq)


def _holds(intervals: list[int], first: int, last: int) -> bool:
    at = bisect_right(intervals, first) - 1  # [first, last, first, last]
    at -= at % 2
    return at >= 0 and intervals[at] <= first and last <= intervals[at + 1]


@dataclass(slots=True)
class _Suspect:
    n: int
    shard: int
    to: int
    """All that was given to the bus when the suspicion arose."""
    since_s: float
    near: _Identity | None = None
    """A row of the same shard that was given to the bus later ..."""
    far: _Identity | None = None
    """... and one of any shard."""


class Unconfirmed:
    """Finds rows that the bus took and that the cloud passed over: the bus lost them, or the cloud did.

    A shard is read in the order of the bus. So if the cloud has a row that was given to the bus after another of its shard, and
    not that other, the other is not on the bus (or the cloud's file was older than what it had said). No guess by time, for
    a cloud side may be down for days.
    """

    def __init__(self) -> None:
        self._suspect: _Suspect | None = None
        self._again: tuple[int, float] = (-1, 0.0)
        """The first row that was sent again last, and when."""

    def given(self, epoch: bytes, shard: int, seq: int) -> None:
        """A row was given to the bus."""
        suspect = self._suspect
        if suspect is None or (suspect.near and suspect.far):
            return
        identity = int.from_bytes(epoch, "little"), shard, seq
        suspect.far = suspect.far or identity
        if shard == suspect.shard:
            suspect.near = suspect.near or identity

    def look(
        self, oldest: tuple[int, int] | None, sent_to: int, haves: Haves, now_s: float
    ) -> tuple[int, int] | None:
        """Look at the oldest row (n, shard) that the bus was given and the cloud does not have.

        Returns:
            The rows (after, to) to give out again, if it is lost.
        """
        if oldest is None:
            self._suspect = None
            return None
        n, shard = oldest
        if self._suspect is None or self._suspect.n != n:
            self._suspect = _Suspect(n, shard, sent_to, now_s)
            return None
        suspect = self._suspect
        passed = suspect.near is not None and haves.covers(*suspect.near)
        if suspect.far is not None and now_s - suspect.since_s > _PATIENCE_S:
            passed = passed or haves.covers(*suspect.far)
        again_n, again_s = self._again
        if not passed or (n == again_n and now_s - again_s < _PATIENCE_S):
            return None
        self._suspect = None
        self._again = n, now_s
        return n - 1, suspect.to
