"""From the outbox to the bus: live, backlog and offline, each a method that returns the next.

| mode | sends | next |
| --- | --- | --- |
| live | what is new, anomalies first | backlog when much waits, offline when the bus does not take it |
| backlog | what is new first, then the gaps at a limited rate, marked `replayed` | live when no gap is left |
| offline | nothing; tries again after longer and longer, jittered pauses | live or backlog when the bus answers |

The thread of its own is all that waits for a bus: a slow or stalled one never holds up a tick.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headwater_edge import journal, traced
from headwater_edge.broker_retry import Retry
from headwater_edge.forward_settings import ForwardSettings
from headwater_edge.haves import Haves, Unconfirmed
from headwater_edge.heartbeats import Heartbeats
from headwater_edge.made import Made
from headwater_edge.order_reader import OrderReader
from headwater_edge.outbox import Batch, Outbox, Row
from headwater_edge.output import Completeness
from headwater_edge.stall import Watch
from headwater_edge.statuses import Statuses
from headwater_edge.store import Chores
from headwater_edge.ungiven import Ungiven
from headwater_shared import records, trace, tracing
from headwater_shared.bus import Bus, Record
from headwater_shared.clock import Clock
from headwater_shared.crash import reached
from headwater_shared.errors import BusReplaced, BusUnavailable
from headwater_shared.identity import agent_partition
from headwater_shared.logs import get_logger
from headwater_shared.settings import duration, size
from headwater_shared.topics import HAVE, IN

log = get_logger()

_LOOK_S = 1.0
"""How often the cloud's word is looked for, at least."""
_FIRST_S, _MOST_S, _STABLE_S = 1.0, 15.0, 60.0
"""Of the pauses between tries to reach a bus that is away."""
_AHEAD_S = 1.0
"""What the drain did not use of its rate is kept so long."""
_LEAVE_S = 5.0
"""A thread that hangs in the bus is left behind after so long."""
_SOON_S = 0.05
"""After which is looked again whether rows may go (see `Ungiven`)."""
_SLICE = 32
"""Appends of new rows between two looks at what the cloud has."""

Mode = Callable[[], "Mode"]


