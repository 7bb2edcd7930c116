"""The outbox as the forwarder reads it: what is new, what waits in gaps, and what of it the cloud has (R22)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_edge import journal
from headwater_edge.haves import Haves
from headwater_edge.store import ANOMALIES, WINDOWS, Chores, Gap, read_store

LANES = (ANOMALIES, WINDOWS)

BATCH = 64
"""Rows of one append at most ..."""
BATCH_BYTES = 262_144
"""... and bytes, as they lie in the outbox: what is live waits for one append of the backlog, never for more."""
BEHIND = 256
"""Rows of a lane that wait unsent from which on they are a backlog."""
_GO_AT_ONCE = 500
_GAPS = 64
"""More are joined: what lies between them then goes out twice, which changes nothing (R1, R23)."""

_ROW = "SELECT n, epoch, shard, seq, kind, body, tick FROM outbox"


class Row(NamedTuple):
    """A row of the outbox; the body is compressed."""

    n: int
    epoch: bytes
    shard: int
    seq: int
    kind: str
    body: bytes
    tick: int = 0


class Batch(NamedTuple):
    """Rows for one append, and where the marks stand once the bus has taken it."""

    rows: list[Row]
    sent: dict[int, int]
    gaps: list[Gap] | None = None
    """None: unchanged."""
    passed: int = 0
    """Rows that leave the gaps by it: these, and those that need not be sent any more."""

    @property
    def size(self) -> int:
        """Bytes of the rows in the outbox."""
        return sum(len(row.body) for row in self.rows)


class Outbox:
    """One thread reads here; `pending`, `waiting` and `oldest_us` may be looked at from any.

    Of each lane, `sent` is the row up to which everything was given to the bus or stands in a gap. Gaps are the backlog: rows
    that go out after all that is newer. Both are in the file, by chores.
    """

    def __init__(self, path: Path, may_go: Callable[[int], bool] = lambda _: True) -> None:
        """Open the file; `may_go` tells of a row of windows whether it may be given out already (see `Ungiven`)."""
        self._may_go = may_go
        self.may_go_on = True
        """Whether the last look at the backlog found no row that may not go yet."""
        self._reader: sqlite3.Connection = read_store(path)
        self.sent = {ANOMALIES: 0, WINDOWS: 0}
        self.sent |= dict(self._reader.execute("SELECT lane, n FROM sent"))
        self.gaps: list[Gap] = []
        self.bus = self._meta("bus")
        """Which bus the marks are about; none: nobody knows, so that all that is here goes out again."""
        try:
            self.gaps = msgspec.json.decode(self._meta("gaps") or "[]", type=list[Gap])
        except msgspec.DecodeError:  # the file was damaged
            self.bus = ""
        self.waiting = sum(map(self._count, self.gaps))
        """Rows of the gaps."""
        self.oldest_us: int | None = None
        """When the oldest row that is unsent was made, as the wall clock stood; None: all is sent."""
        self._oldest_tick = 0
        self._covered_to = self._deleted_to = self._first() - 1
        self._covered_bytes = 0
        self.kept_bytes = 0
        """Of rows that the cloud has and that stay only because no two snapshots are after them."""
        self.unconfirmed: Row | None = None
        """The oldest row that the bus was given and the cloud does not say it has (its body left out)."""
        self._pending = max(0, self._last() - self._covered_to)
        """Rows that the last look saw."""
        self._woken = self._looked = 0
        """Rows committed since the start, all and those that the last look saw; each is written by one thread only."""

    @property
    def pending(self) -> int:
        """Rows that the cloud is not known to have."""
        return self._pending + self._woken - self._looked

    def wake(self, rows: int) -> None:
        """So many new rows were committed."""
        self._woken += rows

    def close(self) -> None:
        self._reader.close()

    @property
    def begun(self) -> bool:
        """Whether anything was given to a bus."""
        return bool(self.bus) or any(self.sent.values())

    # What is to be sent.

    def fresh(self) -> Batch:
        """Return the oldest rows that are in no gap and were not sent, anomalies first."""
        rows: list[Row] = []
        marks = {}
        last = self._last()  # rows that are committed after this look are for the next one
        for lane in LANES:
            found, whole = self._take(Gap(lane, self.sent[lane], last), rows)
            rows += found
            marks[lane] = max(self.sent[lane], last if whole else found[-1].n if found else 0)
        return Batch(rows, marks)

    def backlog(self, haves: Haves) -> Batch:
        """Return the oldest rows of the gaps, anomalies first; what the cloud has meanwhile is left out."""
        rows: list[Row] = []
        left = []
        self.may_go_on = True
        for gap in self.gaps:
            found, whole = self._take(gap, rows)
            rows += found
            if not whole:
                left.append(gap._replace(after=found[-1].n) if found else gap)
        missing = [row for row in rows if not haves.covers(row.epoch, row.shard, row.seq)]
        return Batch(missing, {}, left, len(rows))

    def given(self, batch: Batch) -> Chores:
        """The bus has taken a batch: move the marks. Return what the file is to know."""
        self.sent |= batch.sent
        if batch.gaps is None:
            return Chores(sent=batch.sent)
        self.gaps = batch.gaps
        self.waiting = max(0, self.waiting - batch.passed) if batch.gaps else 0
        return Chores(gaps=batch.gaps)

    def is_behind(self) -> bool:
        """Tell whether so much waits unsent, outside of gaps, that it is a backlog."""
        return any(self._more_than(BEHIND, lane) for lane in LANES)

    def fall_behind(self) -> Chores:
        """Make a backlog of all that waits unsent: what comes from now on goes out before it."""
        last = self._last()
        for lane in LANES:
            self._put_gap(Gap(lane, self.sent[lane], last))
            self.sent[lane] = max(self.sent[lane], last)
        return Chores(sent=dict(self.sent), gaps=self.gaps)

    def send_again(self, after: int, to: int) -> Chores:
        """Make a backlog of rows that were given out: the cloud does not have them, and they are not on the bus any more."""
        for lane in LANES:
            self._put_gap(Gap(lane, after, min(to, self.sent[lane]), again=True))
        return Chores(gaps=self.gaps)

    def begin_on(self, bus: str) -> Chores:
        """The marks were about another bus: all that is here goes out again."""
        if self.begun:
            self.sent = dict.fromkeys(self.sent, 0)
            self.gaps = []
            self.waiting = 0
            self._covered_to, self._covered_bytes = self._deleted_to, 0
        self.bus = bus
        return Chores(bus=bus, sent=dict(self.sent), gaps=self.gaps)

    def _put_gap(self, new: Gap) -> None:
        rows = self._count(new)
        if not rows:
            return
        self.waiting += rows
        last = next((gap for gap in self.gaps[::-1] if gap.lane == new.lane), None)
        if last is not None and last.after <= new.after <= last.to and last.again == new.again:
            self.gaps[self.gaps.index(last)] = last._replace(to=max(last.to, new.to))
        else:
            self.gaps.append(new)
        self.gaps.sort()
        if len(self.gaps) > _GAPS:
            lane = max(LANES, key=lambda lane: sum(gap.lane == lane for gap in self.gaps))
            ours = [gap for gap in self.gaps if gap.lane == lane]
            joined = Gap(lane, ours[0].after, max(ours[0].to, ours[1].to), again=True)
            self.gaps = sorted([*(gap for gap in self.gaps if gap not in ours[:2]), joined])
            self.waiting = sum(map(self._count, self.gaps))

    def _take(self, gap: Gap, before: list[Row]) -> tuple[list[Row], bool]:
        """Return rows of a gap, as many as go with those before; and whether these are all."""
        found: list[Row] = []
        size = sum(len(row.body) for row in before)
        cursor = self._reader.execute(
            f"{_ROW} WHERE n > ? AND n <= ? AND lane = ? ORDER BY n",
            (gap.after, gap.to, gap.lane),
        )
        try:  # it must not stay open: what a reader sees, no checkpoint can pass
            for values in cursor:
                row = Row(*values)
                rows = len(before) + len(found)
                if rows >= BATCH or (rows and size + len(row.body) > BATCH_BYTES):
                    return found, False
                if gap.lane == WINDOWS and not self._may_go(row.n):
                    self.may_go_on = False
                    return found, False
                found.append(row)
                size += len(row.body)
        finally:
            cursor.close()
        return found, True

    # What the cloud has.

    def let_go(self, haves: Haves, keep_from_tick: int) -> Chores:
        """Look which rows the cloud covers and no snapshot needs: they may go (R12, R22)."""
        woken = self._woken  # before the look, which sees every row counted in it
        self.unconfirmed = None
        cursor = self._reader.execute(
            "SELECT n, epoch, shard, seq, length(body) FROM outbox WHERE n > ? ORDER BY n LIMIT 5000",
            (self._covered_to,),
        )
        for n, epoch, shard, seq, size in cursor:
            if not haves.covers(epoch, shard, seq):
                self.unconfirmed = Row(n, epoch, shard, seq, "", b"")
                break
            self._covered_to = n
            self._covered_bytes += size
        cursor.close()
        self._pending = max(0, self._last() - self._covered_to)
        self._looked = woken  # after it: who asks in between is told too many, never too few
        if self.unconfirmed is not None and not self._is_given(self.unconfirmed.n):
            self.unconfirmed = None
        rows = self._reader.execute(
            "SELECT n, length(body) FROM outbox WHERE n > ? AND n <= ? AND tick <= ? ORDER BY n LIMIT ?",
            (self._deleted_to, self._covered_to, keep_from_tick, _GO_AT_ONCE),
        ).fetchall()
        covered = [n for n, _ in rows]
        if covered:
            self._deleted_to = covered[-1]
            self._covered_bytes -= sum(size for _, size in rows)
        self.kept_bytes = self._covered_bytes if len(rows) < _GO_AT_ONCE else 0
        return Chores(covered=covered)

    @property
    def waits_for_snapshot(self) -> bool:
        """Whether rows that the cloud has stay only because no two snapshots are after them."""
        return self._covered_to > self._deleted_to

    def doubt(self) -> None:
        """The cloud says less than it did: look at every row anew."""
        self._covered_to, self._covered_bytes = self._deleted_to, 0

    def _is_given(self, n: int) -> bool:
        (lane,) = self._reader.execute("SELECT lane FROM outbox WHERE n = ?", (n,)).fetchone() or (WINDOWS,)
        return n <= self.sent[lane] and not any(g.lane == lane and g.after < n <= g.to for g in self.gaps)

    # How far behind.

    def look_at_age(self) -> None:
        """Find out when the oldest unsent row was made: its tick's row in the journal says so."""
        ticks = [self._tick_of(gap) for gap in self.gaps[:1] + self.gaps[-1:]]
        ticks += [self._tick_of(Gap(lane, self.sent[lane], 2**62)) for lane in LANES]
        known = [tick for tick in ticks if tick is not None]
        if not known:
            self.oldest_us, self._oldest_tick = None, 0
        elif min(known) != self._oldest_tick:
            self._oldest_tick = min(known)
            # Where that row has gone, the oldest that is there: it is at least so old.
            found = self._reader.execute(
                "SELECT body FROM journal WHERE tick >= ? ORDER BY tick LIMIT 1", (self._oldest_tick,)
            ).fetchone()
            self.oldest_us = None
            with suppress(journal.Damaged):
                self.oldest_us = journal.decode(found[0]).now.wall_us if found and found[0] else None

    def _tick_of(self, gap: Gap) -> int | None:
        found = self._reader.execute(
            "SELECT tick FROM outbox WHERE n > ? AND n <= ? AND lane = ? ORDER BY n LIMIT 1",
            (gap.after, gap.to, gap.lane),
        ).fetchone()
        return int(found[0]) if found else None

    def _more_than(self, limit: int, lane: int) -> bool:
        found = self._reader.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE n > ? AND lane = ? LIMIT ?)",
            (self.sent[lane], lane, limit + 1),
        )
        return int(found.fetchone()[0]) > limit

    def _count(self, gap: Gap) -> int:
        found = self._reader.execute(
            "SELECT count(*) FROM outbox WHERE n > ? AND n <= ? AND lane = ?", (gap.after, gap.to, gap.lane)
        )
        return int(found.fetchone()[0])

    def _meta(self, name: str) -> str:
        found = self._reader.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def _last(self) -> int:
        return int(self._reader.execute("SELECT coalesce(max(n), 0) FROM outbox").fetchone()[0])

    def _first(self) -> int:
        return int(self._reader.execute("SELECT coalesce(min(n), 1) FROM outbox").fetchone()[0])
