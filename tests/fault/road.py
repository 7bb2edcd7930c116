"""The bus between an agent and the cloud side, on which records are late, come twice and overtake each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headwater_shared import records
from headwater_shared.bus import Record, Stored
from headwater_shared.errors import BusUnavailable
from headwater_shared.records import Have
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import HAVE


class Road:
    """A bus for the agent: what it appends waits here until a history lets it go on to the log, and `have` until it lets it come."""

    identity = "road"

    def __init__(self) -> None:
        self.away = False
        self.answer_lost = False
        """The next append succeeds and does not say so."""
        self.waiting: list[Record] = []
        self.appended: dict[str, None] = {}
        """Identity of every record that was ever appended."""
        self._haves: list[Stored] = []
        self._known = 0
        self._told: dict[tuple[int, int], list[int]] = {}
        """By epoch and shard, the intervals of seqs that were ever said to be there, end to end."""

    def append(self, records: Sequence[Record]) -> None:
        self._look()
        self.waiting += records
        self.appended |= dict.fromkeys(record.headers["ce_id"] for record in records)
        if self.answer_lost:
            self.answer_lost = False
            raise BusUnavailable("no answer")

    def read(self, _topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        self._look()
        (offset,) = offsets.values()
        return self._haves[offset : offset + limit]

    def ends(self, _topic: str) -> dict[int, int]:
        self._look()
        return dict.fromkeys(range(HAVE.partitions), len(self._haves))

    def close(self) -> None:
        pass

    def go_on(self, log: SqliteLog, which: Sequence[int]) -> None:
        """Let the waiting records of these numbers (modulo how many there are) reach the log, in this order; the last one twice."""
        there = len(self.waiting)
        if there:
            numbers = [number % there for number in which]
            log.append([self.waiting[number] for number in numbers])
            self.waiting = [record for n, record in enumerate(self.waiting) if n not in set(numbers[:-1])]

    def all_go_on(self, log: SqliteLog) -> None:
        """Let all that waits reach the log, in order."""
        waiting, self.waiting = self.waiting, []
        log.append(waiting)

    def have(self, log: SqliteLog, most: int, *, repeat: int = 0) -> None:
        """Let the agent see so many more `have` records, and an old one once more."""
        new = log.read(HAVE.name, dict.fromkeys(range(HAVE.partitions), 0), 100_000)[self._known :][:most]
        self._known += len(new)
        if repeat and self._haves:
            new.append(self._haves[-repeat % len(self._haves)])
        for stored in new:
            have = records.decode(Have, stored.body)
            self._told.setdefault((have.epoch, have.shard), []).extend(have.intervals)
            self._haves.append(msgspec.structs.replace(stored, offset=len(self._haves)))

    def was_told(self, epoch: bytes, shard: int, seq: int) -> bool:
        """Tell whether the agent was let hear that the cloud side has a row."""
        bounds = self._told.get((int.from_bytes(epoch, "little"), shard), [])
        return any(first <= seq <= last for first, last in zip(bounds[::2], bounds[1::2], strict=True))

    def _look(self) -> None:
        if self.away:
            raise BusUnavailable("away")
