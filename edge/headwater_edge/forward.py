"""From the outbox to the bus: live, backlog and offline, each a method that returns the next; and what the cloud has."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from headwater_edge import journal
from headwater_edge.output import Completeness
from headwater_edge.store import ANOMALIES, WINDOWS, Chores, read_store
from headwater_edge.ungiven import Ungiven
from headwater_shared import records
from headwater_shared.bus import Bus, Record, Stored
from headwater_shared.clock import Clock
from headwater_shared.crash import reached
from headwater_shared.errors import BusUnavailable
from headwater_shared.identity import agent_partition
from headwater_shared.logs import get_logger
from headwater_shared.records import Have, Heartbeat, Predecessor
from headwater_shared.topics import HAVE, IN

log = get_logger()

_BATCH = 64
_BACKLOG = 256
"""Unsent rows from which on the agent is behind, and marks what it sends as replayed."""
_AGAIN_S = 1.0
_ALONE_US = 5_000_000
"""A heartbeat that has no rows to go with waits so long."""
_QUIET_US = 30_000_000
"""An unchanged heartbeat is said again after so long."""

_Row = tuple[int, bytes, int, int, str, bytes]

Mode = Callable[[], "Mode"]


class Forward:
    """Sends rows in the order of their lane, never more than once in its own memory; the bus may still hold them twice.

    Everything here can be done again after a crash: the cloud tells rows by their identity (R23).
    """

    def __init__(
        self,
        path: Path,
        open_bus: Callable[[], Bus],
        agent: str,
        clock: Clock,
        leave: Callable[[Chores], None],
    ) -> None:
        self._reader: sqlite3.Connection = read_store(path)
        self._open_bus = open_bus
        self._bus: Bus | None = None
        self._agent = agent
        self._clock = clock
        self._leave = leave
        self.ungiven = Ungiven(path, leave)
        self._sent = {ANOMALIES: 0, WINDOWS: 0}
        self._sent |= dict(self._reader.execute("SELECT lane, n FROM sent"))
        known = self._reader.execute("SELECT value FROM meta WHERE name = 'bus'").fetchone()
        self._marked = known[0] if known else ""
        """Which bus the marks of what is sent are about."""
        self._have: dict[tuple[int, int], list[int]] = {}
        self._have_offset = 0
        self._covered_to = self._deleted_to = self._first() - 1
        self._said: dict[int, tuple[tuple[int, int], int]] = {}
        self.complete: Completeness | None = None
        """What committed ticks completed; set by the agent."""
        self.keep_from_tick = 0
        """Rows of ticks after this one stay: a kept snapshot is not after them (R12); set by the agent."""
        self.sent_rows = 0
        self._pending = max(0, self._last() - self._covered_to)
        """Rows that the last look at the outbox saw."""
        self._woken = self._looked = 0
        """Rows committed since the start, all and those that the last look saw; each is written by one thread only."""
        self.mode = "live"
        self._next: Mode = self.live
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Run the loop in a thread of its own; `on_failure` is called there with what nobody foresaw, and it has ended."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="forward", daemon=True)
        reached("forward.started")
        self._thread.start()

    @property
    def pending(self) -> int:
        """Rows that the cloud is not known to have."""
        return self._pending + self._woken - self._looked

    @property
    def waits_for_snapshot(self) -> bool:
        """Whether rows that the cloud has stay only because no two snapshots are after them."""
        return self._covered_to > self._deleted_to

    def wake(self, rows: int) -> None:
        """So many new rows were committed."""
        self._woken += rows
        self._wake.set()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread:
            self._thread.join()
        self.ungiven.close()
        self._reader.close()
        if self._bus:
            self._bus.close()

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        try:
            while not self._stop.is_set():
                self.once()
                self._wake.wait(_AGAIN_S)
                self._wake.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent must not go on without forwarding
            on_failure(error)

    def once(self) -> None:
        """Do what the mode asks for, and take up the mode that follows."""
        self._next = self._next()
        self.mode = self._next.__name__

    def live(self) -> Mode:
        """Send what is there; behind when much is, offline when the bus does not take it."""
        try:
            bus = self._connected()
            if self._unsent() > _BACKLOG:
                return self.backlog
            while self._send(bus, replayed=False):
                pass
            self._look(bus)
        except BusUnavailable as error:
            log.warning("the bus is away; everything waits in the outbox", error=error)
            return self._away()
        return self.live

    def backlog(self) -> Mode:
        """Send what waited, anomalies first, a bounded batch at a time; live again when none is left."""
        try:
            bus = self._connected()
            more = self._send(bus, replayed=True)
            self._look(bus)
        except BusUnavailable:
            return self._away()
        self._wake.set()
        return self.backlog if more else self.live

    def offline(self) -> Mode:
        """Try again; whatever waited in the meantime is a backlog."""
        try:
            self._look(self._connected())
        except BusUnavailable:
            return self.offline
        log.info("the bus is back", pending=self.pending)
        self._wake.set()
        return self.live

    def _away(self) -> Mode:
        self.ungiven.away()
        return self.offline

    def _connected(self) -> Bus:
        if self._bus is None:
            bus = self._open_bus()
            identity = bus.identity
            if identity != self._marked:
                self._begin_on(identity)
            self._bus = bus
        return self._bus

    def _begin_on(self, identity: str) -> None:
        """The bus is another one than before: what was sent lies on that one. All that is still here goes out again (R23)."""
        if self._marked:
            log.warning(
                "the bus is another one than before: what the outbox holds is sent again",
                pending=self.pending,
            )
            self._sent = dict.fromkeys(self._sent, 0)
        self._marked = identity
        self._leave(Chores(bus=identity, sent=dict(self._sent)))

    def _send(self, bus: Bus, *, replayed: bool) -> bool:
        """Send a batch, anomalies first, and the heartbeats that are due, in one append; False if there were no rows."""
        rows: list[_Row] = []
        marks: dict[int, int] = {}
        for lane in (ANOMALIES, WINDOWS):
            found = self._reader.execute(
                "SELECT n, epoch, shard, seq, kind, body FROM outbox WHERE n > ? AND lane = ? ORDER BY n LIMIT ?",
                (self._sent[lane], lane, _BATCH - len(rows)),
            ).fetchall()
            if lane == WINDOWS:
                found = list(takewhile(lambda row: self.ungiven.may_go(row[0]), found))
            if found:
                rows += found
                marks[lane] = found[-1][0]
        out = [self._record(row, replayed=replayed) for row in rows] + self._heartbeats(bool(rows))
        if out:
            reached("forward.before")
            try:
                bus.append(out)
            except BusUnavailable:
                self._said.clear()  # nobody may have heard the heartbeats
                raise
            reached("forward.after")
        if rows:
            self._sent |= marks
            self.sent_rows += len(rows)
            self._leave(Chores(sent=marks))
            reached("forward.marked")
        return bool(rows)

    def _record(self, row: _Row, *, replayed: bool) -> Record:
        n, epoch, shard, seq, kind, packed = row
        try:
            body = zlib.decompress(packed)
        except zlib.error as error:  # the next start makes it again from the journal, if it can
            raise journal.Damaged(f"outbox row {n} cannot be read: {error}") from error
        more = {"replayed": "true"} if replayed else {}
        headers = records.headers(
            kind,
            f"{self._agent}/{int.from_bytes(epoch, 'little'):016x}/{shard}/{seq}",
            f"headwater-edge/{self._agent}",
            self._clock.now().wall_us,
            **more,
        )
        return Record(IN.name, shard, self._agent, headers, body)

    def _unsent(self) -> int:
        """Count the windows that wait, no farther than it matters; anomalies go first, and say nothing of them."""
        found = self._reader.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE n > ? AND lane = ? LIMIT ?)",
            (self._sent[WINDOWS], WINDOWS, _BACKLOG + 1),
        )
        return int(found.fetchone()[0])

    def _heartbeats(self, in_company: bool) -> list[Record]:
        """Say up to when each shard is complete: with rows that are sent anyway, else seldom, for an append costs pages."""
        last = self.complete
        if last is None:
            return []
        now = self._clock.now()
        beats = []
        for shard, state in last.shards.items():
            before, at = self._said.get(shard, ((0, 0), -(2**62)))
            wait_us = 0 if in_company else _ALONE_US
            if now.mono_us - at < (wait_us if state != before else _QUIET_US):
                continue
            self._said[shard] = (state, now.mono_us)
            complete_us, last_seq = state
            predecessor = None
            if last.previous:
                predecessor = Predecessor(last.previous[0], last.previous[1].get(shard, 0))
            beat = Heartbeat(self._agent, last.epoch, shard, last_seq, predecessor, complete_us, now.wall_us)
            name = f"{self._agent}/{last.epoch:016x}/{shard}/heartbeat-{now.wall_us}"
            headers = records.headers(records.HEARTBEAT, name, f"headwater-edge/{self._agent}", now.wall_us)
            beats.append(Record(IN.name, shard, self._agent, headers, records.encode(beat)))
        return beats

    def _look(self, bus: Bus) -> None:
        """Take up what the cloud has, and let the rows go that it covers and no snapshot needs (R22)."""
        partition = agent_partition(self._agent, HAVE.partitions)
        while stored := bus.read(HAVE.name, {partition: self._have_offset}, 500):
            reached("have.read")
            self._have_offset = stored[-1].offset + 1
            for record in stored:
                if record.key.partition("/")[0] == self._agent:  # the key goes on: epoch and shard
                    self._take_up(record)
        self._let_go()

    def _take_up(self, record: Stored) -> None:
        try:
            have = records.decode(Have, record.body)
        except ValueError as error:  # of a newer version, perhaps: rows stay longer, and forwarding goes on
            log.warning("a have record cannot be read", offset=record.offset, error=str(error))
            return
        self._have[have.epoch, have.shard] = have.intervals

    def _let_go(self) -> None:
        read = self._reader.execute
        woken = self._woken  # before the look, which sees every row counted in it
        rows = read(
            "SELECT n, epoch, shard, seq FROM outbox WHERE n > ? ORDER BY n LIMIT 5000", (self._covered_to,)
        )
        for n, epoch, shard, seq in rows.fetchall():
            if not self._covers(epoch, shard, seq):
                break
            self._covered_to = n
        self._pending = max(0, self._last() - self._covered_to)
        self._looked = woken  # after it: who asks in between is told too many, never too few
        rows = read(
            "SELECT n FROM outbox WHERE n > ? AND n <= ? AND tick <= ? ORDER BY n LIMIT 500",
            (self._deleted_to, self._covered_to, self.keep_from_tick),
        )
        covered = [n for (n,) in rows]
        if covered:
            self._deleted_to = covered[-1]
            reached("have.before")
            self._leave(Chores(covered=covered))
            reached("have.after")

    def _covers(self, epoch: bytes, shard: int, seq: int) -> bool:
        intervals = self._have.get((int.from_bytes(epoch, "little"), shard))
        if not intervals:
            return False
        at = bisect_right(intervals, seq)  # [first, last, first, last]: inside, or on a last
        return at % 2 == 1 or (at > 0 and intervals[at - 1] == seq)

    def _last(self) -> int:
        return int(self._reader.execute("SELECT coalesce(max(n), 0) FROM outbox").fetchone()[0])

    def _first(self) -> int:
        return int(self._reader.execute("SELECT coalesce(min(n), 1) FROM outbox").fetchone()[0])
