"""The start: the newest good snapshot, the journal after it through the same step, the outbox compared (R12, R15)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from headwater_edge import journal, snapshot
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import epoch_bytes
from headwater_shared.crash import reached
from headwater_shared.logs import get_logger

log = get_logger()


@dataclass(slots=True)
class Resumed:
    """Where the file left off."""

    state: State
    snapshots: list[int]
    """Ticks of the good snapshots, newest first, at most two."""
    replayed: int
    """Ticks that were run again."""
    journal_first: int
    """The oldest journal row there is; 0 if none."""
    journal_bytes: int
    """Of the rows after the newest good snapshot."""
    differences: list[str]
    """Rows of the outbox that the replay would have made otherwise; the stored ones rule."""


def resume(connection: sqlite3.Connection, settings: StepSettings) -> Resumed:
    """Bring the state back to the last commit.

    Args:
        settings: for a new file; an old one replays under those in its journal.

    Raises:
        ValueError: the journal cannot be read from any good snapshot on.
    """
    reached("restart.opened")
    state = State(settings)
    good: list[int] = []
    for tick in snapshot.ticks(connection):
        try:
            picture = snapshot.read(connection, tick)
        except ValueError as error:
            log.error("a snapshot cannot be read; an older one is taken", tick=tick, error=str(error))
            connection.execute(
                "DELETE FROM snapshot WHERE tick = ?", (tick,)
            )  # or it would outlive a good one
            continue
        good.append(tick)
        if len(good) == 1:
            state = snapshot.restore(picture)
    # What a crash left of one that was being written; it has no head.
    connection.execute("DELETE FROM snapshot WHERE tick NOT IN (SELECT tick FROM snapshot WHERE section = 0)")
    reached("restart.snapshot")
    differences: list[str] = []
    replayed = size = 0
    rows = connection.execute("SELECT tick, body FROM journal WHERE tick > ? ORDER BY tick", (state.tick,))
    for tick, body in rows:
        if tick != state.tick + 1:
            raise ValueError(f"the journal lacks ticks {state.tick + 1} to {tick - 1}")
        reached("restart.row")
        differences += replay(connection, state, body)
        replayed += 1
        size += len(body)
    reached("restart.replayed")
    for difference in differences[:10]:
        log.error("a replay differs from the outbox; the stored row rules", row=difference)
    first = connection.execute("SELECT coalesce(min(tick), 0) FROM journal").fetchone()[0]
    return Resumed(state, good[:2], replayed, first, size, differences)


def replay(connection: sqlite3.Connection, state: State, body: bytes) -> list[str]:
    """Run one journal row again, and compare what it puts out with the outbox; return what differs."""
    tick = journal.decode(body)
    output = step(state, tick)
    differences = []
    for row in commit_of(tick, output, []).outbox:
        found = connection.execute(
            "SELECT hash FROM outbox WHERE tick = ? AND epoch = ? AND shard = ? AND seq = ?",
            (output.tick, epoch_bytes(row.epoch), row.shard, row.seq),
        ).fetchone()
        if found is not None and found[0] != row.hash:
            differences.append(f"tick {output.tick}, shard {row.shard}, seq {row.seq}: {row.kind}")
    return differences
