"""The start: the newest good snapshot, the journal after it through the same step, the outbox compared (R12, R15)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from headwater_edge import journal, snapshot
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import epoch_bytes
from headwater_edge.tick import Tick
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
    stopped: str = ""
    """Why the journal could not be run to its end; empty if it was."""


Run = Callable[[sqlite3.Connection, State, Tick], list[str]]
"""Runs one journal row again, and returns what differs from the outbox."""


class BrokenJournal(journal.Damaged):
    """The journal cannot be run from any good snapshot to its end: the file is to be set aside (R15)."""


def resume(
    connection: sqlite3.Connection, settings: StepSettings, run: Run | None = None, seal: Seal = NO_KEY
) -> Resumed:
    """Bring the state back to the last commit.

    Args:
        settings: for a new file; an old one replays under those in its journal.
        run: how a journal row is run again, if not by `replay`.
        seal: of the models in a snapshot; those that it has not signed are learnt anew (R21).

    Raises:
        BrokenJournal: the journal cannot be read from any good snapshot on.
    """
    resumed = reach(connection, settings, run, seal=seal)
    if resumed.stopped:
        raise BrokenJournal(resumed.stopped)
    return resumed


def reach(
    connection: sqlite3.Connection,
    settings: StepSettings,
    run: Run | None = None,
    can: Callable[[Callable[[], object]], bool] | None = None,
    *,
    oldest: bool = False,
    seal: Seal = NO_KEY,
) -> Resumed:
    """Bring the state back as far as the journal goes on from the newest good snapshot; `stopped` says why no farther.

    Args:
        oldest: from the oldest good snapshot instead, or from nothing, if the journal has its beginning.
        can: whether something can be done, asked before a snapshot is restored.
    """
    reached("restart.opened")
    state = State(settings)
    good: list[int] = []
    for tick in snapshot.ticks(connection):
        try:
            picture = snapshot.read(connection, tick, seal)
            if can is not None and not can(partial(snapshot.restore, picture)):
                raise ValueError(f"snapshot of tick {tick}: it cannot be restored")
        except ValueError as error:
            log.error("a snapshot cannot be read; an older one is taken", tick=tick, error=str(error))
            connection.execute(
                "DELETE FROM snapshot WHERE tick = ?", (tick,)
            )  # or it would outlive a good one
            continue
        good.append(tick)
        if len(good) == 1 or oldest:
            state = snapshot.restore(picture)
    # What a crash left of one that was being written; it has no head.
    connection.execute("DELETE FROM snapshot WHERE tick NOT IN (SELECT tick FROM snapshot WHERE section = 0)")
    reached("restart.snapshot")
    first = connection.execute("SELECT coalesce(min(tick), 0) FROM journal").fetchone()[0]
    if oldest and first == 1:
        state = State(settings)
    differences: list[str] = []
    replayed = size = 0
    stopped = ""
    query = "SELECT tick, body FROM journal WHERE tick > ? ORDER BY tick"
    # Closed whatever comes: a connection with an open cursor goes on when it is closed, and tidies up the file at some later time.
    with closing(connection.execute(query, (state.tick,))) as rows:
        for tick, body in rows:
            if tick != state.tick + 1:
                stopped = f"the journal lacks ticks {state.tick + 1} to {tick - 1}"
                break
            reached("restart.row")
            try:
                differences += (run or replay)(connection, state, journal.decode(body))
            except journal.Damaged as error:
                stopped = f"tick {tick}: {error}"
                break
            replayed += 1
            size += len(body)
    reached("restart.replayed")
    for difference in differences[:10]:
        log.error("a replay differs from the outbox; the stored row rules", row=difference)
    return Resumed(state, good[:2], replayed, first, size, differences, stopped)


def replay(connection: sqlite3.Connection, state: State, tick: Tick) -> list[str]:
    """Run one journal row again, and compare what it puts out with the outbox; return what differs."""
    output = step(state, tick)
    differences = []
    made = commit_of(tick, output, []).outbox
    _number_as_stored(connection, state, {(row.shard, row.seq) for row in made if row.epoch == state.epoch})
    for row in made:
        found = connection.execute(
            "SELECT hash FROM outbox WHERE tick = ? AND epoch = ? AND shard = ? AND seq = ?",
            (output.tick, epoch_bytes(row.epoch), row.shard, row.seq),
        ).fetchone()
        if found is not None and found[0][: len(row.hash)] != row.hash:  # coalesced since: more follows
            differences.append(f"tick {output.tick}, shard {row.shard}, seq {row.seq}: {row.kind}")
    return differences


def _number_as_stored(connection: sqlite3.Connection, state: State, made: set[tuple[int, int]]) -> None:
    """Go on numbering after the rows that are stored of this tick, though the replay made others: those rule (R6, R12).

    A detector that cannot be had any more, or learns anew, finds less than it did; without this the next epoch would say that this
    one ended before it did, and the cloud side that the file went back.

    Args:
        made: (shard, seq) of the rows of this epoch that the replay made; those that are stored are all still there.
    """
    stored = set(
        connection.execute(
            "SELECT shard, seq FROM outbox WHERE tick = ? AND epoch = ?",
            (state.tick, epoch_bytes(state.epoch)),
        )
    )
    if stored == made or not stored:
        return
    for shard in {shard for shard, _ in stored ^ made}:
        kept = [seq for of, seq in stored if of == shard]
        state.seq[shard] = max(kept) if kept else min(seq for of, seq in made if of == shard) - 1