class Forward:
    """Sends rows, never more than once in its own memory; the bus may still hold them twice.

    Everything here can be done again after a crash: the cloud tells rows by their identity (R23).
    """

    def __init__(
        self,
        path: Path,
        open_bus: Callable[[], Bus],
        agent: str,
        clock: Clock,
        leave: Callable[[Chores], None],
        orders: OrderReader,
        settings: ForwardSettings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or ForwardSettings()
        self.ungiven = Ungiven(path, leave)
        self.outbox = Outbox(path, self.ungiven.may_go)
        self._open_bus = open_bus
        self._bus: Bus | None = None
        self._agent = agent
        self._clock = clock
        self._leave = leave
        self._monotonic = monotonic
        self.drain_bytes = size(settings.drain)
        self._orders = orders
        self._haves = Haves()
        self._have_offset = 0
        self._unconfirmed = Unconfirmed()
        self._made = Made()
        self._heartbeats = Heartbeats(agent)
        self.statuses = Statuses(agent)
        self._retry = Retry(_FIRST_S, _MOST_S, _STABLE_S)
        self._back_at = monotonic()
        self._drain_at = self._look_at = self._age_at = 0.0
        self._drain_began = (0.0, 0)
        self.complete: Completeness | None = None
        """What committed ticks completed; set by the agent."""
        self.keep_from_tick = 0
        """Rows of ticks after this one stay: a kept snapshot is not after them (R12); set by the agent."""
        self.sent_rows = self.replayed_rows = 0
        self.mode = "live"
        self._next: Mode = self.live
        self._pause_s = _LOOK_S
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.watch = Watch(open_bus, duration(settings.stall) / 1e6, monotonic)

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Run the loop in a thread of its own; `on_failure` is called there with what nobody foresaw, and it has ended."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="forward", daemon=True)
        reached("forward.started")
        self._thread.start()
        self.watch.start(on_failure)

    @property
    def pending(self) -> int:
        """Rows that the cloud is not known to have."""
        return self.outbox.pending

    @property
    def drain_rate(self) -> float:
        """Rows a second that the backlog loses, since it is drained; 0 if it is not."""
        began, before = self._drain_began
        took = self._monotonic() - began
        return (self.replayed_rows - before) / took if self.mode == "backlog" and took > 0 else 0.0

    @property
    def oldest_s(self) -> float:
        """How long ago the oldest row was made that the bus was not given, in seconds of the agent's clock; 0: there is none."""
        made_us = self.outbox.oldest_us
        return 0.0 if made_us is None else max(0.0, (self._clock.now().wall_us - made_us) / 1e6)

    def wake(self, rows: int, tick: int = 0, wall_us: int = 0) -> None:
        """So many new rows were committed; of which tick, and what the clock showed then."""
        self._made.note(tick, wall_us)
        self.outbox.wake(rows)
        self._wake.set()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        self.watch.close()
        if self._thread:
            self._thread.join(_LEAVE_S)
            if self._thread.is_alive():  # it has the readers and the bus
                log.warning("the bus does not answer; what it was given is sent again")
                return
        self.ungiven.close()
        self.outbox.close()
        if self._bus:
            self._bus.close()

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        try:
            while not self._stop.is_set():
                self.once()
                if self._next == self.offline:
                    self._stop.wait(self._pause_s)  # a commit is no reason to try earlier
                else:
                    self._wake.wait(self._pause_s)
                self._wake.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent must not go on without forwarding
            with suppress(RuntimeError):  # the agent's loop has ended before us
                on_failure(error)

    def once(self) -> None:
        """Do what the mode asks for, and take up the mode that follows."""
        self.watch.asked()
        try:
            self._next = self._next()
        except BusReplaced as error:
            log.warning("the bus is gone; another one is looked for", error=error)
            self._let_go_of_bus()
            self._next = self._lost()
        except BusUnavailable as error:
            if self._next != self.offline:
                log.warning("the bus is away; everything waits in the outbox", error=error)
            self._next = self._lost()
        self.watch.answered()
        self.mode = self._next.__name__
        if self.mode != "backlog" or self._monotonic() >= self._age_at:
            self.outbox.look_at_age()
            self._age_at = self._monotonic() + _LOOK_S

    def live(self) -> Mode:
        """Send what is new; behind when much waits."""
        bus = self._connected()
        self._pause_s = _LOOK_S
        if self.outbox.gaps or self.outbox.is_behind():
            return self._behind()
        self._send_fresh(bus)
        self._look(bus)
        return self._behind() if self.outbox.gaps else self.live

    def backlog(self) -> Mode:
        """Send what is new, then a bounded batch of what waited, if its time has come; live again when none is left."""
        bus = self._connected()
        if self.outbox.is_behind():
            self._leave(self.outbox.fall_behind())
        self._send_fresh(bus)
        if self._monotonic() >= self._drain_at:
            began = self._monotonic()
            batch = self.outbox.backlog(self._haves)
            self._send(bus, batch, replayed=True)
            self._drain_at = max(self._drain_at, began - _AHEAD_S) + batch.size / self.drain_bytes
        drained = not self.outbox.gaps
        if drained or self._monotonic() >= self._look_at:
            self._look(bus)
        left_s = max(0.0, min(_LOOK_S, self._drain_at - self._monotonic()))
        self._pause_s = left_s if self.outbox.may_go_on else _SOON_S
        if self.outbox.gaps:
            return self.backlog
        log.info("the backlog is drained", rows=self.replayed_rows - self._drain_began[1])
        return self.live

    def offline(self) -> Mode:
        """Try again; whatever waited in the meantime may be a backlog."""
        bus = self._connected()
        self._see(bus.identity)
        self._orders.doubt()
        self._look(bus)
        self._back_at = self._monotonic()
        self._pause_s = 0.0
        log.info("the bus is back", pending=self.pending)
        return self.live

    def _behind(self) -> Mode:
        if self.outbox.is_behind():
            self._leave(self.outbox.fall_behind())
        self._drain_began = self._monotonic(), self.replayed_rows
        self._drain_at = self._pause_s = 0.0
        log.info("behind: what waited goes after what is new", rows=self.outbox.waiting)
        return self.backlog

    def _lost(self) -> Mode:
        lasted_s = 0.0 if self._next == self.offline else self._monotonic() - self._back_at
        self._pause_s = self._retry.after(lasted_s)
        self.ungiven.away()
        return self.offline

    def _connected(self) -> Bus:
        if self._bus is None:
            bus = self._open_bus()
            self._see(bus.identity)
            self._bus = bus
        return self._bus

    def _let_go_of_bus(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _see(self, identity: str) -> None:
        """Begin anew if this is another bus than before: what was sent lies on that one (R22, R23)."""
        if identity != self.outbox.bus:
            self._begin_on(identity)

    def _begin_on(self, identity: str) -> None:
        if self.outbox.begun:
            log.warning(
                "the bus is another one than before, or went back: what the outbox holds is sent again",
                pending=self.pending,
            )
        self._haves = Haves()
        self._have_offset = 0
        self._leave(self.outbox.begin_on(identity))

    def _send_fresh(self, bus: Bus) -> None:
        for _ in range(_SLICE):
            batch = self.outbox.fresh()
            self._send(bus, batch)
            if not batch.rows:
                return
        self._pause_s = 0.0

    def _send(self, bus: Bus, batch: Batch, *, replayed: bool = False) -> None:
        """Send a batch and the heartbeats that are due in one append."""
        out = [self._record(row, replayed=replayed) for row in batch.rows]
        out += self._heartbeats.due(self.complete, self._clock.now(), in_company=bool(out))
        out += self.statuses.due(self.mode, self._monotonic())
        if out:
            reached("forward.before")
            self.watch.asked()
            began_us = tracing.begun()
            try:
                bus.append(out)
            except BaseException:
                self._heartbeats.forget()
                self.statuses.forget()
                raise
            reached("forward.after")
            traced.forwarded(batch.rows, out, bus.identity, began_us, replayed=replayed)
        self.watch.answered()
        chores = self.outbox.given(batch)
        for row in batch.rows:
            self._unconfirmed.given(row.epoch, row.shard, row.seq)
        self.sent_rows += len(batch.rows)
        if replayed:
            self.replayed_rows += len(batch.rows)
        if batch.rows or replayed:
            self._leave(chores)
            reached("forward.marked")

    def _record(self, row: Row, *, replayed: bool) -> Record:
        """Make a record of a row. That it is replayed stands beside the body, which never changes (R22)."""
        try:
            body = zlib.decompress(row.body)
        except zlib.error as error:  # the next start makes it again from the journal, if it can
            raise journal.Damaged(f"outbox row {row.n} cannot be read: {error}") from error
        name = records.identity_text(self._agent, int.from_bytes(row.epoch, "little"), row.shard, row.seq)
        more = {"replayed": "true"} if replayed else self._made.header(row.tick)
        more[trace.HEADER] = trace.traceparent(name)
        source = f"headwater-edge/{self._agent}"
        headers = records.headers(row.kind, name, source, self._clock.now().wall_us, **more)
        return Record(IN.name, row.shard, self._agent, headers, body)

    def _look(self, bus: Bus) -> None:
        """Take up what the cloud has, let rows go for it, and send again what it was given and has not (R22)."""
        self._look_at = self._monotonic() + _LOOK_S
        partition = agent_partition(self._agent, HAVE.partitions)
        if self._have_offset > bus.ends(HAVE.name).get(partition, 0):
            self._begin_on(bus.identity)
        while stored := bus.read(HAVE.name, {partition: self._have_offset}, 500):
            reached("have.read")
            self._have_offset = stored[-1].offset + 1
            for record in stored:
                ours = record.key.partition("/")[0] == self._agent  # the key goes on: epoch and shard
                if ours and self._haves.read(record):
                    self.outbox.doubt()
        chores = self.outbox.let_go(self._haves, self.keep_from_tick)
        if chores:
            reached("have.before")
            self._leave(chores)
            reached("have.after")
        oldest = self.outbox.unconfirmed
        lost = self._unconfirmed.look(
            None if oldest is None else (oldest.n, oldest.shard),
            max(self.outbox.sent.values()),
            self._haves,
            self._monotonic(),
        )
        if lost is not None:
            log.warning("the cloud has passed over rows that the bus had taken: they go again", rows=lost)
            self._leave(self.outbox.send_again(*lost))
        self._orders.look(bus, self.outbox.bus, self._monotonic())
