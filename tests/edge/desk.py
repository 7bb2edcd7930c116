"""The agent's file without its threads and sockets: ticks, look-ups, commits and restarts in line, on a real SQLite file."""

from __future__ import annotations

from pathlib import Path

from headwater_edge import snapshot
from headwater_edge.arrivals import excluding
from headwater_edge.commit import Job
from headwater_edge.events import Event, Start
from headwater_edge.horizon import Horizon
from headwater_edge.idempotency import refused_messages
from headwater_edge.keeping import Keeping
from headwater_edge.output import Output
from headwater_edge.restart import resume
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.step import step
from headwater_edge.store import Chores, open_store, write
from headwater_edge.tick import Tick
from headwater_shared.clock import SetClock
from tests.edge.feed import Feed, Message


class Desk:
    """What the pipeline does with a tick, one thing after the other. Snapshots are left out: every tick counts as one."""

    def __init__(self, folder: Path, settings: StepSettings) -> None:
        self.path = folder / "edge.db"
        self.settings = settings
        self.clock = SetClock()
        self.feed = Feed()
        self.epoch = 0
        self.chores_run = 0
        self._open()

    def _open(self) -> None:
        self.connection, self._lock = open_store(self.path)
        self.connection.execute("PRAGMA synchronous=OFF")  # the tests of power cuts are others
        resumed = resume(self.connection, self.settings)
        self.state = resumed.state
        self.keeping = Keeping(self.connection, resumed, 0)
        self.horizon = Horizon(self.path)
        self.tick(events=(Start(self._next_epoch(), "test"),))

    def _next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def tick(self, *messages: Message, events: tuple[Event, ...] = ()) -> Output:
        """Take one tick all the way to its commit."""
        tick = self.feed.tick(self.clock.now(), messages, *events)
        doubt = self.horizon.doubtful(tick, self.state)
        if doubt is not None:
            tick.known, tick.beyond = self.horizon.judge(doubt)
        output = step(self.state, tick)
        tick.arrival = excluding(tick.arrival, refused_messages(tick, output.verdicts))
        self.commit(tick, output, Chores())
        return output

    def commit(self, tick: Tick, output: Output, chores: Chores) -> None:
        write(self.connection, commit_of(tick, output, []), chores)
        self.horizon.committed(output.tick, tick.arrival)
        self.keeping.committed(Job(tick, output, []))

    def chores(self) -> None:
        """Let go of what neither a snapshot nor the horizon needs, a few rows at a time."""
        self.keeping.snapshots = [self.state.tick, self.state.tick]
        chores = self.keeping.old_journal(self.horizon, self.state.age_us, self.state.settings.horizon_us)
        if chores:
            write(self.connection, None, chores)
            self.chores_run += 1

    def restart(self) -> None:
        """End as a kill would after a snapshot, and start again."""
        taken = snapshot.take(self.state)
        head, *pieces = snapshot.encode(taken)
        rows = [(taken.tick, 0, head), *((taken.tick, n, piece) for n, piece in enumerate(pieces, 1))]
        self.connection.executemany("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", rows)
        self.close()
        self._open()

    def close(self) -> None:
        self.horizon.close()
        self.connection.close()
        self._lock.release()

    def journal_from(self) -> int:
        """Return the oldest tick in the journal."""
        found = self.connection.execute("SELECT coalesce(min(tick), 0) FROM journal").fetchone()
        return int(found[0])
